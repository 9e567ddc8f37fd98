"""`trainyard inspect FILE`: what the pipeline understands of a file of instructions or preferences, before training; or
of the first rows of a dataset of the hub.
"""

import argparse
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stages.alignment.formats import Comparison, Exchange, Format, Row

RUN, FEWEST = 13, 5  # words that tell an overlap (GPT-3, appendix C); of a question that is looked for
SHOWN = 5  # of the rows with a fault, and of those that overlap a test
HUB_NAME, HUB_ROWS = re.compile(r"[\w.-]+/[\w.-]+"), 1000


def register(subparsers: argparse._SubParsersAction) -> None:
    command = subparsers.add_parser("inspect", help="what is understood of a file of instructions or preferences")
    add = command.add_argument
    add(
        "file", type=Path, metavar="FILE",
        help="JSON Lines, JSON or Parquet, or the name of a dataset of the hub; formats in docs/alignment.md",
    )  # fmt: skip
    add("--split", default="train", help=f"of a dataset of the hub, whose first {HUB_ROWS:,} rows are read (train)")
    add(
        "--model", type=Path, metavar="FOLDER",
        help="whose tokenizer and context count (default: data/models/ and `alignment.base`, where that is there)",
    )  # fmt: skip
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from stages.alignment import formats
    from stages.base.errors import InputError

    rows = _rows(options.file, options.split)
    kind, form = _kind(rows)
    read: list[Exchange | Comparison] = []
    faults: list[str] = []
    for row in rows:
        try:
            read.append(formats.read_as(form, row))
        except InputError as error:
            faults.append(str(error))
    print(f"{options.file}: {kind}, format {form.name} ({', '.join(form.keys)})")
    whole = [] if faults else _as_a_whole(rows, kind)
    faults += whole
    print(f"rows: {len(rows):,}, {len(read) - len(whole):,} understood, {len(faults):,} refused")
    _say_ignored(rows, form)
    if read:
        _say_turns(read)
        _say_doubles(read)
        _say_lengths(read, options.model)
        _say_leakage(read)
    for fault in faults[:SHOWN]:
        print(f"refused: {fault}")
    if len(faults) > SHOWN:
        print(f"refused: {len(faults) - SHOWN:,} more")
    return 2 if faults else 0


def _rows(file: Path, split: str) -> list["Row"]:
    from stages.alignment.formats import dataset_rows, read_rows
    from stages.base.hub import HubDataset

    if file.exists() or not HUB_NAME.fullmatch(str(file)) or file.suffix in (".jsonl", ".json", ".parquet"):
        return read_rows(file)
    every = dict.fromkeys(("config", "revision", "data_files"))
    return dataset_rows(HubDataset(path=".", name=str(file), split=split, limit=HUB_ROWS, **every))


def _kind(rows: Sequence["Row"]) -> tuple[str, "Format"]:
    """Preferences and instructions share no set of keys."""
    from stages.alignment.formats import INSTRUCTIONS, PREFERENCES, format_of
    from stages.base.errors import InputError

    if {"chosen", "rejected"} <= set(rows[0].values):
        return "preferences", format_of(rows, PREFERENCES)
    try:
        return "instructions", format_of(rows, INSTRUCTIONS)
    except InputError as error:
        raise InputError(f"{error}; or `chosen` and `rejected` for preferences") from None


def _as_a_whole(rows: Sequence["Row"], kind: str) -> list[str]:
    """The first fault that the stage would stop at though every row by itself is understood: an id or a pair that
    stands twice, equal answers, an unknown split, a prompt in two splits."""
    from stages.alignment import instructions, preferences
    from stages.base.errors import InputError

    try:
        if kind == "preferences":
            preferences.from_rows(rows, "row")
        else:
            instructions.from_rows(rows, None, 0, "row")
    except InputError as error:
        return [str(error)]
    return []


def _say_ignored(rows: Sequence["Row"], form: "Format") -> None:
    other = Counter(key for row in rows for key in row.values if key not in (*form.keys, *form.extra))
    if form.other and other:
        named = ", ".join(f"`{key}`" for key in other)
        print(f"not read: {named.encode('utf-8', 'backslashreplace').decode()}")  # half a surrogate pair can't be shown


