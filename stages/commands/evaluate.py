"""`trainyard evaluate`: any model folder, or model on a server, on any task, beside what lm-eval has measured."""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from stages.base.errors import InputError, ParamError, ResourceError
from stages.base.readable import counted
from stages.base.terminal import one_line, shown_json

if TYPE_CHECKING:
    from stages.evaluation.board import Board, Model
    from stages.evaluation.measure import Task
    from stages.evaluation.scoring.requests import Engine
    from stages.evaluation.store import AnswerStore
    from stages.evaluation.tasks.declaration import TaskFile
    from stages.evaluation.tasks.groups import Group

ADDRESS = ("http://", "https://")
ADDRESS_FORM = "an address begins with http:// or https://, such as http://localhost:8000/v1"
EXAMPLE = """\
examples:
  trainyard evaluate sft dpo --tasks atlas_facts,minimal_pairs
  trainyard evaluate --server http://localhost:8000/v1 --model mine --tasks arc_easy --data arc --json
  trainyard evaluate sft1,sft2,sft3 --tasks atlas_facts  # one model, trained from three seeds
"""
WEIGHTS = ("*.json", "*.safetensors", "*.jinja", "*.model")  # files of a folder that make its answers


def register(subparsers: argparse._SubParsersAction) -> None:
    command = subparsers.add_parser(
        "evaluate",
        help="score models on tasks",
        description="Answers are kept below --out as they come: a rerun asks only for what is missing.",
        epilog=EXAMPLE,
    )
    add = command.add_argument
    add(
        "models", nargs="*", metavar="MODEL",
        help="a key of data/models, a model folder (also Hugging Face's), or http://HOST/v1#NAME; A,B,C: one model, "
        "trained from several seeds",
    )  # fmt: skip
    add("--server", metavar="URL", help="an OpenAI-compatible server; its key is in $OPENAI_API_KEY")
    add("--model", metavar="NAME", help="a model of --server")
    add("--tasks", metavar="A,B", help="keys of evaluation.tasks, shipped tasks and groups, or files (docs/tasks.md)")
    add("--protocols", metavar="A,B", help="default: those of each task (docs/protocols.md)")
    add("--shots", type=int, metavar="N", help="examples before each item (default: as each task says)")
    add("--limit", type=int, metavar="N", help="the first N items of each task")
    add("--variants", action="store_true", help="the other wordings of each prompt too: five at least")
    add("--data", metavar="DIR", help="where the documents lie: DIR/TASK, or of one task alone DIR")
    add("--out", default="evaluation", metavar="DIR", help="results (default: evaluation)")
    add("--json", action="store_true", help="print results.json in place of the table")
    add(
        "--import", nargs="+", type=Path, default=[], dest="imported", metavar="FILE",
        help="results_*.json and samples_*.jsonl of lm-eval: they join the table, paired by document",
    )  # fmt: skip
    add("--export", metavar="DIR", help="write the results as lm-eval does")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from stages.base.files import write_json
    from stages.evaluation.board import Board, table

    _open_folders(options)
    named = _names(options)
    tasks, groups = _tasks(options)
    if named and not tasks:
        raise ParamError("which tasks? give --tasks, such as --tasks arc_easy,hellaswag")
    if not named and not options.imported:
        raise ParamError("which model? give a folder, http://HOST/v1#NAME, or --import results of lm-eval")
    protocols = _protocols(options.protocols)
    board = Board({task.key: task for task in tasks}, groups)
    called = {name: _measure(board, name, protocols, options) for name in named}
    board.seeds = {
        given: [called[name].name for name in _seeds(given)] for given in options.models if len(_seeds(given)) > 1
    }
    _import(board, options.imported)
    found = board.as_json()
    try:
        if named:
            _write_items(board, options.out)
        write_json(options.out / "results.json", found)
        if options.export is not None:
            _export(board, options.export)
    except OSError as error:
        raise ResourceError(
            f"{error.filename2 or error.filename or options.out}: results can't be written "
            f"({error.strerror or error}); mend it, or choose another folder, and rerun: the answers are kept below "
            f"{options.out / 'answers'}"
        ) from None
    if options.json:
        print(shown_json(json.loads((options.out / "results.json").read_text(encoding="utf-8"))))
    else:
        print("\n".join(table(board)))
    print(f"{options.out / 'results.json'}: {counted(len(found['scores']), 'score')}", file=sys.stderr)
    return 0


# --------------------------------------------------------------------------------------------------- what is asked


def _open_folders(options: argparse.Namespace) -> None:
    """--out and --export as paths; an empty name would be the folder that one is in."""
    for option in ("out", "export"):
        folder = getattr(options, option)
        if folder == "":
            raise ParamError(f"--{option} is empty; name a folder")
        setattr(options, option, None if folder is None else Path(folder))


