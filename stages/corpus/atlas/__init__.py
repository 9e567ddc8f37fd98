"""A seeded encyclopaedia of an invented world: every fact is known, every planted fault is counted."""

from stages.corpus.atlas.params import PARAMS

__all__ = ["PARAMS"]
