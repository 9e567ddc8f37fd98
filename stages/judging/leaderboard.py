"""The leaderboard: every model of `judging.models`, and no other, with intervals, on the test split.

Validation numbers stand beside them, because the choice among tuned models is made there.
"""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

from stages.annotators.client import AnnotatorSettings
from stages.base import schemas
from stages.base.errors import InputError, ParamError
from stages.base.files import sha256_file
from stages.base.params import Section
from stages.base.record import stage
from stages.judging.baseline import BaselineParams
from stages.judging.judge import JudgeParams
from stages.judging.models import CONTROL_KINDS, Models, ModelSpec
from stages.judging.scores import Judged, difference, gamed_rows, numbers, ratings, strength_columns
from stages.judging.statistics.correlation import correlations
from stages.judging.statistics.plain_counts import counts

Row = dict[str, Any]
SPLITS = ("validation", "test")
CORRELATED = ("win_rate", "lc_win_rate", "bradley_terry", "right", "mean_length")
FEWEST, ONE_SIDED = 20, 40.0  # verdicts; points from 50 beyond which a judge doesn't read the answers


class LeaderboardParams(Section):
    subject: str  # the model whose exact score is compared with each of `against`
    against: list[str]
    choose_by: Literal["right", "lc_win_rate", "win_rate", "mean_score"]  # on validation, among the tuned models


PARAMS = {"judging.leaderboard": LeaderboardParams}


def judge_facts(settings: AnnotatorSettings, judged: Mapping[str, Mapping[str, Judged]]) -> Row:
    """How the judge is named wherever its numbers appear, and the versions of it that answered."""
    if settings.provider == "simulated":
        pool = settings.pool
        return {
            "simulated": True,
            "provider": "simulated",
            "model": "simulated-pool",
            "label": f"{pool.annotators} simulated annotators (length bias {pool.length_bias:g}, "
            f"label noise {pool.label_noise:g}, noise {pool.noise:g})",
            "versions": {},
        }
    rows = [row for models in judged.values() for one in models.values() for row in one.annotations]
    versions = Counter(row["annotator"] for row in rows if row["annotator"] not in ("", "identical"))
    return {
        "simulated": False,
        "provider": settings.provider,
        "model": settings.model,
        "label": settings.model,
        "versions": dict(sorted(versions.items())),
    }


def judge_notes(rows: list[Row], annotations: list[Row], judge: Row) -> list[str]:
    """What a reader must know of the verdicts before believing a rate made of them."""
    notes = []
    if len(judge["versions"]) > 1:
        told = ", ".join(f"{name} ({count})" for name, count in judge["versions"].items())
        notes.append(f"The judge changed while it judged: its replies name {told}.")
    lost = Counter(row["model"] for row in annotations if math.isnan(row["preference"]))
    if lost:
        told = ", ".join(f"{model} {count}" for model, count in sorted(lost.items()))
        notes.append(f"Comparisons without a preference are left out; their rows say why: {told}.")
    sided = [row for row in rows if row["n_total"] >= FEWEST and abs(row["prefers_first"] - 50) > ONE_SIDED]
    if sided:
        told = ", ".join(f"{row['model']} {row['prefers_first']:.0f} %" for row in sided)
        notes.append(f"The judge goes by the place: the answer shown first wins against {told}.")
    said = [row for row in annotations if row["annotator"] not in ("", "identical") and not row["error"]]
    read = sum(not row["weighted"] for row in said)
    if 0 < read < len(said):
        notes.append(f"{read} of {len(said)} verdicts are 1 or 2 off the judge's text, the others log-probabilities.")
    return notes


def choose(rows: list[Row], untuned: list[str], by: str) -> str | None:
    """The tuned model that is best on validation; ties go to the first by name. None if there is none.

    Tuned is what answers (no control) and isn't named in `untuned`. Without a number on validation none is chosen.
    """
    tuned = [row for row in rows if not row["control"] and row["model"] not in untuned]
    tuned = [row for row in tuned if not math.isnan(row["validation"][by])]
    best = min(tuned, key=lambda row: (-row["validation"][by], row["model"]), default=None)
    return best["model"] if best else None


