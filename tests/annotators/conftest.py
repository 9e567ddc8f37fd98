from pathlib import Path

import pytest

from stages.annotators.client import Pair
from stages.annotators.truth import Question, Truth

COLOURS = ["red", "dark red", "blue", "green"]
RIVERS = ["Ondra", "Tessel", "Mir"]


@pytest.fixture(scope="session")
def truth() -> Truth:
    facts = {f"Place{i}": {"colour": COLOURS[i % 4], "river": RIVERS[i % 3]} for i in range(200)}
    return Truth({"colour": COLOURS, "river": RIVERS}, facts)


@pytest.fixture(scope="session")
def questions() -> dict[str, Question]:
    return {f"What colour is Place{i}?": Question(f"Place{i}", ("colour",)) for i in range(200)}


@pytest.fixture(scope="session")
def pairs() -> list[Pair]:
    """output_b is right, output_a wrong, both equally long."""
    return [
        Pair(f"q{i}", f"What colour is Place{i}?", f"It is {COLOURS[(i + 1) % 4]:<9}.", f"It is {COLOURS[i % 4]:<9}.")
        for i in range(200)
    ]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A work folder outside any git repository, so that a test never touches the shared cache of calls."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    return tmp_path
