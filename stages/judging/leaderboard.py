"""The leaderboard: every model and answerer that is judged, and no other, with intervals, on the test split.

Validation numbers stand beside them, because the choice among tuned models is made there.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Literal

from stages.annotators.client import AnnotatorSettings
from stages.annotators.grades import EXACT, signals
from stages.base import schemas
from stages.base.artifacts import JUDGED, MODELS, RESPONSES
from stages.base.contracts.leaderboard import AGAIN, COVERAGE, Choice, Judge, Leaderboard, Standing, TierMetric
from stages.base.contracts.leaderboard import Row as BoardRow
from stages.base.errors import InputError, ParamError
from stages.base.files import sha256_file
from stages.base.params import Section, nearest
from stages.base.record import StageRun, stage
from stages.judging.baseline import BaselineParams
from stages.judging.judge import JudgeParams
from stages.judging.models import CONTROL_KINDS, Answerer
from stages.judging.scores import (
    Judged,
    difference,
    gamed_rows,
    known_verdicts,
    numbers,
    points,
    ranked,
    ratings,
    ratings_note,
    strength_columns,
)
from stages.judging.statistics.correlation import correlations
from stages.judging.statistics.plain_counts import FEWEST, ONE_SIDED, length_note
from stages.judging.statistics.tiers import over_seeds, scored, tiers

Row = dict[str, Any]
SPLITS = ("validation", "test")
CORRELATED = ("win_rate", "lc_win_rate", "bradley_terry", "right", "mean_length")


class LeaderboardParams(Section):
    subject: str
    """The model that is compared with each of `against`."""
    against: list[str]
    """Models that are no candidates for the choice, controls among them."""
    choose_by: Literal["right", "lc_win_rate", "win_rate", "mean_score"]
    """On validation, among the tuned models; lc_win_rate where no truth is known."""
    reruns: str
    """Folder of the verdicts on other trainings of these models: <seed>/<model>.parquet, and <model>.exact.parquet."""


PARAMS: dict[str, Any] = {"judging.leaderboard": LeaderboardParams}


def entrant(key: str, answerers: Mapping[str, Any], imported: Mapping[str, Any]) -> Row:
    """Of a row: model, kind, source, control."""
    if key in answerers:
        kind, source = answerers[key].kind, answerers[key].path
    else:
        kind, source = "imported" if key in imported else "trained", f"{MODELS}/{key}"
    return {"model": key, "kind": kind, "source": source, "control": kind in CONTROL_KINDS}


def judge_facts(settings: AnnotatorSettings, judged: Mapping[str, Mapping[str, Judged]]) -> Judge:
    """How the judge is named wherever its numbers appear, and the versions of it that answered."""
    every = [one for models in judged.values() for one in models.values()]
    if settings.provider == "simulated":
        known = {row["id"] for one in every for row in one.exact}
        asked = {row["id"] for one in every for row in one.annotations}
        pool = settings.pool
        return Judge(
            simulated=True,
            provider="simulated",
            model="simulated-pool",
            label=f"{pool.annotators} simulated annotators (length bias {pool.length_bias:g}, "
            f"label noise {pool.label_noise:g}, noise {pool.noise:g})",
            signal=signals(Counter(identifier in known for identifier in asked)),
            versions={},
        )
    named = Counter(row["annotator"] for one in every for row in one.annotations)
    versions = {name: count for name, count in sorted(named.items()) if name not in ("", "identical")}
    return Judge(
        simulated=False,
        provider=settings.provider,
        model=settings.model,
        label=settings.model,
        signal="",
        versions=versions,
    )


def judge_notes(rows: Sequence[BoardRow], annotations: list[Row], judge: Judge) -> list[str]:
    """What a reader must know of the verdicts before believing a rate made of them."""
    notes = []
    if judge.signal not in ("", EXACT):
        notes.append(f"The simulated annotators went by {judge.signal}.")
    if len(judge.versions) > 1:
        told = ", ".join(f"{name} ({count})" for name, count in judge.versions.items())
        notes.append(f"The judge changed while it judged: its replies name {told}.")
    lost = Counter(row["model"] for row in annotations if math.isnan(row["preference"]))
    if lost:
        told = ", ".join(f"{model} {count}" for model, count in sorted(lost.items()))
        notes.append(f"Comparisons without a preference are left out; their rows say why: {told}.")
    leaning = {row.model: row.prefers_first for row in rows if row.n_total >= FEWEST and row.prefers_first is not None}
    sided = [f"{model} {share:.0f} %" for model, share in leaning.items() if abs(share - 50) > ONE_SIDED]
    if sided:
        told = ", ".join(sided)
        notes.append(f"The judge goes by the place: the answer shown first wins against {told}.")
    notes += length_note(annotations)
    said = [row for row in annotations if row["annotator"] not in ("", "identical") and not row["error"]]
    read = sum(not row["weighted"] for row in said)
    if read and read == len(said) and not judge.simulated:
        notes.append("All verdicts are 1 or 2 off the judge's text: no log-probabilities were asked for, or none came.")
    elif read:
        notes.append(f"{read} of {len(said)} verdicts are 1 or 2 off the judge's text, the others log-probabilities.")
    return notes


def choose(rows: Sequence[BoardRow], untuned: Sequence[str], by: str) -> Choice | None:
    """The tuned model that is best on validation; ties go to the first by name. None if there is none.

    Tuned is what answers (no control) and isn't named in `untuned`. Where none has the number, as no truth is known,
    the length-controlled win rate decides.
    """
    tuned = [row for row in rows if not row.control and row.model not in untuned]
    for metric in dict.fromkeys([by, "lc_win_rate"]):
        known = {row.model: number for row in tuned if (number := getattr(row.validation, metric)) is not None}
        if known:
            best = min(known, key=lambda model: (-known[model], model))
            return Choice(model=best, split="validation", by=metric)  # type: ignore[arg-type]
    return None


def placed(
    rows: Sequence[BoardRow], judged: Mapping[str, Judged], reruns: Mapping[str, Mapping[str, Judged]]
) -> tuple[list[BoardRow], TierMetric]:
    """The rows with their tiers and their intervals over seeds, and what these go by. reruns: model → seed → its rows.

    Raises InputError for a rerun that was asked other questions.
    """
    models = [row.model for row in rows if not row.control]
    every = [one for model in models for one in (judged[model], *reruns.get(model, {}).values())]
    exact = all(one.exact for one in every)
    metric: TierMetric = "right" if exact else "win_rate"
    found = {}
    for model in models:
        own = points(judged[model], exact)
        again = {seed: points(one, exact) for seed, one in reruns.get(model, {}).items()}
        for seed, values in again.items():
            if values.keys() != own.keys():
                raise InputError(
                    f"judging.leaderboard.reruns: seed {seed} of `{model}` was asked other questions than the "
                    "leaderboard's; export it from runs with the same corpus and judging params"
                )
        found[model] = scored(own, again)
    tier = tiers(found)
    update = {model: {"tier": tier[model], "reruns": over_seeds(found[model], metric)} for model in models}
    return [row.model_copy(update=update.get(row.model, {})) for row in rows], metric


def standings(
    entrants: Sequence[Row],
    judged: dict[str, dict[str, Judged]],
    baseline: str,
    judge: Judge,
    params: LeaderboardParams,
    reruns: Mapping[str, Mapping[str, Judged]] | None = None,
) -> Leaderboard:
    """Rows sorted by length-controlled win rate on test, the comparisons, the choice and what must be known of them.

    entrants: as `entrant` gives them, with their lineage; judged: split → model → its rows; reruns: model → seed → the
    test rows of another training.
    """
    answers = f"{RESPONSES}/{baseline}/outputs.parquet"
    gaming = sorted(one["model"] for one in entrants if one["kind"] == "padded" and one["source"] == answers)
    found: dict[str, dict[str, Standing]] = {}
    again = ", ".join(sorted(reruns or {}))
    notes = [AGAIN.format(models=again) if again else COVERAGE]
    for split in SPLITS:
        gamed = gamed_rows({model: judged[split][model] for model in gaming})
        fitted = ratings(judged[split], baseline)
        found[split] = {}
        for model, one in judged[split].items():
            truth = known_verdicts(one, judged[split][baseline])
            row, why = numbers(one, itself=model == baseline, gamed=gamed, truth=truth)
            found[split][model] = Standing(**row, **strength_columns(fitted, model))
            if why:
                notes.append(f"`{model}` has no length-controlled rate on {split}: {why}.")
        notes += ratings_note(fitted, f" on {split}")
    if gamed is None:
        notes.append("No `padded` control of the baseline: rates of very short or long models are uncertain.")
    rows = [
        BoardRow(
            **one,
            **found["test"][one["model"]].model_dump(),
            baseline=one["model"] == baseline,
            chosen=False,
            rank=None,
            validation=found["validation"][one["model"]],
        )
        for one in entrants
    ]
    chosen = choose(rows, params.against, params.choose_by)
    if chosen and chosen.by != params.choose_by:
        notes.append(
            f"`{chosen.model}` was chosen by {chosen.by}, as no truth is known and `{params.choose_by}` has none."
        )
    best = chosen.model if chosen else None
    rows = ranked([row.model_copy(update={"chosen": row.model == best}) for row in rows])
    rows, metric = placed(rows, judged["test"], reruns or {})
    compared = [(params.subject, other) for other in params.against]
    if best and best != params.subject:
        compared.append((best, params.subject))
    tuned = [row.model for row in rows if not row.control and row.model not in params.against]
    compared += [pair for pair in combinations(tuned, 2) if pair not in compared and pair[::-1] not in compared]
    every = [row for models in judged.values() for one in models.values() for row in one.annotations]
    return Leaderboard(
        baseline=baseline,
        judge=judge,
        chosen=chosen,
        tier_metric=metric,
        rows=rows,
        comparisons=[difference(judged["test"], *pair, "test") for pair in compared],
        correlations=correlations([row.model_dump() for row in rows], CORRELATED),
        notes=notes + judge_notes(rows, every, judge),
    )


def read_reruns(run: StageRun[LeaderboardParams], keys: list[str]) -> dict[str, dict[str, Judged]]:
    """Model → seed → its rows of the test split. Raises InputError for a file that isn't a judged model's."""
    folder = run.input(run.params.reruns)
    found: dict[str, dict[str, Judged]] = {}
    for path in sorted(folder.glob("*/*.parquet")):
        model, _, kind = path.stem.partition(".")
        if model not in keys or kind not in ("", "exact"):
            raise InputError(f"{path}: no model `{model}` is judged{nearest(model, keys)}; it must be <seed>/<model>")
        if kind:
            continue
        exact = path.with_name(f"{model}.exact.parquet")
        tables = [run.read_table(path, schemas.ANNOTATION)]
        tables += [run.read_table(exact, schemas.EXACT)] if exact.exists() else []
        rows = [[row for row in table.to_pylist() if row["split"] == "test"] for table in tables]
        if not rows[0]:
            raise InputError(f"{path}: no test rows; export it again")
        found.setdefault(model, {})[path.parent.name] = Judged(rows[0], rows[1] if len(rows) > 1 else [])
    return found


def judged_board(run: StageRun[LeaderboardParams]) -> Leaderboard:
    """The whole board from what a run reads; `trainyard verify` computes it anew by this."""
    answerers = run.section("judging.answerers", dict[str, Answerer])
    imported = run.section("models.import", dict[str, Any])
    baseline = run.section("judging.baseline", BaselineParams).model
    settings = run.section("judging.judge", JudgeParams).annotator
    keys = run.items(JUDGED)
    for name in [baseline, run.params.subject, *run.params.against]:
        if name not in keys:
            raise ParamError(f"params.yaml: `{name}` is compared with, but isn't judged; add it or drop it")
    entrants: list[Row] = []
    judged: dict[str, dict[str, Judged]] = {split: {} for split in SPLITS}
    for key in keys:
        path = f"{JUDGED}/{key}/annotations.parquet"
        annotations = run.read_table(path, schemas.ANNOTATION).to_pylist()
        exact = run.read_table(f"{JUDGED}/{key}/exact.parquet", schemas.EXACT).to_pylist()
        for split in SPLITS:
            judged[split][key] = Judged(*([r for r in rows if r["split"] == split] for rows in (annotations, exact)))
            if not judged[split][key].annotations:
                raise InputError(f"{path}: no {split} rows; the leaderboard needs both splits")
        # What the row's numbers were computed from; `trainyard trace` goes on from there.
        entrants.append(entrant(key, answerers, imported) | {"lineage": sha256_file(path)[:16]})
    judge = judge_facts(settings, judged)
    return standings(entrants, judged, baseline, judge, run.params, read_reruns(run, keys))


def main() -> None:
    with stage("judging.leaderboard", LeaderboardParams) as run:
        run.write_contract("leaderboard.json", judged_board(run))


if __name__ == "__main__":
    main()