def _names(options: argparse.Namespace) -> list[str]:
    """Of models as given; a server's as ADDRESS#NAME."""
    names = [name for given in options.models for name in _seeds(given)]
    if (options.server is None) != (options.model is None):
        raise ParamError("--server URL and --model NAME belong together")
    if options.server is not None:
        if not options.server.startswith(ADDRESS):
            raise ParamError(f"--server {_bare(options.server)}: {ADDRESS_FORM}")
        names.append(f"{options.server}#{options.model}")
    for name in names:
        if "://" in name and not name.startswith(ADDRESS):
            raise ParamError(f"{_bare(name)}: {ADDRESS_FORM}")
    if twice := {name for name in names if names.count(name) > 1}:
        raise ParamError(f"{sorted(twice)[0]} is given twice; give it once")
    for option in ("shots", "limit"):
        value, least = getattr(options, option), 0 if option == "shots" else 1
        if value is not None and value < least:
            raise ParamError(f"--{option} is {value}; it must be {least} or more")
    return names


def _bare(address: str) -> str:
    """Without a user and password."""
    return address.rpartition("@")[2]


def _seeds(given: str) -> list[str]:
    """A,B,C is one model that was trained from several seeds."""
    return [given] if given.startswith(ADDRESS) else [name for name in given.split(",") if name]


def _tasks(options: argparse.Namespace) -> tuple[list["Task"], list["Group"]]:
    from stages.evaluation.measure import open_task

    if options.tasks is None:
        return [], []
    files, groups = named_tasks(options.tasks.split(","), options.data)
    return [open_task(file, options.limit) for file in files], groups


def named_tasks(given: Sequence[str], data: str | None) -> tuple[list["TaskFile"], list["Group"]]:
    """The tasks and groups of --tasks with their documents, where --data names a folder of them.

    Raises ParamError where --data has none of several tasks: one folder of documents isn't that of all.
    """
    from stages.evaluation.tasks.yaml_file import find_tasks

    if data == "":
        raise ParamError("--data is empty; name a folder")
    names = list(dict.fromkeys(name.strip() for name in given if name.strip()))
    folders = {name: _data(data, name, alone=len(names) == 1) for name in names}
    if data is not None and names and not any(folders.values()):
        raise ParamError(
            f"--data: no {data}/{Path(names[0]).stem}; of several tasks, each has a folder of its name there"
        )
    files: dict[str, TaskFile] = {}
    groups: dict[str, Group] = {}
    for name, folder in folders.items():
        found, joined = find_tasks([name], folder)
        for file in found:
            if files.setdefault(file.task, file) != file:
                raise ParamError(f"--tasks: `{file.task}` is asked for twice, in two ways; ask for one at a time")
        groups |= {group.group: group for group in joined}
    return list(files.values()), list(groups.values())


def _data(folder: str | None, name: str, alone: bool) -> str | None:
    """Where the documents of a task or group lie: in the folder of its name; of the only one, in the folder itself."""
    if folder is None:
        return None
    own = Path(folder, Path(name).stem)
    if own.exists():
        return own.as_posix()
    return folder if alone else None


def _protocols(named: str | None) -> list[str]:
    from stages.evaluation.protocols.registry import find_protocol

    names = [name.strip() for name in (named or "").split(",") if name.strip()]
    for name in names:
        find_protocol(name)
    return list(dict.fromkeys(names))


# ----------------------------------------------------------------------------------------------------- asking


def _measure(board: "Board", name: str, protocols: Sequence[str], options: argparse.Namespace) -> "Model":
    """One model on all tasks, into the board. Raises InputError where it could be asked none of them."""
    from stages.evaluation.board import Cell, model_slug
    from stages.evaluation.store import AnswerStore

    engine, model = _open(name, options.out)
    if any(model.name == other.name for other in board.models):
        raise ParamError(f"two models are called {one_line(model.name)}; rename a folder, as tables go by the name")
    path = options.out / "answers" / f"{model_slug(model)}.jsonl"
    noted, cells = len(board.notes), len(board.cells)
    with AnswerStore(path, model.digest) as store:
        board.models.append(model)
        try:
            for task in board.tasks.values():
                board.cells += [
                    Cell(model, task.key, protocol, n, measured)
                    for protocol, n, measured in _asked(board, engine, model, task, protocols, store, options)
                ]
        finally:  # some damage shows only when the answer is looked for
            if store.damaged:
                lines = ", ".join(map(str, sorted(store.damaged)[:10]))
                print(f"{path}: {counted(len(store.damaged), 'damaged line')} ({lines}): asked again", file=sys.stderr)
    if len(board.cells) == cells:
        raise InputError(f"no item can be asked: {'; '.join(board.notes[noted:])}")
    return model


