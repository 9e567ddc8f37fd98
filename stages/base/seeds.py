"""Seeds: every random choice of a stage descends from sha256(root seed, names)."""

import hashlib


def derive(seed: int, *parts: str | int) -> int:
    """A 63-bit seed that depends on the root seed and on every part, and on nothing else."""
    text = "\x1f".join([str(seed), *map(str, parts)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
