"""Instructions and preferences in the formats that people have them in, told from a file's first row.

| format | instructions | preferences |
|---|---|---|
| own | `prompt`, `response` | `prompt`, `chosen`, `rejected` |
| alpaca | `instruction`, `input`, `output` (Taori et al. 2023) | |
| sharegpt | `conversations` of `from`, `value` | |
| gsm8k | `question`, `answer` (Cobbe et al. 2021) | |
| messages | `messages` of `role`, `content` | `chosen`, `rejected` as messages, `prompt` or not (UltraFeedback) |
| transcript | | `chosen`, `rejected` as texts of "Human:" and "Assistant:" turns (Anthropic's HH) |

Rows come from a dataset of the Hugging Face hub, or from a file: JSON Lines, a JSON list or Parquet; the first two may
be compressed (`.gz`, `.bz2`, `.xz`, `.zst`).
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

from pydantic import Field

from stages.base import hub
from stages.base.compressed import bare_suffix, read_whole
from stages.base.conversation import Message, text_of
from stages.base.errors import InputError
from stages.base.files import json_lines, unique_names
from stages.base.hub import HubDataset
from stages.base.params import Section

ROLES = {
    "system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant",
    "chatgpt": "assistant", "bing": "assistant", "model": "assistant",
}  # fmt: skip
TURN = re.compile(r"(?:^|\n\n)(Human|Assistant): ?")  # of a transcript
NAMED = 20  # of the rows that can't be used, in the record
EXTRA = ("id", "split", "entity", "attributes")
INVISIBLE = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\x00"))


@dataclass(frozen=True)
class Row:
    """An object of the file; `place` is its file and line, or row."""

    place: str
    number: int  # from 1
    values: dict[str, Any]

    def text(self, key: str, default: str | None = None) -> str:
        """The string at `key`. Raises InputError if it is no string, or missing or blank without a default."""
        value = self.values.get(key)
        value = default if value is None else value
        if value is None:
            raise InputError(f"{self.place}: `{key}` is missing or empty")
        return self.checked(key, value, blank=default is not None)

    def name(self, default: str) -> str:
        """Its `id`, a text or a whole number, as published sets have them."""
        value = self.values.get("id")
        return str(value) if type(value) is int else self.text("id") if value is not None else default

    def texts(self, key: str) -> list[str]:
        """The list of strings at `key`, by default empty."""
        value = self.values.get(key)
        value = [] if value is None else value
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise InputError(f"{self.place}: `{key}` must be a list of strings")
        return value

    def checked(self, key: str, value: Any, blank: bool = False) -> str:
        """A text that has something to see, without NUL and whole in Unicode."""
        if not isinstance(value, str):
            raise InputError(f"{self.place}: `{key}` must be a string, not {value!r:.60}")
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise InputError(f"{self.place}: `{key}` holds half of a surrogate pair, which is no text") from None
        if "\0" in value:
            raise InputError(f"{self.place}: `{key}` holds a NUL character, which is no text")
        if not blank and not value.translate(INVISIBLE).strip():
            raise InputError(f"{self.place}: `{key}` is missing or empty")
        return value

    def conversation(self, key: str, role: str = "role", content: str = "content") -> list[Message]:
        """The messages at `key`. Raises InputError naming the turn that is no message, is empty or out of order."""
        value = self.values.get(key)
        if not isinstance(value, list) or not value:
            raise InputError(f"{self.place}: `{key}` must be a list of messages")
        found: list[Message] = []
        for turn, entry in enumerate(value, 1):
            where = f"{key}[{turn}]"
            if not isinstance(entry, Mapping) or role not in entry or content not in entry:
                raise InputError(f"{self.place}: `{where}` must have `{role}` and `{content}`")
            said = ROLES.get(str(entry[role]).lower())
            if said is None:
                raise InputError(f"{self.place}: `{where}` is of {entry[role]!r:.40}; known: {', '.join(ROLES)}")
            found.append({"role": said, "content": self.checked(f"{where}.{content}", entry[content])})
        return self.in_order(key, found)

    def in_order(self, key: str, messages: list[Message]) -> list[Message]:
        """Raises InputError for a conversation that isn't (system), user, assistant, user … up to an answer."""
        spoken = messages[1:] if messages and messages[0]["role"] == "system" else messages
        for turn, message in enumerate(spoken):
            wanted = ("user", "assistant")[turn % 2]
            if message["role"] != wanted:
                place = turn + 1 + len(messages) - len(spoken)
                raise InputError(
                    f"{self.place}: `{key}[{place}]` is the {message['role']}'s where the {wanted}'s turn is; a "
                    "conversation is user and assistant in turn, a system message before it or none"
                )
        if not spoken or spoken[-1]["role"] != "assistant":
            raise InputError(f"{self.place}: `{key}` must end with an answer of the assistant")
        return messages


