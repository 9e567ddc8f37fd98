"""Preference data: two answers to one instruction, of the SFT model or a weaker one, and which of them annotators like
better.

Nobody is asked where no source of preferences takes what is annotated.
"""

import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from stages.alignment.answering.answers import Sampling, answer, exact
from stages.alignment.answering.kept_answers import kept_answers
from stages.alignment.data.inputs import read_model
from stages.alignment.data.records import Instruction, Preference, of_split, read_instructions, read_truth, table_of
from stages.alignment.data.votes import VOTE, by_preference, showable, table_of_votes
from stages.alignment.preferences import ANNOTATED, PreferenceSource
from stages.annotators.client import AnnotatorSettings, Pair
from stages.annotators.grades import Grader
from stages.annotators.panel import VoteSettings, check_seats, vote
from stages.annotators.sides import Sides
from stages.annotators.truth import Truth
from stages.annotators.votes import Tally, Vote, one_sided, tally
from stages.annotators.votes import measure as agreement
from stages.base import schemas
from stages.base.errors import DataLossError
from stages.base.params import Section
from stages.base.record import StageRun, stage
from stages.base.seeds import derive

Fits = Callable[[Instruction, str], bool]


class Answerer(Section):
    """Who gives further answers of each prompt."""

    model: Literal["sft", "base"]
    """base: the model that SFT began with (`alignment.base`)."""
    samples: Annotated[int, Field(ge=1)]
    """Answers of each prompt."""
    temperature: Annotated[float, Field(ge=0)]
    """0 is greedy, 1 the model's own distribution."""


class AnnotateParams(Sampling):
    samples: Annotated[int, Field(ge=1)]
    """Answers of each prompt by the SFT model."""
    also: list[Answerer]
    """Further answers, to be compared with those: of a weaker model, or at another temperature."""
    pairs: Annotated[int, Field(ge=1)] | Literal["all"]
    """Comparisons of each prompt, at most those of every two of its different answers: all."""
    max_drop: Annotated[float, Field(ge=0, le=1)]
    """Largest share of all combinations of answers that may be left out."""
    votes: VoteSettings
    annotator: AnnotatorSettings

    @field_validator("also")
    @classmethod
    def _two_answers(cls, also: list[Answerer], info: ValidationInfo) -> list[Answerer]:
        if info.data.get("samples", 2) + sum(other.samples for other in also) < 2:
            raise ValueError("a comparison needs two answers: set `samples` to 2 or more")
        return also

    @field_validator("annotator")
    @classmethod
    def _enough_annotators(cls, annotator: AnnotatorSettings, info: ValidationInfo) -> AnnotatorSettings:
        if "votes" in info.data:
            check_seats(annotator, info.data["votes"])
        return annotator


SOURCES = "alignment.preferences.sources"
PARAMS = {"alignment.annotate": AnnotateParams, SOURCES: dict[str, PreferenceSource], "alignment.base": str}


@dataclass(frozen=True)
class Candidate:
    """A pair of answers to the instruction at `row` of its table; `answers`: which two of its answers."""

    row: int
    answers: tuple[int, int]
    pair: Pair


def pair_up(
    rows: Sequence[Instruction],
    texts: Sequence[Sequence[str]],
    pairs: int | Literal["all"],
    seed: int,
    fits: Fits = lambda row, text: True,
) -> tuple[list[Candidate], Counter[str]]:
    """Up to `pairs` pairs of each row's answers, taken in seeded order, and why the other combinations are left out:
    `identical` answers, but for white space at their ends, one that says nothing (`empty`), a pair of texts already
    taken (`repeated`), one that with its end is longer than the model's context (`too_long`: not `fits(row, text)`), or
    more than asked for (`surplus`)."""
    chosen: list[Candidate] = []
    drops: Counter[str] = Counter()
    for index, (row, answers) in enumerate(zip(rows, texts, strict=True)):
        combinations = list(itertools.combinations(range(len(answers)), 2))
        order = np.random.default_rng(derive(seed, "pairs", row.id)).permutation(len(combinations))
        fitting = {text: fits(row, text) for text in answers}
        taken: set[frozenset[str]] = set()
        for a, b in (combinations[place] for place in order):
            both = frozenset((answers[a].strip(), answers[b].strip()))
            if len(both) == 1:
                drops["identical"] += 1
            elif not all(both):
                drops["empty"] += 1
            elif not (fitting[answers[a]] and fitting[answers[b]]):
                drops["too_long"] += 1
            elif both in taken:
                drops["repeated"] += 1
            elif len(taken) == pairs:
                drops["surplus"] += 1
            else:
                taken.add(both)
                chosen.append(Candidate(index, (a, b), Pair(f"{row.id}-{a}-{b}", row.prompt, answers[a], answers[b])))
    return chosen, drops


