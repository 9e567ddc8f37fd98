"""A seeded encyclopaedia of an invented world: every fact is known, every planted fault is counted."""
