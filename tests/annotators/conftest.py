import pytest

from stages.annotators.client import Pair
from stages.annotators.grades import Grader
from stages.annotators.truth import Question, Truth
from tests.annotators.served import own_cache, start  # noqa: F401

COLOURS = ["red", "dark red", "blue", "green"]
RIVERS = ["Ondra", "Tessel", "Mir"]


@pytest.fixture(scope="session")
def truth() -> Truth:
    facts = {f"Place{i}": {"colour": COLOURS[i % 4], "river": RIVERS[i % 3]} for i in range(200)}
    return Truth({"colour": COLOURS, "river": RIVERS}, facts)


@pytest.fixture(scope="session")
def grader(truth: Truth) -> Grader:
    prompts = {f"What colour is Place{i}?": Question(f"Place{i}", ("colour",)) for i in range(200)}
    return Grader(truth, prompts, dict.fromkeys(prompts, ""))


@pytest.fixture(scope="session")
def pairs() -> list[Pair]:
    """output_b is right, output_a wrong, both equally long."""
    return [
        Pair(f"q{i}", f"What colour is Place{i}?", f"It is {COLOURS[(i + 1) % 4]:<9}.", f"It is {COLOURS[i % 4]:<9}.")
        for i in range(200)
    ]