def standings(
    specs: Mapping[str, ModelSpec], judged: dict[str, dict[str, Judged]], baseline: str, params: LeaderboardParams
) -> Row:
    """Rows sorted by length-controlled win rate on test, the comparisons and the choice.

    specs: model → spec; judged: split → model → its rows.
    """
    baseline_outputs = f"data/judging/respond/{baseline}/outputs.parquet"
    gaming = sorted(m for m, spec in specs.items() if spec.kind == "padded" and spec.source == baseline_outputs)
    per_split, notes = {}, []
    for split in SPLITS:
        gamed = gamed_rows({model: judged[split][model] for model in gaming})
        per_split[split] = {
            model: numbers(judged[split][model], gamed) | counts(judged[split][model].annotations)
            for model in sorted(specs)
        }
    if gamed is None:
        notes.append("No `padded` control of the baseline: rates of very short or long models are uncertain.")
    for split in SPLITS:
        fitted = ratings(judged[split], baseline)
        for model, row in per_split[split].items():
            row |= strength_columns(fitted, model)
        if fitted and fitted.regularised:
            notes.append(f"Bradley–Terry on {split}: a model won or lost everything, so a tie per pair was added.")
    rows = [
        {
            "model": model,
            "kind": spec.kind,
            "control": spec.kind in CONTROL_KINDS,
            "baseline": model == baseline,
            **per_split["test"][model],
            "validation": per_split["validation"][model],
        }
        for model, spec in specs.items()
    ]
    rows.sort(key=lambda row: (-row["lc_win_rate"], row["model"]))
    chosen = choose(rows, params.against, params.choose_by)
    for rank, row in enumerate(rows, 1):
        row["rank"], row["chosen"] = rank, row["model"] == chosen
    compared = [(params.subject, other) for other in params.against]
    if chosen and chosen != params.subject:
        compared.append((chosen, params.subject))
    return {
        "baseline": baseline,
        "chosen": {"model": chosen, "split": "validation", "by": params.choose_by} if chosen else None,
        "rows": rows,
        "comparisons": [difference(judged["test"], *pair) | {"split": "test"} for pair in compared],
        "correlations": correlations(rows, CORRELATED),
        "notes": notes,
    }


def main() -> None:
    with stage("judging.leaderboard", LeaderboardParams) as run:
        specs = run.section("judging.models", Models).specs
        baseline = run.section("judging.baseline", BaselineParams).model
        settings = run.section("judging.judge", JudgeParams).annotator
        for name in [baseline, run.params.subject, *run.params.against]:
            if name not in specs:
                raise ParamError(
                    f"params.yaml: `{name}` is compared with, but isn't in `judging.models`; add it or drop it"
                )
        judged: dict[str, dict[str, Judged]] = {split: {} for split in SPLITS}
        for model in specs:
            folder = f"data/judging/judge/{model}"
            annotations = run.read_table(f"{folder}/annotations.parquet", schemas.ANNOTATION).to_pylist()
            exact = run.read_table(f"{folder}/exact.parquet", schemas.EXACT).to_pylist()
            for split in SPLITS:
                judged[split][model] = Judged(
                    *([r for r in rows if r["split"] == split] for rows in (annotations, exact))
                )
                if not judged[split][model].annotations:
                    raise InputError(
                        f"{folder}/annotations.parquet: no {split} rows; the leaderboard needs both splits"
                    )
        judge = judge_facts(settings, judged)
        result = standings(specs, judged, baseline, run.params) | {"judge": judge}
        annotations = [row for models in judged.values() for one in models.values() for row in one.annotations]
        result["notes"] += judge_notes(result["rows"], annotations, judge)
        for row in result["rows"]:  # what the row's numbers were computed from; `trainyard trace` goes on from there
            row["lineage"] = sha256_file(f"data/judging/judge/{row['model']}/annotations.parquet")[:16]
        run.write_json("leaderboard.json", result)


if __name__ == "__main__":
    main()
