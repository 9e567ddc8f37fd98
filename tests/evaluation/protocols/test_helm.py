"""Against HELM's own records of MMLU: 9 subjects, 2 models."""

from pathlib import Path

import pytest

from bench.evaluation.helm import Result, check, development
from stages.evaluation.protocols.helm import HELM
from stages.evaluation.protocols.protocol import Setting
from stages.evaluation.scoring.requests import Generated
from stages.evaluation.tasks.item import Item

ITEM = Item("i", "towns", "old_towns", "test", "Where?", "", ("Anthar", "Bel", "Anthar", "Dun"), 2)


@pytest.fixture(scope="module")
def results(reference: Path) -> list[Result]:
    home = reference / "posttraining"
    examples = development(home / "mmlu" / "mmlu_dev_test.tar.gz")
    return [check(file, examples) for file in sorted((home / "helm_mmlu").glob("*/*.json.gz"))]


def test_prompts_are_helms_bytes(results: list[Result]) -> None:
    assert len(results) == 18
    for one in results:
        assert one.questions >= 100 and one.identical == one.questions, one.first_difference


def test_stored_outputs_score_as_published(results: list[Result]) -> None:
    found = {(one.model, one.subject): one for one in results}
    econometrics = found["meta_llama-3-70b", "econometrics"]
    assert econometrics.accuracy == 79 / 114  # .693
    assert econometrics.unread == 0


@pytest.mark.parametrize(
    "said, choice, right, flags",
    [
        (" C", 2, 1.0, ("repeated_options",)),
        ("A", 0, 1.0, ("repeated_options",)),  # reads as the right option does
        ("\nB", 1, 0.0, ("repeated_options",)),
        (" c", -1, 0.0, ("no_answer", "repeated_options")),
        (" The", -1, 0.0, ("no_answer", "repeated_options")),
        ("", -1, 0.0, ("no_answer", "repeated_options")),
        (" E", -1, 0.0, ("no_answer", "repeated_options")),
    ],
)
def test_one_token_must_be_the_letter(said, choice, right, flags) -> None:
    answer = HELM.read(ITEM, Setting(), Generated(said, 1, False))
    assert (answer.choice, answer.scores, answer.flags) == (choice, {"acc": right}, flags)