@dataclass(frozen=True)
class Exchange:
    """A conversation up to a user's message, and its answer."""

    asked: list[Message]
    answer: str

    @property
    def prompt(self) -> str:
        """The conversation as one text."""
        return text_of(self.asked)

    @property
    def messages(self) -> list[Message]:
        """Empty where a single message of a user says it all."""
        return [] if len(self.asked) == 1 and self.asked[0]["role"] == "user" else self.asked


@dataclass(frozen=True)
class Comparison:
    """Two answers to one conversation."""

    asked: list[Message]
    chosen: str
    rejected: str

    @property
    def exchange(self) -> Exchange:
        return Exchange(self.asked, self.chosen)


class Tolerance(Section):
    """What may be wrong with a file or a dataset."""

    max_drop: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Highest share of the rows that can't be used and are left out, named in the record; 0: the first is an error."""


T = TypeVar("T")


@dataclass(frozen=True)
class Format(Generic[T]):
    """How a row is read: the keys that tell it, those that it may have beside them, and the reader.

    other: whether more keys are let go by, as published sets have columns of all kinds.
    """

    name: str
    keys: tuple[str, ...]
    read: Callable[[Row], T]
    extra: tuple[str, ...] = ()
    tells: Callable[[Mapping[str, Any]], bool] = field(default=lambda values: True)
    other: bool = True


def _user(text: str) -> list[Message]:
    return [{"role": "user", "content": text}]


def _exchange(messages: Sequence[Message]) -> Exchange:
    return Exchange(list(messages[:-1]), messages[-1]["content"])


def _alpaca(row: Row) -> Exchange:
    given = row.text("input", "")
    instruction = row.text("instruction")
    return Exchange(_user(f"{instruction}\n\n{given}" if given.strip() else instruction), row.text("output"))


def _pair(row: Row, chosen: Exchange, rejected: Exchange) -> Comparison:
    if chosen.asked != rejected.asked:
        raise InputError(f"{row.place}: `chosen` and `rejected` answer different conversations")
    return Comparison(chosen.asked, chosen.answer, rejected.answer)


def _compared_messages(row: Row) -> Comparison:
    """With the conversation in both, or only the answer in each and `prompt`, a text or messages, beside them."""
    prompt = row.values.get("prompt")
    if isinstance(prompt, list):
        both = {key: [*prompt, *row.values[key]] for key in ("chosen", "rejected") if isinstance(row.values[key], list)}
        return _whole(Row(row.place, row.number, {**row.values, **both}))
    if all(isinstance(row.values[key], list) and len(row.values[key]) == 1 for key in ("chosen", "rejected")):
        asked = _user(row.text("prompt"))
        chosen, rejected = (_only_answer(row, key) for key in ("chosen", "rejected"))
        return Comparison(asked, chosen, rejected)
    pair = _whole(row)
    if prompt is not None and not _is_of(row.text("prompt", ""), [message["content"] for message in pair.asked]):
        raise InputError(f"{row.place}: `prompt` isn't what `chosen` answers; remove the one that is wrong")
    return pair


