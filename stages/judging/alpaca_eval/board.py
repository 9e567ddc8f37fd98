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

from stages.base.contracts.leaderboard import COVERAGE, Judge, Leaderboard
from stages.base.contracts.leaderboard import Row as BoardRow
from stages.base.errors import InputError
from stages.judging.alpaca_eval.files import Annotation, baselines, read_annotations
from stages.judging.alpaca_eval.tables import Align, Instructions, agreeing, matched, read_csv
from stages.judging.scores import Judged, gamed_rows, numbers, ranked, ratings, ratings_note, strength_columns
from stages.judging.statistics.correlation import correlations
from stages.judging.statistics.length_design import measured_column, regularising_rows
from stages.judging.statistics.plain_counts import length_note

Row = dict[str, Any]
CORRELATED = ("win_rate", "lc_win_rate", "bradley_terry", "mean_length")


@dataclass(frozen=True)
class Options:
    baseline: str | None = None  # by default the most frequent `generator_1`
    annotator: str | None = None  # of several judges, the one whose verdicts count
    difficulty: Path | None = None  # CSV of instruction_index, instruction_difficulty
    gamed: Path | None = None  # CSV of regularising rows, as AlpacaEval's df_gamed
    align: Align = "evidence"  # "position": the two tables are taken in the order of the files, shown or not
    human: str | None = None  # an annotator whose verdicts are right: they correct the judge's rates
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
    truth = _human_verdicts(annotations, options.human)
    annotations, judge = _one_judge(
        [one for one in annotations if one.annotator != options.human], options.annotator, problems
    )
    judged, instructions = tabulate(annotations, problems)
    judged[baseline] = _itself(judged)
    difficulty, gamed = option_tables(options, instructions)
    if gamed is None:
        gamed = gamed_rows({name: judged[name] for name in judged if _is_style_of(name, baseline)})
    fitted = ratings(judged, baseline) if options.arena else None
    notes = _texts_note(annotations, problems) + ratings_note(fitted, "")
    rows = []
    for name, one in sorted(judged.items()):
        ids = {row["instruction"]: row["id"] for row in one.annotations}
        right = {ids[text]: verdict for (model, text), verdict in truth.items() if model == name and text in ids}
        row, why = numbers(one, itself=name == baseline, gamed=gamed, difficulty=difficulty, truth=right)
        if why:
            notes.append(f"{name} has no length-controlled rate: {why}.")
        rows.append(_row(name, name == baseline, row | strength_columns(fitted, name)))
    rows = ranked(rows)
    notes += length_note([row for one in judged.values() for row in one.annotations])
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
            *notes,
        ],
    )
    return board, problems


def option_tables(options: Options, known: Instructions) -> tuple[Any, Any]:
    """Difficulty and regularising rows of the options, each matched to the instructions; None where there is none."""
    difficulty: Any = None
    gamed: Any = None
    if options.gamed is not None:
        needed = ["model", "std_delta_len", "preference_surrogate_0to1"]
        if options.difficulty is not None:
            needed += ["instruction_difficulty", "instruction_index"]
        gamed = matched(options.gamed, read_csv(options.gamed, needed), known, options.align)
        regularising_rows(gamed, with_difficulty=options.difficulty is not None)
    if options.difficulty is not None:
        difficulty = read_csv(options.difficulty, ["instruction_difficulty"])
        difficulty = matched(options.difficulty, difficulty, known, options.align, witness=gamed)
        measured_column(difficulty, "instruction_difficulty", str(options.difficulty))
        if options.gamed is not None:
            agreeing(options.gamed, gamed, difficulty)
    return difficulty, gamed


def tabulate(annotations: Sequence[Annotation], problems: list[str]) -> tuple[dict[str, Judged], Instructions]:
    """(model → its rows; the instructions).

    An instruction's index is its place in the fullest file, then in those after it. Repeated verdicts count once where
    they agree, and not at all where they don't; an instruction that other models have and one lacks is a problem of its
    own.
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
    lengths = {one.instruction: len(one.baseline_output) for one in annotations}
    return tables, Instructions(list(index), [lengths[text] for text in index])


def _human_verdicts(annotations: Sequence[Annotation], name: str | None) -> dict[tuple[str, str], float]:
    """(model, instruction) → mean preference of the annotator whose verdicts are right, 0..1."""
    if name is None:
        return {}
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for one in annotations:
        if one.annotator == name and not math.isnan(one.preference):
            found[one.model, one.instruction].append((one.preference or 1.5) - 1)
    if not found:
        raise InputError(f"no verdict of `{name}` (--human) in these files")
    return {key: float(np.mean(said)) for key, said in found.items()}


def _texts_note(annotations: Sequence[Annotation], problems: list[str]) -> list[str]:
    """Whether the baseline's name stands for several outputs to one instruction."""
    texts: dict[str, set[str]] = defaultdict(set)
    for one in annotations:
        texts[one.instruction].add(one.baseline_output)
    several = [instruction for instruction, found in texts.items() if len(found) > 1]
    if not several:
        return []
    name = annotations[0].baseline
    problems += [f"{name}: {len(texts[text])} outputs under this name to {text[:40]!r}" for text in several]
    return [
        f"{name} has several outputs to {len(several)} of {len(texts)} instructions: models were judged against "
        "different baselines under one name."
    ]


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
        "instruction": one.instruction,
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


def _itself(judged: dict[str, Judged]) -> Judged:
    """The baseline against itself, a draw by definition, on every instruction that anyone has."""
    lengths = {row["id"]: row["len_baseline"] for one in judged.values() for row in one.annotations}
    fixed = {"preference": 1.5, "annotator": "identical", "usd": 0.0, "seconds": math.nan}
    unknown = {"baseline_first": math.nan, "output_first": math.nan}
    return Judged(
        [
            {"id": key, "instruction": "", "instruction_index": int(key), "len_output": n, "len_baseline": n}
            | fixed
            | unknown
            for key, n in sorted(lengths.items(), key=lambda item: int(item[0]))
        ],
        [],
    )


def _is_style_of(name: str, baseline: str) -> bool:
    return name in (f"{baseline}_verbose", f"{baseline}_concise")


def _row(name: str, itself: bool, row: Row) -> BoardRow:
    return BoardRow(
        model=name,
        kind="annotations",
        source="",
        control=False,
        baseline=itself,
        chosen=False,
        rank=None,
        lineage="",
        validation=None,
        **row,
    )
