"""Answers as they came, in an append-only file a model, so that a rerun asks only for what is missing.

A line is a checksum and a JSON object. A process that is killed leaves at most one torn line; one that was damaged
since doesn't match its checksum. Both are found and their items asked again, as is an answer that isn't one to what is
asked: of another shape, or with numbers that are no log-probabilities.
"""

import fcntl
import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from stages.base.errors import ResourceError
from stages.evaluation.scoring.requests import Choices, Generate, Generated, Likelihood, Rolling, Truncation, is_logprob

Found = tuple[Likelihood, ...] | Generated | Rolling
Shape = int | type[Generated] | type[Rolling]
"""Of an answer: the number of choices, or its type."""
CHECK = 16  # hex digits of a line's sha256


def request_digest(request: Choices | Generate | str, how: Truncation | int) -> str:
    """sha256 of all that makes the answer of one model: a request and its truncation, or a text and its stride."""
    content = request if isinstance(request, str) else [type(request).__name__, vars(request)]
    text = json.dumps([content, how], ensure_ascii=True, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def answer_key(model: str, task: str, protocol: str, item: str, request: str) -> str:
    """model and request are digests; the request's stands for the task's wording, the examples and their number."""
    return hashlib.sha256("\0".join((model, task, protocol, item, request)).encode()).hexdigest()


class AnswerStore:
    """key → answer of one model. One process at a time; `with` closes it.

    Raises ResourceError where the file is in use or can't be written.
    """

    def __init__(self, path: Path, model: str) -> None:
        self.path, self.model = path, model
        self.damaged: list[int] = []  # numbers of lines, from 1
        self._found: dict[str, Found] = {}
        self._lines: dict[str, int] = {}  # where each that was read stands
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b")
        except OSError as error:
            raise ResourceError(
                f"{path}: answers can't be kept here ({error.strerror}); choose another --out"
            ) from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise ResourceError(
                f"{path}: another process is writing answers here; wait for it, or choose another --out"
            ) from None
        except OSError:
            pass  # a file system without locks
        self._read()

    def __enter__(self) -> "AnswerStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._found)

    def get(self, key: str, shape: Shape) -> Found | None:
        """The answer; one of another shape is damaged, and forgotten."""
        found = self._found.get(key)
        if found is None or (type(found) if isinstance(found, Generated | Rolling) else len(found)) == shape:
            return found
        self.damaged.append(self._lines[key])
        del self._found[key]
        return None

    def add(self, answers: Mapping[str, tuple[Found, Mapping[str, Any]]]) -> None:
        """key → (answer, what a reader of the file may want to know: task, item, …); on the disk on return."""
        lines = []
        for key, (found, about) in answers.items():
            kind = "choices" if not isinstance(found, Generated | Rolling) else type(found).__name__.lower()
            text = json.dumps({"key": key, **about, kind: found}, ensure_ascii=True, sort_keys=True)
            lines.append(f"{hashlib.sha256(text.encode()).hexdigest()[:CHECK]} {text}\n")
        try:
            self._file.write("".join(lines).encode())
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise ResourceError(f"{self.path}: {error.strerror}; free space and rerun: what is there is kept") from None
        self._found |= {key: found for key, (found, _) in answers.items()}

    def _read(self) -> None:
        self._file.seek(0)
        content = self._file.read()
        for number, line in enumerate(content.splitlines(keepends=True), 1):
            check, _, text = line.rstrip(b"\n").partition(b" ")
            if not line.endswith(b"\n") or hashlib.sha256(text).hexdigest()[:CHECK].encode() != check:
                self.damaged.append(number)
                continue
            try:
                row = json.loads(text)
                self._found[row["key"]] = _answer(row)
                self._lines[row["key"]] = number
            except (ValueError, KeyError, TypeError, RecursionError):  # whole, but not as this version writes them
                self.damaged.append(number)
        if content and not content.endswith(b"\n"):
            self._file.write(b"\n")  # so that the next line is whole
            self._file.flush()


def _answer(row: Mapping[str, Any]) -> Found:
    """Raises ValueError, KeyError or TypeError for a row that is no answer."""
    if "generated" in row:
        text, tokens, ended = row["generated"]
        return Generated(_typed(text, str), _typed(tokens, int), _typed(ended, bool))
    if "rolling" in row:
        nats, tokens, size = row["rolling"]
        if not math.isfinite(_typed(nats, float)):
            raise ValueError(nats)
        return Rolling(nats, _typed(tokens, int), _typed(size, int))
    return tuple(_likelihood(*one) for one in _typed(row["choices"], list))


def _likelihood(nats: Any, tokens: Any, greedy: Any) -> Likelihood:
    if not is_logprob(nats, _typed(tokens, int)):
        raise ValueError(nats)
    return Likelihood(nats, tokens, _typed(greedy, bool))


def _typed(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value