def _whole(row: Row) -> Comparison:
    return _pair(row, _exchange(row.conversation("chosen")), _exchange(row.conversation("rejected")))


def _is_of(prompt: str, asked: Sequence[str]) -> bool:
    """Whether a prompt is a message of a conversation, or holds the last one: within a template, say. White space and
    a prompt of nothing else don't count."""
    told = " ".join(prompt.split())
    said = [" ".join(text.split()) for text in asked]
    return not told or told in said or said[-1] in told


def _only_answer(row: Row, key: str) -> str:
    """The text of the single message at `key`, which must be the assistant's."""
    message = row.values[key][0]
    if not isinstance(message, Mapping) or not {"role", "content"} <= set(message):
        raise InputError(f"{row.place}: `{key}[1]` must have `role` and `content`")
    if ROLES.get(str(message["role"]).lower()) != "assistant":
        raise InputError(f"{row.place}: `{key}[1]` is the only message and must be the assistant's")
    return row.checked(f"{key}[1].content", message["content"])


def _transcript(row: Row, key: str) -> Exchange:
    text = row.text(key)
    parts = TURN.split(text)
    if parts[0].strip() or len(parts) < 3:
        raise InputError(f'{row.place}: `{key}` must begin with "Human:"')
    messages: list[Message] = [
        {"role": "user" if who == "Human" else "assistant", "content": row.checked(key, said.strip())}
        for who, said in zip(parts[1::2], parts[2::2], strict=True)
    ]
    return _exchange(row.in_order(key, messages))


def _is_transcript(values: Mapping[str, Any]) -> bool:
    return isinstance(values["chosen"], str) and "prompt" not in values


def _of_messages(values: Mapping[str, Any]) -> bool:
    return isinstance(values["chosen"], list)


INSTRUCTIONS: tuple[Format[Exchange], ...] = (
    Format("messages", ("messages",), lambda row: _exchange(row.conversation("messages")), EXTRA),
    Format(
        "sharegpt", ("conversations",),
        lambda row: _exchange(row.conversation("conversations", "from", "value")), EXTRA,
    ),
    Format("alpaca", ("instruction", "output"), _alpaca, ("input", *EXTRA)),
    Format(
        "gsm8k", ("question", "answer"), lambda row: Exchange(_user(row.text("question")), row.text("answer")), EXTRA,
    ),
    Format(
        "own", ("prompt", "response"), lambda row: Exchange(_user(row.text("prompt")), row.text("response")), EXTRA,
        other=False,
    ),
)  # fmt: skip
PREFERENCES: tuple[Format[Comparison], ...] = (
    Format("messages", ("chosen", "rejected"), _compared_messages, ("prompt", "id"), _of_messages),
    Format(
        "transcript", ("chosen", "rejected"),
        lambda row: _pair(row, _transcript(row, "chosen"), _transcript(row, "rejected")), ("id",), _is_transcript,
    ),
    Format(
        "own", ("prompt", "chosen", "rejected"),
        lambda row: Comparison(_user(row.text("prompt")), row.text("chosen"), row.text("rejected")), ("id",),
        lambda values: isinstance(values["chosen"], str) or not isinstance(values["chosen"], list), other=False,
    ),
)  # fmt: skip


def format_of(rows: Sequence[Row], known: Sequence[Format[T]]) -> Format[T]:
    """The format of a file, told by its first row. Raises InputError that lists the formats."""
    first = rows[0]
    for one in known:
        if set(one.keys) <= set(first.values) and one.tells(first.values):
            return one
    wanted = "; ".join(f"{' and '.join(f'`{key}`' for key in one.keys)} ({one.name})" for one in known)
    has = ", ".join(f"`{key}`" for key in first.values) or "nothing"
    raise InputError(f"{first.place}: of no known format, it has {has}; known: {wanted}")