def _answers(one: "Exchange | Comparison") -> list[str]:
    from stages.alignment.formats import Comparison

    return [one.chosen, one.rejected] if isinstance(one, Comparison) else [one.answer]


def _prompt(one: "Exchange | Comparison") -> str:
    from stages.base.conversation import text_of

    return text_of(one.asked)


def _say_turns(read: Sequence["Exchange | Comparison"]) -> None:
    turns = [sum(message["role"] == "user" for message in one.asked) for one in read]
    systems = sum(one.asked[0]["role"] == "system" for one in read)
    print(f"turns of the user: {_spread(turns)}; {systems:,} with a system message")


def _say_doubles(read: Sequence["Exchange | Comparison"]) -> None:
    whole = Counter((_prompt(one), *_answers(one)) for one in read)
    doubled = sum(count - 1 for count in whole.values())
    same = sum(len(answers) == 2 and answers[0] == answers[1] for answers in map(_answers, read))
    prompts = len({_prompt(one) for one in read})
    print(f"prompts: {prompts:,} different; {doubled:,} rows say what another says; {same:,} pairs of equal answers")


def _say_lengths(read: Sequence["Exchange | Comparison"], folder: Path | None) -> None:
    from stages.lm.chat import load_tokenizer

    folder = folder or _base()
    if folder is None:
        words = [len(text.split()) for one in read for text in _answers(one)]
        print(f"words of an answer: {_spread(words)} (no model here to count tokens with; --model FOLDER)")
        return
    tokenizer, limit = load_tokenizer(folder), _context(folder)
    whole = [max(len(tokenizer.encode_example(one.asked, text)[0]) for text in _answers(one)) for one in read]
    print(f"tokens of an exchange, by {folder}: {_spread(whole)}")
    long = sum(length > limit for length in whole)
    print(
        f"longer than its context of {limit:,}: {long:,} ({long / len(read):.1%}); they are left out, up to "
        "`max_drop` of alignment.sft, reward and dpo"
    )


def _base() -> Path | None:
    from stages.base.artifacts import MODELS
    from stages.base.params import PARAMS_FILE, lookup, read_params

    if not PARAMS_FILE.is_file():
        return None
    folder = Path(MODELS, lookup(read_params(), "alignment.base"))
    return folder if (folder / "tokenizer.json").is_file() else None


def _context(folder: Path) -> int:
    from stages.base.errors import InputError
    from stages.base.files import read_json

    found = read_json(folder / "config.json").get("max_position_embeddings")
    if not isinstance(found, int):
        raise InputError(f"{folder / 'config.json'}: no `max_position_embeddings`; give a model's folder")
    return found


def _say_leakage(read: Sequence["Exchange | Comparison"]) -> None:
    """Test questions of which a row holds a run of words, or the whole, if tasks have been built here."""
    import pyarrow.parquet as pq

    from stages.base.artifacts import TASKS
    from stages.evaluation.overlap.corpora import batches_of
    from stages.evaluation.overlap.index import segments_of
    from stages.evaluation.overlap.search import Rules, search

    asked: dict[str, str] = {}
    for path in sorted(Path(TASKS).glob("*/questions.parquet")):
        for row in pq.read_table(path, columns=["id", "split", "question"]).to_pylist():
            if row["split"] != "development":
                asked[f"{path.parent.name}/{row['id']}"] = row["question"]
    if not asked:
        print("leakage into the tests: no task is built here yet (`dvc repro task`)")
        return
    rows = ((str(n), "", "", " ".join([_prompt(one), *_answers(one)])) for n, one in enumerate(read, 1))
    rules = Rules(ngram=RUN, share_ngram=RUN, span=RUN)
    found = search(segments_of(batches_of(rows), FEWEST), list(asked.values()), [""] * len(asked), rules)
    hits = [
        f"row {match.place.document} and {name}"
        for name, match in zip(asked, found, strict=True)
        if match.ngram and match.place
    ]
    print(f"test questions of which {RUN} words, or the whole, are in a row: {len(hits):,}")
    for hit in hits[:SHOWN]:
        print(f"  {hit}")


def _spread(values: Sequence[int]) -> str:
    ordered = sorted(values)
    middle, high = ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    return f"{ordered[0]:,} to {ordered[-1]:,}, median {middle:,}, 95 % up to {high:,}"
