import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault("TRAINYARD_TRACK", "off")


@pytest.fixture(scope="session")
def reference() -> Path:
    """Folder of reference data (real runs, annotations, pages); tests that need it skip where it is absent."""
    folder = Path(os.environ.get("TRAINYARD_REFERENCE", ROOT.parent / "shared" / "reference"))
    if not folder.is_dir():
        pytest.skip("reference data not found: set TRAINYARD_REFERENCE to its folder")
    return folder


@pytest.fixture(autouse=True)
def no_remembered_tokenizer() -> Iterator[None]:
    """`load_tokenizer` remembers by the path as given; tests use one relative path in many folders."""
    from stages.lm.chat import _load

    _load.cache_clear()
    yield
    _load.cache_clear()
