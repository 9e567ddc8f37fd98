"""How far the judge's annotators agree with each other and with the truth: AlpacaEval's evaluators table, for the pool.

A sample of comparisons is judged by every simulated annotator; on a real server by the judge, and by the other models
that `models` names.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from stages.annotators.agreement import (
    cohen_kappas,
    krippendorff_alpha,
    majority,
    matches,
    mean_kappa,
    nominal,
    variance,
)
from stages.annotators.client import Pair, Preference, compare, shows_b_first
from stages.annotators.grades import EXACT, Grader
from stages.annotators.panel import annotators
from stages.annotators.sides import side_preference
from stages.annotators.truth import Truth
from stages.base import schemas
from stages.base.artifacts import BASELINE, RESPONSES, read_instructions, read_truth
from stages.base.contracts.agreement import Agreement, Annotator, Pool
from stages.base.errors import InputError
from stages.base.params import Section
from stages.base.record import stage
from stages.base.seeds import derive
from stages.judging.judge import JudgeParams, judge_seed, paired_outputs

Row = dict[str, Any]
MEANS = ("agreement", "truth_agreement", "prefers_longer", "prefers_first")


class AgreementParams(Section):
    pairs: Annotated[int, Field(ge=2)]
    """Comparisons that every annotator judges."""
    min_length_gap: Annotated[int, Field(ge=0)]
    """Characters; closer pairs say nothing about a preference for length."""
    models: list[str]
    """Models of the judge's server that judge the sample too; the simulated pool has its own annotators."""


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
    votes = nominal(preferences)
    return np.where(votes == 1.5, np.nan, votes)


def percent(votes: np.ndarray, target: np.ndarray) -> float:
    """Of votes equal to the target where both are known; NaN if none is."""
    return 100 * matches(votes, target)


def weighted_mean(kappas: np.ndarray, shared: np.ndarray) -> float:
    """Of one annotator's κ with each other one, by the pairs that they share; NaN where there is none."""
    known = np.isfinite(kappas)
    return float(np.average(kappas[known], weights=shared[known])) if known.any() else math.nan


def annotator_table(names: list[str], votes: np.ndarray, sample: Sample) -> list[Annotator]:
    """One row an annotator; votes [n_pairs, n_annotators] are 1, 2 or NaN."""
    kappas, shared = cohen_kappas(votes)
    return [
        Annotator(
            annotator=name,
            agreement=percent(votes[:, k], majority(np.delete(votes, k, axis=1))) if len(names) > 1 else None,
            kappa=weighted_mean(kappas[k], shared[k]),
            truth_agreement=percent(votes[:, k], sample.truth),
            prefers_longer=percent(votes[:, k], sample.longer),
            prefers_first=percent(votes[:, k], sample.first),
            one_sided=side_preference(votes[:, k], sample.first == 2).one_sided,
            n=int((~np.isnan(votes[:, k])).sum()),
        )
        for k, name in enumerate(names)
    ]


def pool_summary(
    rows: list[Annotator], votes: np.ndarray, sample: Sample, usd_per_1000: float, seconds_per_1000: float
) -> Pool:
    """The annotators as one judge. More of them mend its variance, not its bias. The bootstrap of α draws prompts."""
    means: dict[str, float | None] = {}
    for name in MEANS:
        known = [value for row in rows if (value := getattr(row, name)) is not None]
        means[name] = sum(known) / len(known) if known else None
    alpha = krippendorff_alpha(votes, [pair.prompt for pair in sample.pairs])
    return Pool(
        **means,
        kappa=mean_kappa(votes),
        alpha=alpha.value,
        alpha_low=alpha.low,
        alpha_high=alpha.high,
        bias=100 - percent(majority(votes), sample.truth),
        variance=100 * variance(votes),
        usd_per_1000=usd_per_1000,
        seconds_per_1000=seconds_per_1000,
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


def cost_of_1000(said: list[Preference]) -> tuple[float, float]:
    """US dollars and seconds of 1,000 verdicts; NaN where none was given, or timed."""
    given = [one for one in said if not math.isnan(one.preference)]
    timed = [one.seconds for one in given if not math.isnan(one.seconds)]
    usd = 1000 * sum(one.usd for one in said) / len(given) if given else math.nan
    return usd, 1000 * sum(timed) / len(timed) if timed else math.nan


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
        names = annotators(judge, run.params.models)
        every = [(pair, name) for name in names for pair in sample.pairs]
        models = [name for _, name in every]
        said = compare([pair for pair, _ in every], judge, seed=seed, grader=grader, models=models)
        votes = discrete(np.array([verdict.preference for verdict in said]).reshape(len(names), -1).T)
        simulated = judge.provider == "simulated"
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
                label="simulated annotators: not people, not a language model" if simulated else " and ".join(names),
                n_pairs=len(drawn),
                n_annotators=len(names),
                min_length_gap=run.params.min_length_gap,
                rows=rows,
                pool=pool_summary(rows, votes, sample, *cost_of_1000(said)),
                notes=notes,
            ),
        )


if __name__ == "__main__":
    main()
