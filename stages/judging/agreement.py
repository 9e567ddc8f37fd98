"""How far the judge's annotators agree with each other and with the truth: AlpacaEval's evaluators table, for the pool.

A sample of comparisons is judged by every simulated annotator. With a real server the same comparisons would be bought
once per annotator, so there the stage measures the one judge against the truth.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from stages.annotators.client import Pair, compare, shows_b_first
from stages.annotators.grades import EXACT, Grader
from stages.annotators.truth import Truth
from stages.base import schemas
from stages.base.artifacts import BASELINE, RESPONSES, read_instructions, read_truth
from stages.base.contracts.agreement import Agreement, Annotator, Pool
from stages.base.errors import InputError
from stages.base.params import Section
from stages.base.record import stage
from stages.base.seeds import derive
from stages.judging.judge import JudgeParams, judge_seed, paired_outputs
from stages.judging.statistics.sides import side_preference

Row = dict[str, Any]
MEANS = ("agreement", "truth_agreement", "prefers_longer", "prefers_first")


class AgreementParams(Section):
    pairs: Annotated[int, Field(ge=2)]
    """Comparisons that every annotator judges."""
    min_length_gap: Annotated[int, Field(ge=0)]
    """Characters; closer pairs say nothing about a preference for length."""


PARAMS: dict[str, Any] = {"judging.agreement": AgreementParams}


@dataclass(frozen=True)
class Sample:
    """Comparisons with what is known about them beside the votes. Arrays of length n_pairs."""

    pairs: list[Pair]
    truth: np.ndarray  # 2 where output_b has the higher exact score, 1 where output_a has, NaN where equal or unknown
    longer: np.ndarray  # 2 where output_b is longer, 1 where output_a is, NaN where too close
    first: np.ndarray  # 2 where output_b was shown first, else 1


def discrete(preferences: np.ndarray) -> np.ndarray:
    """1 or 2; exact draws and missing votes are NaN."""
    return np.where(preferences > 1.5, 2.0, np.where(preferences < 1.5, 1.0, np.nan))


def matches(votes: np.ndarray, target: np.ndarray) -> float:
    """Percent of votes equal to the target where both are known; NaN if none is."""
    known = ~np.isnan(votes) & ~np.isnan(target)
    return 100 * float((votes == target)[known].mean()) if known.any() else math.nan


def majority(votes: np.ndarray) -> np.ndarray:
    """Vote of the majority of annotators (columns) on each pair; NaN for a tie."""
    return discrete(1.5 + 0.5 * np.sign(np.nansum(votes - 1.5, axis=1)))


def annotator_table(names: list[str], votes: np.ndarray, sample: Sample) -> list[Annotator]:
    """One row an annotator; votes [n_pairs, n_annotators] are 1, 2 or NaN."""
    return [
        Annotator(
            annotator=name,
            agreement=matches(votes[:, k], majority(np.delete(votes, k, axis=1))) if len(names) > 1 else None,
            truth_agreement=matches(votes[:, k], sample.truth),
            prefers_longer=matches(votes[:, k], sample.longer),
            prefers_first=matches(votes[:, k], sample.first),
            one_sided=side_preference(votes[:, k], sample.first == 2).one_sided,
            n=int((~np.isnan(votes[:, k])).sum()),
        )
        for k, name in enumerate(names)
    ]


def pool_summary(rows: list[Annotator], votes: np.ndarray, sample: Sample) -> Pool:
    """The annotators as one judge. More of them mend its variance, not its bias."""
    means: dict[str, float | None] = {}
    for name in MEANS:
        known = [value for row in rows if (value := getattr(row, name)) is not None]
        means[name] = sum(known) / len(known) if known else None
    agreement = means["agreement"]
    return Pool(
        **means,
        bias=100 - matches(majority(votes), sample.truth),
        variance=None if agreement is None else 100 - agreement,
    )


def draw_sample(pairs: list[Row], count: int, seed: int) -> list[Row]:
    """At most `count` of the pairs, without replacement, in their own order."""
    chosen = np.random.default_rng(seed).permutation(len(pairs))[:count]
    return [pairs[i] for i in sorted(chosen.tolist())]


def describe(drawn: list[Row], grader: Grader, min_length_gap: int, seed: int) -> Sample:
    pairs = [Pair(row["id"], row["prompt"], row["a"], row["b"]) for row in drawn]
    better, longer = [], []
    for pair in pairs:
        scores = [
            grader(pair.prompt, text) if grader.knows(pair.prompt) else 0 for text in (pair.output_a, pair.output_b)
        ]
        better.append(1.5 + 0.5 * np.sign(scores[1] - scores[0]))
        gap = len(pair.output_b) - len(pair.output_a)
        longer.append(1.5 + 0.5 * np.sign(gap) if abs(gap) > min_length_gap else math.nan)
    first = np.array([2.0 if shows_b_first(seed, pair.id) else 1.0 for pair in pairs])
    return Sample(pairs, discrete(np.array(better)), discrete(np.array(longer)), first)


def main() -> None:
    with stage("judging.agreement", AgreementParams) as run:
        judge = run.section("judging.judge", JudgeParams).annotator
        seed = judge_seed(run.root_seed("run.seed"))
        grader = Grader.of(read_instructions(run), Truth.from_json(read_truth(run)))
        baseline = run.read_table(BASELINE, schemas.OUTPUT).to_pylist()
        candidates = []
        for model in sorted(run.items(RESPONSES)):
            outputs = run.read_table(f"{RESPONSES}/{model}/outputs.parquet", schemas.OUTPUT).to_pylist()
            candidates += [
                {"id": f"{model}/{ours['id']}", "prompt": ours["prompt"], "a": theirs["output"], "b": ours["output"]}
                for ours, theirs in paired_outputs(outputs, baseline)
                if ours["split"] == "validation" and ours["output"] != theirs["output"]
            ]
        drawn = draw_sample(candidates, run.params.pairs, derive(seed, "agreement"))
        if not drawn:
            raise InputError("no model's validation answers differ from the baseline's: there is nothing to annotate")
        sample = describe(drawn, grader, run.params.min_length_gap, seed)
        simulated = judge.provider == "simulated"
        members: list[int | None] = list(range(judge.pool.annotators)) if simulated else [None]
        columns = [compare(sample.pairs, judge, seed=seed, grader=grader, annotator=member) for member in members]
        votes = discrete(np.array([[p.preference for p in column] for column in columns]).T)
        names = [f"simulated-{member}" for member in members] if simulated else [judge.model]
        rows = annotator_table(names, votes, sample)
        signal = grader.signals(pair.prompt for pair in sample.pairs)
        notes = [f"The simulated annotators went by {signal}."] if simulated and signal != EXACT else []
        notes += [
            f"{row.annotator} says the same side in nearly every comparison, whatever stands there"
            for row in rows
            if row.one_sided
        ]
        run.write_contract(
            "agreement.json",
            Agreement(
                simulated=simulated,
                label="simulated annotators: not people, not a language model" if simulated else judge.model,
                n_pairs=len(drawn),
                n_annotators=len(names),
                min_length_gap=run.params.min_length_gap,
                rows=rows,
                pool=pool_summary(rows, votes, sample),
                notes=notes,
            ),
        )


if __name__ == "__main__":
    main()