def label(
    rows: Sequence[Instruction], candidates: Sequence[Candidate], tallies: Sequence[Tally], truth: Truth
) -> tuple[list[Preference], Counter[str]]:
    """The preferences, and why a pair isn't one (`Tally.reason`)."""
    out: list[Preference] = []
    drops: Counter[str] = Counter()
    for candidate, counted in zip(candidates, tallies, strict=True):
        if counted.reason:
            drops[counted.reason] += 1
            continue
        row = rows[candidate.row]
        texts = by_preference(candidate.pair, counted)
        chosen, rejected = (found.score if found else None for found in exact(truth, [row, row], texts))
        out.append(
            Preference(
                row.id, row.prompt, *texts, counted.preference, chosen, rejected, counted.annotators, row.messages
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


def better_by_truth(rows: Sequence[Instruction], candidates: Sequence[Candidate], truth: Truth) -> np.ndarray:
    """Which answer of each pair has the higher exact score, 1 or 2; NaN where they are equal, or nothing is known."""
    found = []
    for candidate in candidates:
        row, pair = rows[candidate.row], candidate.pair
        first, second = exact(truth, [row, row], [pair.output_a, pair.output_b])
        gap = second.score - first.score if first and second else 0
        found.append(1.5 + 0.5 * np.sign(gap) if gap else np.nan)
    return np.array(found)


def check_votes(votes: Sequence[Vote], params: AnnotateParams, left_out: Mapping[str, Sides]) -> dict[str, int]:
    """The commonest reasons why votes are missing. Raises DataLossError where more are than `max_missing` allows.

    One line names each annotator that is left out.
    """
    errors = Counter(vote.error for vote in votes if vote.error)
    missing = sum(vote.preference != vote.preference for vote in votes)
    annotator, bound = params.annotator, params.votes.max_missing
    if missing > bound * len(votes):
        told = "; ".join(f"{error[:120]} ({count})" for error, count in errors.most_common(3))
        asked, remedy = "the simulated annotators", "raise the bound"
        if annotator.provider == "openai":
            asked = f"{annotator.model} at `alignment.annotate.annotator.base_url`, {annotator.server}"
            remedy = "see that a model answers there that can judge, or raise the bound"
        raise DataLossError(
            f"{missing} of {len(votes)} votes are no answers, more than `alignment.annotate.votes.max_missing`, "
            f"{bound:.1%}, allows: {told}; asked was {asked}: {remedy}"
        )
    for name, sides in left_out.items():
        print(
            f"annotate: {name} names the answer shown first in {sides.share:.0%} of {sides.n} comparisons, whatever "
            "stands there: its votes are left out",
            file=sys.stderr,
        )
    return dict(sorted(errors.most_common(10)))


def sample(run: StageRun[AnnotateParams], rows: Sequence[Instruction]) -> tuple[list[list[str]], list[Answerer], Fits]:
    """The texts of all answers of each row, who gives each of them, and whether a text has room in the SFT model."""
    params = run.params
    model, tokenizer = read_model(run, "sft")
    asked = [row.asked for row in rows]
    kept, label = kept_answers(run), "sampling answers"
    answers = answer(model, tokenizer, asked, params, seed=run.seed, samples=params.samples, label=label, keep=kept)
    texts = [[given.text for given in group] for group in answers]
    givers = [Answerer(model="sft", samples=params.samples, temperature=params.temperature)] * params.samples
    for number, other in enumerate(params.also):
        weaker = (model, tokenizer) if other.model == "sft" else read_model(run, run.section("alignment.base", str))
        drawn = Sampling(temperature=other.temperature, top_p=params.top_p, max_new_tokens=params.max_new_tokens)
        seed, label = derive(run.seed, "also", number), f"answers of {other.model}"
        more = answer(*weaker, asked, drawn, seed=seed, samples=other.samples, label=label, keep=kept)
        for group, further in zip(texts, more, strict=True):
            group.extend(given.text for given in further)
        givers += [other] * other.samples

    def fits(row: Instruction, text: str) -> bool:
        return len(tokenizer.encode_example(row.asked, text)[0]) <= model.config.max_seq_len

    return texts, givers, fits


def answerers(
    rows: Sequence[Instruction],
    texts: Sequence[Sequence[str]],
    givers: Sequence[Answerer],
    candidates: Sequence[Candidate],
    tallies: Sequence[Tally],
    truth: Truth,
) -> list[dict[str, Any]]:
    """Of each that answered: how good its answers are where truth is known, and the share of its comparisons won."""
    found = []
    for giver in dict.fromkeys(givers):
        own = {place for place, other in enumerate(givers) if other == giver}
        scores = [
            one.score
            for row, group in zip(rows, texts, strict=True)
            for one in exact(truth, [row] * len(own), [group[place] for place in sorted(own)])
            if one is not None
        ]
        won = [
            float((counted.preference < 1.5) == (candidate.answers[0] in own))
            for candidate, counted in zip(candidates, tallies, strict=True)
            if not counted.reason and len(own & set(candidate.answers)) == 1
        ]
        won_of = {"compared_with_others": len(won), "won": _mean(won)}
        found.append({**giver.model_dump(), "exact_score": _mean(scores), **won_of})
    return found


def annotate(run: StageRun[AnnotateParams]) -> tuple[list[Preference], list[Pair], list[Vote], dict[str, Any]]:
    """Preferences on all prompts of the preference split, the votes behind them, and how far these agree; what else is
    found out about them goes into the record. Of the pairs the most disputed come first."""
    params = run.params
    instructions = read_instructions(run)
    rows = of_split(instructions, "preference")
    truth = read_truth(run)
    texts, givers, fits = sample(run, rows)
    candidates, drops = pair_up(rows, texts, params.pairs, run.seed, fits)
    pairs = [candidate.pair for candidate in candidates]
    grader = Grader.of(map(vars, instructions), truth)
    seed = derive(run.seed, "annotators")
    votes = vote(pairs, params.annotator, params.votes, seed=seed, grader=grader)
    left_out = one_sided(votes)
    run.note("errors", check_votes(votes, params, left_out))
    run.note("one_sided", {name: {"first": sides.first, "n": sides.n} for name, sides in left_out.items()})
    tallies = tally(votes, len(pairs), left_out)
    preferences, unlabelled = label(rows, candidates, tallies, truth)
    combinations = len(rows) * len(givers) * (len(givers) - 1) // 2
    run.rows(combinations, len(preferences), dict(drops + unlabelled), params.max_drop)
    run.note("simulated", params.annotator.provider == "simulated")
    run.note("graded_by", grader.signals(row.prompt for row in rows))
    run.note("answerers", answerers(rows, texts, givers, candidates, tallies, truth))
    counted = [one for one in votes if one.annotator not in left_out]
    numbers = agreement(counted, [pair.prompt for pair in pairs], better_by_truth(rows, candidates, truth))
    return preferences, pairs, votes, {**numbers, "one_sided": len(left_out)}


def to_vote_on(pairs: Sequence[Pair], votes: Sequence[Vote]) -> list[dict[str, str]]:
    """The pairs as the annotation page reads them: first those without a vote, then those whose votes are closest.

    Those are left out on which votes couldn't be read back (`showable`).
    """
    means = [counted.preference if counted.reason != "tie" else 1.5 for counted in tally(votes, len(pairs))]
    order = sorted(range(len(pairs)), key=lambda place: np.nan_to_num(abs(means[place] - 1.5), nan=-1.0))
    return [vars(pairs[place]) for place in order if showable(pairs[place])]


def main() -> None:
    with stage("alignment.annotate", AnnotateParams, seed="run.seed") as run:
        sources = run.section(SOURCES, dict[str, PreferenceSource])
        run.section("alignment.base", str)
        asked_for = any(Path(source.root.path) == Path(ANNOTATED) for source in sources.values())
        preferences, pairs, votes, numbers = annotate(run) if asked_for else ([], [], [], agreement([], []))
        run.write_table("preferences.parquet", table_of(preferences, schemas.PREFERENCE), schemas.PREFERENCE)
        run.write_table("votes.parquet", table_of_votes(pairs, votes), VOTE)
        shown = to_vote_on(pairs, votes)
        run.write_jsonl("pairs.jsonl", shown)
        prompts, unshown = len({row.prompt for row in preferences}), {"unshowable": len(pairs) - len(shown)}
        run.write_json("metrics.json", {"prompts": prompts, **measure(preferences), **numbers, **unshown})


if __name__ == "__main__":
    main()
