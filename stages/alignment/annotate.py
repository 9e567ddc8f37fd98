"""Preference data: two answers of the SFT model to one instruction, and which of them an annotator likes better."""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from stages.alignment.answers import answer, exact_scores
from stages.alignment.inputs import SFT, read_instructions, read_model, read_tokenizer, read_truth
from stages.annotators.client import AnnotatorSettings, Pair, Preference, compare
from stages.annotators.grades import Grader
from stages.annotators.truth import Truth
from stages.base import schemas
from stages.base.errors import InputError
from stages.base.params import Section
from stages.base.record import stage
from stages.base.seeds import derive


class AnnotateParams(Section):
    samples: Annotated[int, Field(ge=2)]  # answers of each prompt
    pairs: Annotated[int, Field(ge=1)]  # comparisons of each prompt, at most samples * (samples - 1) / 2
    temperature: Annotated[float, Field(gt=0)]
    top_p: Annotated[float, Field(gt=0, le=1)]
    max_new_tokens: Annotated[int, Field(ge=1)]
    max_drop: Annotated[float, Field(ge=0, le=1)]
    annotator: AnnotatorSettings


PARAMS = {"alignment.annotate": AnnotateParams}


@dataclass(frozen=True)
class Candidate:
    """A pair of answers to the instruction at `row` of its table."""

    row: int
    pair: Pair


def pair_up(
    rows: Sequence[dict[str, Any]], texts: Sequence[Sequence[str]], pairs: int, seed: int
) -> tuple[list[Candidate], Counter[str]]:
    """Up to `pairs` pairs of each row's answers, taken in seeded order, and why the other combinations are left out:
    `identical` answers, a pair of texts already taken (`repeated`), or more than asked for (`surplus`)."""
    chosen: list[Candidate] = []
    drops: Counter[str] = Counter()
    for index, (row, answers) in enumerate(zip(rows, texts, strict=True)):
        combinations = list(itertools.combinations(range(len(answers)), 2))
        order = np.random.default_rng(derive(seed, "pairs", row["id"])).permutation(len(combinations))
        taken: set[frozenset[str]] = set()
        for a, b in (combinations[place] for place in order):
            both = frozenset((answers[a], answers[b]))
            if len(both) == 1:
                drops["identical"] += 1
            elif both in taken:
                drops["repeated"] += 1
            elif len(taken) == pairs:
                drops["surplus"] += 1
            else:
                taken.add(both)
                chosen.append(Candidate(index, Pair(f"{row['id']}-{a}-{b}", row["prompt"], answers[a], answers[b])))
    return chosen, drops


def label(
    rows: Sequence[dict[str, Any]], candidates: Sequence[Candidate], verdicts: Sequence[Preference], truth: Truth
) -> tuple[pa.Table, Counter[str]]:
    """The PREFERENCE table, and why a pair isn't in it: a `tie`, or `no_preference` (a failed or unparsable call)."""
    out: list[dict[str, Any]] = []
    drops: Counter[str] = Counter()
    for candidate, verdict in zip(candidates, verdicts, strict=True):
        if verdict.preference != verdict.preference:
            drops["no_preference"] += 1
            continue
        if verdict.preference == 1.5:
            drops["tie"] += 1
            continue
        row, pair = rows[candidate.row], candidate.pair
        texts = (pair.output_a, pair.output_b) if verdict.preference < 1.5 else (pair.output_b, pair.output_a)
        chosen_score, rejected_score = exact_scores(truth, [row, row], texts)
        out.append(
            {
                "id": row["id"],
                "prompt": row["prompt"],
                "chosen": texts[0],
                "rejected": texts[1],
                "preference": verdict.preference,
                "chosen_score": chosen_score,
                "rejected_score": rejected_score,
                "annotator": verdict.annotator,
            }
        )
    return pa.Table.from_pylist(out, schema=schemas.PREFERENCE), drops


def measure(preferences: pa.Table) -> dict[str, float]:
    """How the labels stand to what is known.

    `score_agreement`: share that chose the higher exact score, of the pairs that differ in it. `chose_longer`: share
    that chose the longer answer, of the pairs that differ in length.
    """
    rows = preferences.to_pylist()
    scored = [row for row in rows if row["chosen_score"] is not None and row["chosen_score"] != row["rejected_score"]]
    uneven = [row for row in rows if len(row["chosen"]) != len(row["rejected"])]
    return {
        "pairs": len(rows),
        "pairs_that_differ_in_score": len(scored),
        "score_agreement": _share(row["chosen_score"] > row["rejected_score"] for row in scored),
        "chose_longer": _share(len(row["chosen"]) > len(row["rejected"]) for row in uneven),
        "chosen_characters": _share(len(row["chosen"]) for row in rows),
        "rejected_characters": _share(len(row["rejected"]) for row in rows),
    }


def _share(values: Any) -> float:
    listed = list(values)
    return fmean(listed) if listed else float("nan")


def main() -> None:
    with stage("alignment.annotate", AnnotateParams, seed="run.seed") as run:
        params = run.params
        instructions = read_instructions(run)
        rows = [row for row in instructions if row["split"] == "preference"]
        if not rows:
            raise InputError("instructions.parquet: no row of the preference split, so nothing to annotate")
        tokenizer = read_tokenizer(run)
        model = read_model(run, SFT)
        truth = read_truth(run)
        answers = answer(
            model,
            tokenizer,
            [row["prompt"] for row in rows],
            max_new_tokens=params.max_new_tokens,
            temperature=params.temperature,
            top_p=params.top_p,
            seed=run.seed,
            samples=params.samples,
            label="sampling answers",
        )
        texts = [[given.text for given in group] for group in answers]
        candidates, drops = pair_up(rows, texts, params.pairs, run.seed)
        verdicts = compare(
            [candidate.pair for candidate in candidates],
            params.annotator,
            seed=derive(run.seed, "annotators"),
            grader=Grader.of(instructions, truth),
        )
        preferences, unlabelled = label(rows, candidates, verdicts, truth)
        combinations = len(rows) * params.samples * (params.samples - 1) // 2
        run.rows(combinations, preferences.num_rows, dict(drops + unlabelled), params.max_drop)
        run.write_table("preferences.parquet", preferences, schemas.PREFERENCE)
        errors = Counter(verdict.error for verdict in verdicts if verdict.error)
        run.note("errors", dict(sorted(errors.most_common(10))))
        run.note("simulated", params.annotator.provider == "simulated")
        run.write_json("metrics.json", {"prompts": len(rows), **measure(preferences)})


if __name__ == "__main__":
    main()
