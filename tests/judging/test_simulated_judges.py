"""What the simulated annotators see of a user's own prompts, of which no truth is known."""

import random
from pathlib import Path

import numpy as np
import pytest
import yaml

from stages.annotators.client import AnnotatorSettings, Pair, compare
from stages.annotators.grades import Grader
from stages.annotators.truth import Truth
from stages.base.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
FIRST = [f"tree{k}" for k in range(20)]
SECOND = [f"noise{k}" for k in range(12)]


def own_prompts(count: int, answered: bool = True) -> list[dict]:
    """INSTRUCTION rows of prompts that no atlas asks, with a reference answer of four to nine words."""
    draw = random.Random(0)
    return [
        {
            "id": str(k), "prompt": f"Which trees stand in garden {k}?", "entity": "", "attributes": [],
            "response": " ".join(draw.sample(FIRST, draw.randint(4, 9))).capitalize() + "." if answered else " ",
        }
        for k in range(count)
    ]  # fmt: skip


def pool() -> AnnotatorSettings:
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    return AnnotatorSettings(**params["judging"]["judge"]["annotator"])


def test_longer_nonsense_does_not_beat_a_right_answer_by_its_length() -> None:
    rows, draw = own_prompts(400), random.Random(1)
    pairs = [
        Pair(row["id"], row["prompt"], row["response"], " ".join(draw.choices(SECOND, k=draw.randint(20, 40))))
        for row in rows
    ]
    found = compare(pairs, pool(), seed=1, grader=Grader.of(rows, Truth({}, {})))
    assert np.mean([one.preference > 1.5 for one in found]) < 0.35  # and not 60 %, as by length alone


def test_a_prompt_without_truth_or_reference_is_refused_by_name() -> None:
    rows = own_prompts(3, answered=False)
    pairs = [Pair(row["id"], row["prompt"], "short", "a longer answer") for row in rows]
    with pytest.raises(InputError, match=r"garden 0.*neither its truth nor a reference.*provider: openai"):
        compare(pairs, pool(), seed=1, grader=Grader.of(rows, Truth({}, {})))
