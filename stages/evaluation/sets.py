"""evaluation.sets: multiple-choice questions over the atlas, built upstream of the corpus that is cleaned of them."""

from typing import Annotated

import numpy as np
import pyarrow as pa
from pydantic import Field

from stages.base import schemas
from stages.base.errors import InputError
from stages.base.params import Section
from stages.base.record import stage
from stages.base.seeds import derive

SET = "atlas_facts"
SPLITS = {"development": "sft", "validation": "validation", "test": "test"}  # set split → split of the entities


class Limits(Section):
    development: Annotated[int, Field(ge=1)]
    validation: Annotated[int, Field(ge=1)]
    test: Annotated[int, Field(ge=1)]


class SetsParams(Section):
    choices: Annotated[int, Field(ge=2, le=26)]
    limits: Limits  # questions a split, at the most


PARAMS = {"evaluation.sets": SetsParams}


def multiple_choice(questions: list[dict], truth: dict, params: SetsParams, seed: int) -> list[dict]:
    """Rows of schema CHOICE: one a question about a single attribute, `limits` of them drawn a split.

    Distractors are other values of the same attribute, drawn without replacement, so that chance is 1 / choices and no
    choice can be ruled out by its kind. Raises InputError if an attribute has too few values.
    """
    rows = []
    for split, entities in SPLITS.items():
        singles = [q for q in questions if q["split"] == entities and q["kind"] == "single"]
        if not singles:
            raise InputError(f"evaluation.sets: no single question about entities of the `{entities}` split")
        singles.sort(key=lambda q: q["id"])
        order = np.random.default_rng(derive(seed, split)).permutation(len(singles))
        chosen = [singles[int(i)] for i in order[: getattr(params.limits, split)]]
        rows += [_row(question, split, truth, params.choices, seed) for question in chosen]
    return rows


def _row(question: dict, split: str, truth: dict, count: int, seed: int) -> dict:
    (attribute,) = question["attributes"]
    right = truth["entities"][question["entity"]]["facts"][attribute]
    others = [value for value in truth["attributes"][attribute] if value != right]
    if len(others) < count - 1:
        raise InputError(
            f"evaluation.sets: attribute `{attribute}` has {len(others) + 1} values, {count} choices need as many; "
            "raise corpus.atlas.values_per_attribute or lower evaluation.sets.choices"
        )
    rng = np.random.default_rng(derive(seed, "choices", question["id"]))
    choices = [others[int(i)] for i in rng.choice(len(others), size=count - 1, replace=False)]
    answer = int(rng.integers(0, count))
    choices.insert(answer, right)
    return {
        "id": question["id"],
        "set": SET,
        "subject": attribute,
        "split": split,
        "question": question["prompt"],
        "choices": choices,
        "answer": answer,
    }


def main() -> None:
    with stage("evaluation.sets", SetsParams, seed="corpus.seed") as run:
        questions = run.read_table("data/corpus/atlas/questions.parquet", schemas.QUESTION).to_pylist()
        truth = run.read_json("data/corpus/atlas/truth.json")
        rows = multiple_choice(questions, truth, run.params, run.seed)
        run.write_table("multiple_choice.parquet", pa.Table.from_pylist(rows, schema=schemas.CHOICE), schemas.CHOICE)


if __name__ == "__main__":
    main()
