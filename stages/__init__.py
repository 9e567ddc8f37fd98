"""Trainyard's stages. Numba's cache is set up here, before anything imports numba."""

import hashlib
import os
from pathlib import Path


def _kernel_cache() -> Path:
    """A folder for compiled kernels that changes with any file of kernels.

    Numba looks only at the file that defines a kernel: one that calls another file's kernel would stay as it was.
    """
    root = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        source = path.read_bytes()
        if b"njit" in source:
            digest.update(source)
    return root / "__pycache__" / f"numba-{digest.hexdigest()[:16]}"


if os.access(Path(__file__).parent, os.W_OK):
    os.environ.setdefault("NUMBA_CACHE_DIR", str(_kernel_cache()))
