"""`trainyard inspect FILE`: what the pipeline understands of a file of instructions, preferences or votes, before
training; or of the first rows of a dataset of the hub.
"""

import argparse
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.base.terminal import one_line, shown_json

if TYPE_CHECKING:
    from stages.alignment.data.formats import Comparison, Exchange, Format, Row
    from stages.alignment.data.votes import VotedPairs
    from stages.alignment.leakage import HeldOut

EXAMPLE = """\
examples:
  trainyard inspect preferences.jsonl
  trainyard inspect owner/dataset --split train --json
"""
RULES = (13, 5)  # `ngram` and `min_words` of alignment.leakage, where no params.yaml is
SHOWN = 5  # of the rows with a fault, and of those that overlap a test
HUB_NAME, HUB_ROWS = re.compile(r"[\w.-]+/[\w.-]+"), 1000


def register(subparsers: argparse._SubParsersAction) -> None:
    command = subparsers.add_parser(
        "inspect",
        help="what is understood of a file of instructions, preferences or votes",
        epilog=EXAMPLE,
    )
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
    add("--json", action="store_true", help="the same as JSON")
    command.set_defaults(run=run)


class Told:
    """What was found: lines as they come, or at the end the values that they were made of."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.values: dict[str, Any] = {}

    def say(self, line: str, **values: Any) -> None:
        self.values |= values
        if not self.as_json:
            print(line)


def run(options: argparse.Namespace) -> int:
    told = Told(options.json)
    status = _inspect(options, told)
    if options.json:
        print(shown_json(told.values))
    return status


def _inspect(options: argparse.Namespace, told: Told) -> int:
    """Exit status."""
    from stages.alignment.data.votes import is_votes

    rows = _rows(options.file, options.split)
    if is_votes(rows[0].values):
        return _say_votes(rows, options, told)
    kind, form = _kind(rows)
    read, faults = _understood(rows, kind, form)
    understood = max(0, len(rows) - len(faults))
    told.say(
        f"{options.file}: {kind}, format {form.name} ({', '.join(form.keys)})",
        file=str(options.file), kind=kind, format=form.name, keys=list(form.keys),
    )  # fmt: skip
    told.say(
        f"rows: {len(rows):,}, {understood:,} understood, {len(faults):,} refused",
        rows=len(rows), understood=understood,
    )  # fmt: skip
    _say_ignored(rows, form, told)
    _say_what_is_said(read, options, told)
    return _say_refused(faults, told)


def _say_what_is_said(read: Mapping[int, "Exchange | Comparison"], options: argparse.Namespace, told: Told) -> None:
    if read:
        said = list(read.values())
        _say_turns(said, told)
        _say_doubles(said, told)
        _say_lengths(said, options.model, told)
        _say_leakage(read, told)


def _say_refused(faults: Sequence[str], told: Told) -> int:
    """Status of the command."""
    told.values["refused"] = list(faults)
    for fault in faults[:SHOWN]:
        told.say(f"refused: {fault}")
    if len(faults) > SHOWN:
        told.say(f"refused: {len(faults) - SHOWN:,} more; `max_drop` of a source is the share that may be left out")
    return 2 if faults else 0


def _say_votes(rows: Sequence["Row"], options: argparse.Namespace, told: Told) -> int:
    from stages.alignment.data.formats import Comparison
    from stages.alignment.data.votes import SKIPPED, measure_votes, preferences_of, read_votes
    from stages.base.conversation import messages_of
    from stages.base.errors import InputError

    told.say(f"{options.file}: votes of people on pairs of answers", file=str(options.file), kind="votes")
    try:
        voted = read_votes(rows, "row")
    except InputError as error:
        return _say_refused([str(error)], told)
    found, drops = preferences_of(voted)
    without = ", ".join(f"{count:,} {reason}" for reason, count in sorted(drops.items())) or "0"
    told.say(
        f"rows: {len(rows):,}; {voted.revoted:,} replaced by a later vote of the same annotator",
        rows=len(rows), replaced=voted.revoted,
    )  # fmt: skip
    told.say(
        f"pairs: {len(voted.pairs):,}, {len(found):,} with a preference; without: {without}",
        pairs=len(voted.pairs), preferences=len(found), without=dict(drops),
    )  # fmt: skip
    skips = Counter(vote.annotator for vote in voted.votes if vote.error == SKIPPED)
    cast = Counter(vote.annotator for vote in voted.votes) - skips
    told.values["annotators"] = {name: {"votes": cast[name], "skipped": skips[name]} for name in cast | skips}
    for annotator in sorted(cast | skips, key=lambda name: -cast[name]):
        skipped = f", {skips[annotator]:,} skipped" if skips[annotator] else ""
        told.say(f"  {annotator}: {cast[annotator]:,} votes{skipped}")
    numbers = measure_votes(voted)
    shares = {name: value for name in ("agreement", "alpha") if (value := numbers.get(name)) is not None}
    listed = ", ".join(f"{name} {value:.2f}" for name, value in shares.items())
    told.say(f"between annotators: {listed or 'no pair has two votes'}", between_annotators=shares)
    _say_beside_annotators(voted, told)
    pairs = {
        number: Comparison(messages or [*messages_of(pair.prompt)], pair.output_a, pair.output_b)
        for number, (pair, messages) in enumerate(zip(voted.pairs, voted.messages, strict=True), 1)
    }
    _say_what_is_said(pairs, options, told)
    return 0


def _say_beside_annotators(voted: "VotedPairs", told: Told) -> None:
    """How those who voted for `alignment.annotate` stand to people, where they have voted on the same pairs."""
    from stages.alignment.data.votes import VOTE, against_people
    from stages.alignment.preferences import ANNOTATED
    from stages.base.tables import read_table

    path = Path(ANNOTATED, "votes.parquet")
    numbers = against_people(voted, read_table(path, VOTE)) if path.exists() else {}
    if not numbers.get("pairs"):
        return
    shares = ("agreement_with_people", "bias", "variance", "people_variance")
    words = [f"{name} {value:.1%}" for name in shares if (value := numbers[name]) is not None]
    for name, unit in (("usd_per_1000", "$"), ("seconds_per_1000", "s")):
        words += [f"{value:.2f} {unit} for 1,000 votes"] if (value := numbers[name]) else []
    told.say(
        f"beside the annotators of {path}, on {numbers['pairs']:,} pairs of both: {', '.join(words) or 'no vote'}",
        beside_annotators=numbers,
    )


def _rows(file: Path, split: str) -> list["Row"]:
    from stages.alignment.data.formats import dataset_rows, read_rows
    from stages.base.hub import HubDataset

    if file.exists() or not HUB_NAME.fullmatch(str(file)) or file.suffix in (".jsonl", ".json", ".parquet"):
        return read_rows(file)
    every = dict.fromkeys(("config", "revision", "data_files"))
    return dataset_rows(HubDataset(path=".", name=str(file), split=split, limit=HUB_ROWS, **every))


def _kind(rows: Sequence["Row"]) -> tuple[str, "Format"]:
    """Preferences and instructions share no set of keys."""
    from stages.alignment.data.formats import INSTRUCTIONS, PREFERENCES, format_of
    from stages.base.errors import InputError

    if {"chosen", "rejected"} <= set(rows[0].values):
        return "preferences", format_of(rows, PREFERENCES)
    try:
        return "instructions", format_of(rows, INSTRUCTIONS)
    except InputError as error:
        raise InputError(f"{error}; or `chosen` and `rejected` for preferences") from None


def _understood(
    rows: Sequence["Row"], kind: str, form: "Format"
) -> tuple[dict[int, "Exchange | Comparison"], list[str]]:
    """(Number of a row → what it says, what the stage refuses). The stage refuses also what is understood: an id or a
    pair that stands twice, equal answers, an unknown split, a prompt in two splits."""
    from stages.alignment import instructions, preferences
    from stages.alignment.data.formats import read_as
    from stages.base.errors import InputError

    read: dict[int, Exchange | Comparison] = {}
    for row in rows:
        with suppress(InputError):
            read[row.number] = read_as(form, row)
    faults: list[str] = []
    try:
        if kind == "preferences":
            preferences.from_rows(rows, "row", faults)
        else:
            instructions.from_rows(rows, None, 0, "row", faults)
    except InputError as error:
        faults.append(str(error))
    return read, faults


def _say_ignored(rows: Sequence["Row"], form: "Format", told: Told) -> None:
    other = Counter(key for row in rows for key in row.values if key not in (*form.keys, *form.extra))
    if form.other and other:
        named = ", ".join(f"`{key}`" for key in other)
        shown = named.encode("utf-8", "backslashreplace").decode()  # half a surrogate pair can't be shown
        told.say(f"not read: {shown}", not_read=list(other))


def _answers(one: "Exchange | Comparison") -> list[str]:
    from stages.alignment.data.formats import Comparison

    return [one.chosen, one.rejected] if isinstance(one, Comparison) else [one.answer]


def _prompt(one: "Exchange | Comparison") -> str:
    from stages.base.conversation import text_of

    return text_of(one.asked)


def _say_turns(read: Sequence["Exchange | Comparison"], told: Told) -> None:
    turns = [sum(message["role"] == "user" for message in one.asked) for one in read]
    systems = sum(one.asked[0]["role"] == "system" for one in read)
    told.say(
        f"turns of the user: {_spread(turns)}; {systems:,} with a system message",
        turns=_quantiles(turns), with_system_message=systems,
    )  # fmt: skip


def _say_doubles(read: Sequence["Exchange | Comparison"], told: Told) -> None:
    from stages.alignment.leakage import words_of

    whole = Counter((_prompt(one), *_answers(one)) for one in read)
    doubled = sum(count - 1 for count in whole.values())
    same = sum(len(answers) == 2 and answers[0].strip() == answers[1].strip() for answers in map(_answers, read))
    prompts = {_prompt(one) for one in read}
    alike = len(prompts) - len({tuple(words_of(prompt)) for prompt in prompts})
    told.say(
        f"prompts: {len(prompts):,} different, {alike:,} of these but for case and punctuation those of another; "
        f"{doubled:,} rows say what another says; {same:,} pairs of equal answers",
        prompts=len(prompts), prompts_alike=alike, doubled_rows=doubled, equal_answers=same,
    )  # fmt: skip


def _say_lengths(read: Sequence["Exchange | Comparison"], folder: Path | None, told: Told) -> None:
    from stages.lm.chat import load_tokenizer

    folder = folder or _base()
    if folder is None:
        words = [len(text.split()) for one in read for text in _answers(one)]
        told.say(
            f"words of an answer: {_spread(words)} (no model here to count tokens with; --model FOLDER)",
            answer_words=_quantiles(words),
        )
        return
    tokenizer, limit = load_tokenizer(folder), _context(folder)
    whole = [max(len(tokenizer.encode_example(one.asked, text)[0]) for text in _answers(one)) for one in read]
    told.say(f"tokens of an exchange, by {folder}: {_spread(whole)}", exchange_tokens=_quantiles(whole))
    long = sum(length > limit for length in whole)
    told.say(
        f"longer than its context of {limit:,}: {long:,} ({long / len(read):.1%}); they are left out, up to "
        "`max_drop` of alignment.sft, reward and dpo",
        context=limit, too_long=long,
    )  # fmt: skip
    prompts = [len(tokenizer.encode_prompt(one.asked)) for one in read]
    full = sum(length >= limit for length in prompts)
    told.say(
        f"tokens of a prompt: {_spread(prompts)}; {full:,} leave no room for an answer, and none is sampled of those",
        prompt_tokens=_quantiles(prompts), no_room=full,
    )  # fmt: skip


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


def _say_leakage(read: Mapping[int, "Exchange | Comparison"], told: Told) -> None:
    """Rows that hold a question of a task that has been built here: those that alignment.leakage leaves out."""
    from stages.alignment.leakage import Search, Trained, counts

    questions = _tested()
    if questions is None:
        told.say("leakage of the tests: no task is built here yet (`dvc repro task`)")
        return
    rows = [Trained(str(number), one.asked, tuple(_answers(one))) for number, one in read.items()]
    leaks = Search(questions, *_rules()).leaks(rows)
    by_test = ", ".join(f"{name} {count:,}" for name, count in counts(leaks).items())
    told.values["leakage"] = {"questions": len(questions), "tasks": dict(counts(leaks))}
    told.values["leakage"]["rows"] = sorted({int(rows[leak.row].id) for leak in leaks})
    told.say(
        f"leakage of {len(questions):,} test questions: {len({leak.row for leak in leaks}):,} rows hold one"
        f"{f' ({by_test})' if leaks else ''}"
    )
    for leak in leaks[:SHOWN]:
        told.say(f"  row {rows[leak.row].id} holds {leak}: {one_line(leak.words)[:80]}")


def _tested() -> list["HeldOut"] | None:
    """Of the tasks of the pipeline; None where none is built."""
    import pyarrow.parquet as pq

    from stages.alignment.leakage import held_out
    from stages.base.artifacts import TASKS
    from stages.base.files import read_json

    listed = Path(TASKS, "items.json")
    paths = [Path(TASKS, key, "questions.parquet") for key in (read_json(listed) if listed.is_file() else ())]
    built = [path for path in paths if path.is_file()]
    return held_out((row for path in built for row in pq.read_table(path).to_pylist()), ()) if built else None


def _rules() -> tuple[int, int]:
    """Words of an overlap, and of the shortest question that is looked for within others' texts."""
    from stages.base.params import PARAMS_FILE, lookup, read_params

    if not PARAMS_FILE.is_file():
        return RULES
    section = lookup(read_params(), "alignment.leakage")
    return section["ngram"], section["min_words"]


def _quantiles(values: Sequence[int]) -> dict[str, int]:
    ordered = sorted(values)
    middle, high = ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    return {"least": ordered[0], "median": middle, "p95": high, "most": ordered[-1]}


def _spread(values: Sequence[int]) -> str:
    found = _quantiles(values)
    return f"{found['least']:,} to {found['most']:,}, median {found['median']:,}, 95 % up to {found['p95']:,}"
