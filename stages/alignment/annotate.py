"""Preference data: two answers of the SFT model to one instruction, and which of them an annotator likes better.

Nobody is asked where no source of preferences takes what is annotated.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated

import numpy as np
from pydantic import Field

from stages.alignment.answers import Sampling, answer, exact
from stages.alignment.inputs import read_model
from stages.alignment.preferences import ANNOTATED, PreferenceSource
from stages.alignment.records import Instruction, Preference, of_split, read_instructions, read_truth, table_of
from stages.annotators.client import AnnotatorSettings, Pair, compare
from stages.annotators.client import Preference as Verdict
from stages.annotators.grades import Grader
from stages.annotators.truth import Truth
from stages.base import schemas
from stages.base.record import StageRun, stage
from stages.base.seeds import derive


class AnnotateParams(Sampling):
    samples: Annotated[int, Field(ge=2)]
    """Answers of each prompt."""
    pairs: Annotated[int, Field(ge=1)]
    """Comparisons of each prompt, at most samples * (samples - 1) / 2."""
    max_drop: Annotated[float, Field(ge=0, le=1)]
    """Largest share of all combinations of samples that may be left out."""
    annotator: AnnotatorSettings


SOURCES = "alignment.preferences.sources"
PARAMS = {"alignment.annotate": AnnotateParams, SOURCES: dict[str, PreferenceSource]}


@dataclass(frozen=True)
class Candidate:
    """A pair of answers to the instruction at `row` of its table."""

    row: int
    pair: Pair


def pair_up(
    rows: Sequence[Instruction],
    texts: Sequence[Sequence[str]],
    pairs: int,
    seed: int,
    fits: Callable[[Instruction, str], bool] = lambda row, text: True,
) -> tuple[list[Candidate], Counter[str]]:
    """Up to `pairs` pairs of each row's answers, taken in seeded order, and why the other combinations are left out:
    `identical` answers, a pair of texts already taken (`repeated`), one that with its end is longer than the model's
    context (`too_long`: not `fits(row, text)`), or more than asked for (`surplus`)."""
    chosen: list[Candidate] = []
    drops: Counter[str] = Counter()
    for index, (row, answers) in enumerate(zip(rows, texts, strict=True)):
        combinations = list(itertools.combinations(range(len(answers)), 2))
        order = np.random.default_rng(derive(seed, "pairs", row.id)).permutation(len(combinations))
        fitting = {text: fits(row, text) for text in answers}
        taken: set[frozenset[str]] = set()
        for a, b in (combinations[place] for place in order):
            both = frozenset((answers[a], answers[b]))
            if len(both) == 1:
                drops["identical"] += 1
            elif not all(fitting[text] for text in both):
                drops["too_long"] += 1
            elif both in taken:
                drops["repeated"] += 1
            elif len(taken) == pairs:
                drops["surplus"] += 1
            else:
                taken.add(both)
                chosen.append(Candidate(index, Pair(f"{row.id}-{a}-{b}", row.prompt, answers[a], answers[b])))
    return chosen, drops


def label(
    rows: Sequence[Instruction], candidates: Sequence[Candidate], verdicts: Sequence[Verdict], truth: Truth
) -> tuple[list[Preference], Counter[str]]:
    """The preferences, and why a pair isn't one: a `tie`, or `no_preference` (a failed or unparsable call)."""
    out: list[Preference] = []
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
        chosen, rejected = (found.score if found else None for found in exact(truth, [row, row], texts))
        out.append(
            Preference(
                row.id, row.prompt, *texts, verdict.preference, chosen, rejected, verdict.annotator, row.messages
            )
        )
    return out, drops


def measure(preferences: Sequence[Preference]) -> dict[str, float | None]:
    """How the labels stand to what is known; None where nothing is.

    `score_agreement`: share that chose the higher exact score, of the pairs that differ in it. `chose_longer`: share
    that chose the longer answer, of the pairs that differ in length.
    """
    scores = [
        (row.chosen_score, row.rejected_score)
        for row in preferences
        if row.chosen_score is not None and row.rejected_score is not None and row.chosen_score != row.rejected_score
    ]
    lengths = [(len(row.chosen), len(row.rejected)) for row in preferences]
    return {
        "pairs": len(preferences),
        "pairs_that_differ_in_score": len(scores),
        "score_agreement": _mean(chosen > rejected for chosen, rejected in scores),
        "chose_longer": _mean(chosen > rejected for chosen, rejected in lengths if chosen != rejected),
        "chosen_characters": _mean(chosen for chosen, _ in lengths),
        "rejected_characters": _mean(rejected for _, rejected in lengths),
    }


def _mean(values: Iterable[float]) -> float | None:
    listed = list(values)
    return fmean(listed) if listed else None


def annotate(run: StageRun[AnnotateParams]) -> list[Preference]:
    """Preferences of all prompts of the preference split; what is found out about them goes into the record."""
    params = run.params
    instructions = read_instructions(run)
    rows = of_split(instructions, "preference")
    model, tokenizer = read_model(run, "sft")
    truth = read_truth(run)
    prompts = [row.prompt for row in rows]
    asked = [row.asked for row in rows]
    answers = answer(model, tokenizer, asked, params, seed=run.seed, samples=params.samples, label="sampling answers")

    def fits(row: Instruction, text: str) -> bool:
        return len(tokenizer.encode_example(row.asked, text)[0]) <= model.config.max_seq_len

    texts = [[given.text for given in group] for group in answers]
    candidates, drops = pair_up(rows, texts, params.pairs, run.seed, fits)
    grader = Grader.of(map(vars, instructions), truth)
    seed = derive(run.seed, "annotators")
    verdicts = compare([candidate.pair for candidate in candidates], params.annotator, seed=seed, grader=grader)
    preferences, unlabelled = label(rows, candidates, verdicts, truth)
    combinations = len(rows) * params.samples * (params.samples - 1) // 2
    run.rows(combinations, len(preferences), dict(drops + unlabelled), params.max_drop)
    errors = Counter(verdict.error for verdict in verdicts if verdict.error)
    run.note("errors", dict(sorted(errors.most_common(10))))
    run.note("simulated", params.annotator.provider == "simulated")
    run.note("graded_by", grader.signals(prompts))
    return preferences


def main() -> None:
    with stage("alignment.annotate", AnnotateParams, seed="run.seed") as run:
        sources = run.section(SOURCES, dict[str, PreferenceSource])
        asked_for = any(Path(source.root.path) == Path(ANNOTATED) for source in sources.values())
        preferences = annotate(run) if asked_for else []
        run.write_table("preferences.parquet", table_of(preferences, schemas.PREFERENCE), schemas.PREFERENCE)
        prompts = len({row.prompt for row in preferences})
        run.write_json("metrics.json", {"prompts": prompts, **measure(preferences)})


if __name__ == "__main__":
    main()
