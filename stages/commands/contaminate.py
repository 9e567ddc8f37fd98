"""`trainyard contaminate`: are the items of a task in a corpus, and has a model seen them?"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.base.errors import InputError, ParamError, ResourceError
from stages.base.terminal import one_line, shown_json

if TYPE_CHECKING:
    import pyarrow as pa

    from stages.base.contracts.contamination import Overlap
    from stages.evaluation.examples import Example
    from stages.evaluation.overlap.corpora import CorpusFile
    from stages.evaluation.overlap.index import Segment
    from stages.evaluation.overlap.search import Match

OWN = Path("data/evaluation/corpus_index")  # of the pipeline that we stand in
EXAMPLE = """\
examples:
  trainyard contaminate --tasks arc_easy --corpus "crawl/*.jsonl.zst" --data arc --json
  trainyard contaminate --tasks atlas_facts --model data/models/sft
"""
SHORTEST = 5  # words that an index knows
SHOWN = 5  # places that are printed
NAME = 200  # characters of a name or address of others that are printed
SEED = 0  # of shuffled orders


def register(subparsers: argparse._SubParsersAction) -> None:
    command = subparsers.add_parser(
        "contaminate",
        help="look for a task's items in a corpus",
        description="By three rules (13-grams, the share of 8-grams, spans with skips) over normalised words, and "
        "where; in bounded memory.",
        epilog=EXAMPLE,
    )
    add = command.add_argument
    add("--tasks", nargs="+", required=True, metavar="TASK", help="keys of evaluation.tasks, shipped tasks, or files")
    add(
        "--corpus",
        nargs="+",
        type=_given,
        metavar="FILE",
        help="JSON Lines, Parquet or text (.gz, .zst), folders, patterns",
    )
    add("--field", default="text", metavar="NAME", help="where JSON Lines and Parquet have the text (default: text)")
    add("--index", type=_path, metavar="FOLDER", help=f"an index to look in (default: {OWN}, of the run's own corpus)")
    add(
        "--keep", type=_path, metavar="FOLDER", help="keep the index of --corpus there; one of the same files is reused"
    )
    add(
        "--model",
        type=_path,
        metavar="FOLDER",
        help="also test a model: of one whose corpus isn't known, without the rest",
    )
    add("--data", metavar="DIR", help="where the documents lie: DIR/TASK, or of one task alone DIR")
    add("--limit", type=int, metavar="N", help="the first N items of each task")
    add("--items", type=_path, metavar="FILE", help="a Parquet file to write, with a row an item")
    add("--json", action="store_true", help="everything, as JSON")
    command.set_defaults(run=run)


def _given(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("the name is empty")
    return text


def _path(text: str) -> Path:
    return Path(_given(text))


def run(options: argparse.Namespace) -> int:
    if options.limit is not None and options.limit < 1:
        raise ParamError(f"--limit is {options.limit}; it must be 1 or more")
    if options.keep and not options.corpus:
        raise ParamError("--keep keeps the index of --corpus; name its files")
    if options.index and options.corpus:
        raise ParamError("--index and --corpus are two places to look in; name one")
    known = bool(options.corpus or options.index) or OWN.is_dir()
    if not known and options.model is None:
        raise ParamError(f"what corpus? name --corpus FILES or --index FOLDER (there is no {OWN} here), or a --model")
    if options.items:
        if not known:
            raise ParamError("--items tells where items stand in a corpus; name --corpus or --index too")
        _check_place(options.items, folder=False)
    if options.keep:
        _check_place(options.keep, folder=True)
    tasks = _examples(options.tasks, options.data, options.limit)
    segments = _segments(options) if known else None
    found: dict[str, Any] = {"overlap": [], "ordering": [], "membership": [], "corpus": "unknown"}
    if segments is not None:
        overlap, matches = _look(tasks, segments)
        found |= {"overlap": [row.model_dump(mode="json") for row in overlap], "corpus": _corpus(options)}
        if options.items:
            _write_items(options.items, tasks, matches)
        if not options.json:
            _print_overlap(overlap)
    if options.model is not None:
        found |= _test_model(options.model, tasks)
        if not options.json:
            _print_model(found, known=segments is not None)
    if options.json:
        print(shown_json(found))
    return 0


def _check_place(path: Path, *, folder: bool) -> None:
    """Raises InputError where no such file or folder can be written: before the work, not after it."""
    try:
        if path.exists() and not (path.is_dir() if folder else path.is_file()):
            raise InputError(f"{path}: is there, and no {'folder' if folder else 'file'}; name another")
        above = next(one for one in path.absolute().parents if one.exists())
        with tempfile.TemporaryFile(dir=above):
            pass
    except OSError as error:
        raise InputError(f"{path}: can't be written: {error.strerror or error}; name another") from None


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ResourceError(f"{path}: can't be written: {error.strerror or error}") from None


def _examples(names: Sequence[str], data: str | None, limit: int | None) -> "dict[str, list[Example]]":
    from stages.commands.evaluate import named_tasks
    from stages.evaluation.examples import example_of
    from stages.evaluation.tasks.loading import load

    files, _ = named_tasks([name for given in names for name in given.split(",")], data)
    if not files:
        raise ParamError("which tasks? give --tasks, such as --tasks arc_easy hellaswag")
    return {
        file.task: [example_of(item) for item in load(file, file.task, limit) if item.split == "test"] for file in files
    }


# ------------------------------------------------------------------------------------------------------ the corpus


def _segments(options: argparse.Namespace) -> "Iterable[Segment]":
    """Where to look: the files of --corpus, or an index."""
    from stages.evaluation.overlap.corpora import corpus_files
    from stages.evaluation.overlap.index import Index, segments_of

    if not options.corpus:
        return Index(options.index or OWN)
    files = corpus_files(options.corpus)
    if options.keep is None:
        return segments_of(_batches(files, options.field, "looking through the corpus"), SHORTEST)
    return _kept(options.keep, files, options.field)


def _batches(files: "Sequence[CorpusFile]", field: str, label: str) -> "Iterator[pa.Table]":
    from stages.base.progress import Progress
    from stages.evaluation.overlap.corpora import read_corpus

    with Progress(sum(file.bytes for file in files), label, unit="bytes") as progress:
        yield from read_corpus(files, field, progress.advance)


def _kept(folder: Path, files: "Sequence[CorpusFile]", field: str) -> "Iterable[Segment]":
    """The index in `folder`: as it is if it is of these files as they are, else built there, all or nothing."""
    from stages.evaluation.overlap.index import Index, write_index

    states = [[str(file.path.resolve()), file.bytes, file.path.stat().st_mtime_ns] for file in files]
    facts = {"corpus": ", ".join(str(file.path) for file in files[:3]), "field": field, "files": states}
    if (folder / "index.json").is_file():
        index = Index(folder)
        if all(index.facts.get(name) == facts[name] for name in ("field", "files")):
            print(one_line(f"{folder}: an index of these files, reused"), file=sys.stderr)
            return index
    elif folder.exists():
        raise InputError(f"{folder}: exists and is no index; name a new folder, or remove this one")
    place = folder.resolve()  # `.` has no name
    partial = place.with_name(f".{place.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with _writing(folder):
            partial.mkdir(parents=True)
            write_index(partial, _batches(files, field, "indexing the corpus"), SHORTEST, facts)
            shutil.rmtree(place, ignore_errors=True)
            partial.replace(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Index(folder)


def _corpus(options: argparse.Namespace) -> str:
    return ", ".join(options.corpus) if options.corpus else str(options.index or OWN)


# ------------------------------------------------------------------------------------------------------ what is found


def _look(
    tasks: "Mapping[str, list[Example]]", segments: "Iterable[Segment]"
) -> "tuple[list[Overlap], dict[str, list[Match]]]":
    from stages.evaluation.overlap.search import Rules, search
    from stages.evaluation.overlap.summary import overlap_of

    every = [example for examples in tasks.values() for example in examples]
    found = iter(search(segments, [one.question for one in every], [one.answer for one in every], Rules()))
    matches = {key: [next(found) for _ in examples] for key, examples in tasks.items()}
    told = [overlap_of(key, [one.id for one in tasks[key]], own, Rules(), {}) for key, own in matches.items()]
    return told, matches


def _write_items(path: Path, tasks: "Mapping[str, list[Example]]", matches: "Mapping[str, list[Match]]") -> None:
    import pyarrow as pa

    from stages.base.tables import write_table
    from stages.evaluation.overlap.summary import OVERLAP, overlap_table

    parts = [overlap_table(key, [one.id for one in tasks[key]], own, {}) for key, own in matches.items()]
    with _writing(path):
        write_table(path, pa.concat_tables([OVERLAP.empty_table(), *parts]), OVERLAP)
    print(one_line(f"{path}: a row for each of {sum(map(len, matches.values())):,} items"), file=sys.stderr)


def _print_overlap(overlap: "Sequence[Overlap]") -> None:
    rules = [rule.rule for rule in overlap[0].rules]
    rows = [["task", "items", "too short", *rules, "suspect", "dirty", "verdict"]]
    for row in overlap:
        listed = {rule.rule: rule.suspect + rule.dirty for rule in row.rules}
        rows.append(
            [row.set, f"{row.items:,}", f"{row.too_short:,}", *(f"{listed[name]:,}" for name in rules),
             f"{row.suspect:,}", f"{len(row.dirty_ids):,}", row.verdict]
        )  # fmt: skip
    _print_table(rows)
    shown = [(row.set, item) for row in overlap for item in row.found]
    for task, item in shown[:SHOWN]:
        for place in item.places[:1]:
            where = place.url or place.document
            answer = ", its answer behind it" if place.with_answer else ""
            print(
                f"{_name(task)}/{_name(item.id)} ({item.state}) in {_name(place.source)}: "
                f"{_name(where)}, byte {place.position:,}{answer}"
            )
            print(f"    {one_line(place.text, 160)}")
    if len(shown) > SHOWN:
        print(f"{len(shown) - SHOWN:,} more; --items FILE has all")


def _name(text: str) -> str:
    return one_line(text, NAME)


def _test_model(folder: Path, tasks: "Mapping[str, list[Example]]") -> dict[str, Any]:
    """The tests that need no corpus: does the model prefer the published order, and how likely are its least likely
    tokens."""
    from stages.base.contracts.contamination import Power
    from stages.commands.chat import model_folder
    from stages.evaluation.contamination import OrderingParams, believed, memberships, order_of
    from stages.evaluation.ordering import model_logprob
    from stages.lm.chat import load_tokenizer
    from stages.lm.checkpoint import load_model

    folder = model_folder(str(folder))
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    logprob, params = (
        model_logprob(model, tokenizer),
        OrderingParams(examples=100, shards=10, permutations=20, alpha=0.05),
    )
    unseen = Power(
        planted=[], detects_from_copies=None, reason="no preference for the published order, which clears nobody"
    )
    ordering = [believed(order_of(key, examples, logprob, params, SEED), unseen) for key, examples in tasks.items()]
    members = memberships(model, tokenizer, tasks, ([], []), params.examples)
    return {
        "model": str(folder),
        "ordering": [row.model_copy(update={"model": str(folder)}).model_dump(mode="json") for row in ordering],
        "membership": [row.model_copy(update={"model": str(folder)}).model_dump(mode="json") for row in members],
    }


def _print_model(found: Mapping[str, Any], *, known: bool) -> None:
    rows = [["task", "examples", "p of the order", "order", "Min-K %", "Min-K%++"]]
    for row in found["ordering"]:
        own = {one["method"]: one["mean"] for one in found["membership"] if one["task"] == row["task"]}
        p_value = "–" if row["p_value"] is None else f"{row['p_value']:.2g}"
        word = f"{row['verdict']}: {row['reason']}" if row["reason"] else row["verdict"]
        means = ["–" if value is None else f"{value:.3f}" for value in own.values()]
        rows.append([row["task"], f"{row['examples']:,}", p_value, word, *means])
    _print_table(rows)
    if not known:
        print(
            f"{one_line(found['model'])}: what it was trained on is unknown here. Overlap can't be looked for, and "
            "Min-K % compares sets of one model, not items."
        )


def _print_table(given: Sequence[Sequence[str]]) -> None:
    rows = [[one_line(cell, NAME) for cell in row] for row in given]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in
                        enumerate(zip(row, widths, strict=True))))  # fmt: skip