def _asked(
    board: "Board",
    engine: "Engine",
    model: "Model",
    task: "Task",
    protocols: Sequence[str],
    store: "AnswerStore",
    options: argparse.Namespace,
) -> Iterator:
    """(Protocol, shots, what was measured) of one task; a protocol that can't ask it, or that a server can't be asked
    under, is a note."""
    from stages.evaluation.run import TOO_LONG
    from stages.evaluation.scoring.requests import CannotAsk

    for protocol in task.protocols() if task.is_rolling or not protocols else protocols:
        n = task.file.num_fewshot if options.shots is None else options.shots
        try:
            measured = task.measured(
                engine, protocol, n, store, others=options.variants, label=f"{one_line(model.name)}: "
            )
            why = measured.why_unasked()
        except CannotAsk as error:
            why = str(error)
        if why and why != TOO_LONG:
            board.notes.append(f"{model.name}: {task.key} isn't asked under {protocol}: {why}")
            continue
        yield protocol, n, measured


def _open(name: str, out: Path) -> tuple["Engine", "Model"]:
    from stages.commands.chat import model_folder
    from stages.evaluation.board import Model

    if name.startswith(ADDRESS):
        from stages.evaluation.scoring.server import ServerEngine, server_settings

        address, _, called = name.partition("#")
        server = ServerEngine(server_settings(address, called), out / "answers" / "calls.sqlite")
        return server, Model(called, "server", server.digest)
    from stages.evaluation.scoring.local import open_folder

    folder = model_folder(name)
    return open_folder(folder), Model(folder.resolve().name, "folder", folder_digest(folder))


def folder_digest(folder: Path) -> str:
    """sha256 of all that makes a model's answers: weights, tokenizer, template, and the kind of device."""
    import hashlib

    from stages.base.files import sha256_file
    from stages.lm.device import device

    files = sorted({path for pattern in WEIGHTS for path in folder.glob(pattern) if path.name != "record.json"})
    told = [device().type, *(f"{path.name}\0{sha256_file(path)}" for path in files)]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()


# ------------------------------------------------------------------------------------------------ files in and out


def _import(board: "Board", paths: Sequence[Path]) -> None:
    """lm-eval's files; samples belong to the results beside them, or to the only ones given."""
    from stages.base.files import sha256_file
    from stages.evaluation.board import Cell, Model
    from stages.evaluation.exchange.reading import read_harness

    results = [path for path in paths if path.suffix == ".json"]
    samples: dict[Path, list[Path]] = defaultdict(list)
    for path in paths:
        if path.suffix != ".json":
            owners = [one for one in results if len(results) == 1 or _same_run(one, path)]
            if len(owners) != 1:
                raise InputError(f"{path}: whose samples are these? give the results_*.json of the same run")
            samples[owners[0]].append(path)
    for path in results:
        found = read_harness(path, samples[path], board.tasks)
        name = found.model
        while any(name == model.name for model in board.models):
            name += " (lm-eval)"
        model = Model(name, "imported", sha256_file(path))
        board.models.append(model)
        board.notes += found.notes
        board.cells += [Cell(model, *found.asked_as[task], found.shots[task], one) for task, one in found.tasks.items()]
        board.scores += [(model, task, found.shots[task], scores) for task, scores in found.scores.items()]


def _same_run(results: Path, samples: Path) -> bool:
    date = results.stem.partition("_")[2]
    return results.parent == samples.parent and samples.stem.endswith(date)


def _write_items(board: "Board", out: Path) -> None:
    """items.parquet: a row an item, model, protocol and wording."""
    import pyarrow as pa

    from stages.base.tables import write_table
    from stages.evaluation.items import ITEM, answer_items

    schema = pa.schema([("model", pa.string()), *ITEM])
    rows = []
    for cell in board.cells:
        for own in (cell.measured.rows, *cell.measured.variants.values()):
            rows += [{"model": cell.model.name, **row} for row in answer_items(own, cell.accuracy.metric)]
    write_table(out / "items.parquet", pa.Table.from_pylist(rows, schema=schema), schema)


def _export(board: "Board", folder: Path) -> None:
    from stages.evaluation.exchange.writing import Exported, exported_name, write_harness

    now = datetime.now()
    for model in board.models:
        tasks = {
            exported_name(cell.task, cell.protocol): Exported(
                board.tasks.get(cell.task), cell.protocol, cell.shots, cell.measured
            )
            for cell in board.cells
            if cell.model is model and model.kind != "imported"
        }
        if tasks:
            paths = write_harness(folder, model.name, tasks, now)
            print(one_line(f"{paths[0]}: {counted(len(tasks), 'task')} of {model.name}"), file=sys.stderr)
