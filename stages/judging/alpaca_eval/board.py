"""AlpacaEval annotation files as a leaderboard.

Their models have answered an instruction set of their own, of which no truth is known: there is no exact score and no
split to choose on. That is why this is a command beside the pipeline and no kind of `judging.answerers`.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.base.contracts.leaderboard import COVERAGE, Judge, Leaderboard
from stages.base.contracts.leaderboard import Row as BoardRow
from stages.base.errors import InputError
from stages.base.stats import mean_interval
from stages.judging.alpaca_eval.files import Annotation, baselines, read_annotations
from stages.judging.scores import Judged, gamed_rows, ratings, strength_columns
from stages.judging.statistics import length_control
from stages.judging.statistics.arena import Z95
from stages.judging.statistics.correlation import correlations
from stages.judging.statistics.plain_counts import counts

Row = dict[str, Any]
CORRELATED = ("win_rate", "lc_win_rate", "bradley_terry", "mean_length")


@dataclass(frozen=True)
class Options:
    baseline: str | None = None  # by default the most frequent `generator_1`
    annotator: str | None = None  # of several judges, the one whose verdicts count
    difficulty: Path | None = None  # CSV of instruction_index, instruction_difficulty
    gamed: Path | None = None  # CSV of regularising rows, as AlpacaEval's df_gamed
    arena: bool = False  # Bradley–Terry over implied battles: quadratic in the number of models


def annotation_files(paths: Iterable[Path]) -> list[Path]:
    """The files themselves, and every `annotations.json` below the folders. Raises InputError if there is none."""
    found: list[Path] = []
    for path in paths:
        inside = sorted(path.rglob("annotations.json")) if path.is_dir() else [path]
        if not inside:
            raise InputError(f"{path}: no annotations.json below it")
        found += inside
    return found


def import_board(paths: Sequence[Path], options: Options) -> tuple[Leaderboard, list[str]]:
    """(The leaderboard, every row that couldn't be used and why)."""
    files = annotation_files(paths)
    known = baselines(files)
    baseline = options.baseline or next(iter(known), None)
    if baseline not in known:
        raise InputError(
            f"no row is judged against `{baseline}`; baselines in these files: {', '.join(known) or 'none'}"
        )
    annotations: list[Annotation] = []
    problems: list[str] = []
    for path in files:
        read, wrong = read_annotations(path, baseline)
        annotations += read
        problems += wrong
    annotations, judge = _one_judge(annotations, options.annotator, problems)
    judged = tabulate(annotations, problems)
    judged[baseline] = _itself(judged, annotations)
    difficulty = None if options.difficulty is None else pd.read_csv(options.difficulty)
    gamed: Any = gamed_rows({name: judged[name] for name in judged if _is_style_of(name, baseline)})
    if options.gamed is not None:
        gamed = pd.read_csv(options.gamed)
    fitted = ratings(judged, baseline) if options.arena else None
    rows = [
        _row(name, one, name == baseline, difficulty, gamed, problems, strength_columns(fitted, name))
        for name, one in sorted(judged.items())
    ]
    rows.sort(key=lambda row: (math.inf if row.lc_win_rate is None else -row.lc_win_rate, row.model))
    rows = [row.model_copy(update={"rank": rank}) for rank, row in enumerate(rows, 1)]
    simulated = judge.startswith("simulated")
    board = Leaderboard(
        baseline=baseline,
        judge=Judge(
            simulated=simulated,
            provider="files",
            model=judge,
            label="simulated annotators" if simulated else judge,
            signal="",
            versions={judge: len(annotations)},
        ),
        chosen=None,
        rows=rows,
        comparisons=[],
        correlations=correlations([row.model_dump() for row in rows], CORRELATED),
        notes=[
            *([f"{len(problems)} rows of the files could not be used or are missing."] if problems else []),
            COVERAGE,
        ],
    )
    return board, problems


def tabulate(annotations: Sequence[Annotation], problems: list[str]) -> dict[str, Judged]:
    """model → its rows. An instruction's index is its place in the fullest file, then in those after it.

    Repeated verdicts count once where they agree, and not at all where they don't; an instruction that other models
    have and one lacks is a problem of its own.
    """
    by_model: dict[str, dict[str, list[Annotation]]] = defaultdict(lambda: defaultdict(list))
    for annotation in annotations:
        by_model[annotation.model][annotation.instruction].append(annotation)
    index: dict[str, int] = {}
    for model in sorted(by_model, key=lambda name: (-len(by_model[name]), name)):
        for instruction in by_model[model]:
            index.setdefault(instruction, len(index))
    tables = {}
    for model, given in sorted(by_model.items()):
        rows = []
        for instruction, number in index.items():
            copies = given.get(instruction, [])
            if not copies:
                problems.append(f"{model}: no row for instruction {number} ({instruction[:40]!r})")
                continue
            said = {repr(copy.preference) for copy in copies}
            if len(copies) > 1:
                what = "counted once" if len(said) == 1 else f"they differ ({', '.join(sorted(said))}): left out"
                problems.append(f"{model}: instruction {number} has {len(copies)} verdicts; {what}")
            if len(said) == 1:
                rows.append(_table_row(copies[0], number))
        tables[model] = Judged(rows, [])
    return tables


def _one_judge(annotations: list[Annotation], wanted: str | None, problems: list[str]) -> tuple[list[Annotation], str]:
    judges = Counter(annotation.annotator for annotation in annotations)
    if wanted is None and len(judges) > 1:
        raise InputError(f"verdicts of {len(judges)} judges: {', '.join(sorted(judges))}; name one (--annotator)")
    judge = wanted or next(iter(judges), "")
    if judge not in judges:
        raise InputError(f"no verdict of `{judge}`; judges in these files: {', '.join(sorted(judges)) or 'none'}")
    others = [one for one in annotations if one.annotator != judge]
    problems += [f"{one.model}: {one.instruction[:40]!r} judged by `{one.annotator}`" for one in others]
    return [one for one in annotations if one.annotator == judge], judge


def _table_row(one: Annotation, number: int) -> Row:
    draw = one.preference == 0  # AlpacaEval's other way to write one
    return {
        "id": str(number),
        "instruction_index": number,
        "model": one.model,
        "annotator": one.annotator,
        "preference": 1.5 if draw else one.preference,
        "baseline_first": math.nan,  # the files don't say in which order the outputs were shown
        "output_first": math.nan,
        "usd": one.usd,
        "seconds": one.seconds,
        "len_output": len(one.output),
        "len_baseline": len(one.baseline_output),
    }


def _itself(judged: dict[str, Judged], annotations: Sequence[Annotation]) -> Judged:
    """The baseline against itself, a draw by definition, on every instruction that anyone has."""
    lengths = {row["id"]: row["len_baseline"] for one in judged.values() for row in one.annotations}
    fixed = {"preference": 1.5, "annotator": "identical", "usd": 0.0, "seconds": math.nan}
    unknown = {"baseline_first": math.nan, "output_first": math.nan}
    return Judged(
        [
            {"id": key, "instruction_index": int(key), "len_output": n, "len_baseline": n} | fixed | unknown
            for key, n in sorted(lengths.items(), key=lambda item: int(item[0]))
        ],
        [],
    )


def _is_style_of(name: str, baseline: str) -> bool:
    return name in (f"{baseline}_verbose", f"{baseline}_concise")


def _row(
    name: str, judged: Judged, itself: bool, difficulty: Any, gamed: Any, problems: list[str], strengths: Row
) -> BoardRow:
    rows = judged.annotations
    preferences = np.array([row["preference"] for row in rows])
    known = preferences[~np.isnan(preferences)]
    win = mean_interval(100 * (known - 1))
    lc = error = math.nan
    columns = {key: np.array([row[key] for row in rows]) for key in ("instruction_index", "len_output", "len_baseline")}
    try:
        fit = length_control.fit(columns | {"preference": preferences}, difficulty=difficulty, gamed=gamed)
        lc, error = (50.0, 0.0) if itself else (fit.lc_win_rate, fit.lc_standard_error)
    except InputError as why:
        problems.append(f"{name}: no length-controlled rate: {why}")
    return BoardRow(
        model=name,
        kind="annotations",
        source="",
        control=False,
        baseline=itself,
        chosen=False,
        rank=0,
        lineage="",
        validation=None,
        win_rate=win.mean,
        win_rate_low=win.low,
        win_rate_high=win.high,
        lc_win_rate=lc,
        lc_standard_error=error,
        lc_low=lc - Z95 * error,
        lc_high=lc + Z95 * error,
        right=None,
        right_low=None,
        right_high=None,
        mean_score=None,
        mean_length=float(np.mean(columns["len_output"])) if rows else None,
        n=len(known),
        missing=len(rows) - len(known),
        **counts(rows),
        **strengths,
    )