def read_as(one: Format[T], row: Row) -> T:
    """Raises InputError naming the row and what is wrong with it; a misspelt key of our own formats is wrong too."""
    known = [*one.keys, *one.extra]
    if not one.other and (unknown := sorted(set(row.values) - set(known))):
        raise InputError(f"{row.place}: unknown key `{unknown[0]}`; known: {', '.join(known)}")
    if missing := next((key for key in one.keys if row.values.get(key) is None), None):
        raise InputError(f"{row.place}: `{missing}` is missing or empty")
    return one.read(row)


def each(rows: Sequence[Row], read: Callable[[Row], T], refused: list[str] | None) -> list[T]:
    """What is read of each row. `refused` takes what is wrong with those that can't be used; None: the first is
    raised, an InputError."""
    found = []
    for row in rows:
        try:
            found.append(read(row))
        except InputError as error:
            if refused is None:
                raise
            refused.append(str(error))
    return found


def check_refused(count: int, refused: Sequence[str], max_drop: float) -> None:
    """Raises InputError that names the first of the refused rows where they are a larger share of `count`."""
    if refused and (len(refused) > max_drop * count or len(refused) == count):
        more = f" ({len(refused)} of {count} rows can't be used; `max_drop` allows {max_drop:.1%})" if max_drop else ""
        raise InputError(f"{refused[0]}{more}")


def read_rows(path: Path) -> list[Row]:
    """The objects of a file. Raises InputError for one that can't be read or has no rows, and for a row that is no
    object."""
    return _some(_values(path), str(path))


def dataset_rows(dataset: HubDataset) -> list[Row]:
    """The rows of a dataset. Raises InputError as `hub.read_rows` does, and for one without rows."""
    listed = enumerate(hub.read_rows(dataset), 1)
    return _some(((number, f"{dataset.place}: row {number}", row) for number, row in listed), dataset.place)


def _some(found: Iterable[tuple[int, str, Any]], place: str) -> list[Row]:
    """A null says as much as no key: in a table, a column that only some rows have is null in the others."""
    rows = []
    for number, where, values in found:
        if not isinstance(values, dict):
            raise InputError(f"{where}: must be an object, not {values!r:.60}")
        rows.append(Row(where, number, {key: value for key, value in values.items() if value is not None}))
    if not rows:
        raise InputError(f"{place}: no rows; docs/alignment.md has the formats")
    return rows


def _values(path: Path) -> Iterator[tuple[int, str, Any]]:
    """(Number, place, value) of each row."""
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            listed = pq.read_table(path).to_pylist()
        except FileNotFoundError:
            raise InputError(f"{path}: not found") from None
        except (OSError, ValueError, OverflowError, pa.ArrowException) as error:  # a text or a time that is none, too
            raise InputError(f"{path}: can't be read: {' '.join(str(error).split())[:200]}") from None
        for number, values in enumerate(listed, 1):
            yield number, f"{path}: row {number}", values
    elif bare_suffix(path.name) == ".json":
        yield from _listed(path)
    else:
        for number, values in json_lines(path):
            yield number, f"{path}:{number}", values


def _listed(path: Path) -> Iterator[tuple[int, str, Any]]:
    """Of a JSON list; a file of one object a line that is called .json is read as lines."""
    content = read_whole(path)
    if not content.lstrip().startswith(b"["):
        for number, values in json_lines(path):
            yield number, f"{path}:{number}", values
        return
    try:
        listed = json.loads(content.decode("utf-8"), object_pairs_hook=unique_names)
    except UnicodeDecodeError as error:
        wrong = f"byte {content[error.start]:#04x}, as in Latin-1"
        raise InputError(f"{path}: not a readable UTF-8 file ({wrong}); save it as UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON: {error}") from None
    for number, values in enumerate(listed, 1):
        yield number, f"{path}: entry {number}", values
