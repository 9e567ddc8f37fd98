"""Templates of a task's file, rendered over the columns of a document as the LM Evaluation Harness renders them: Jinja
with strict names, final newlines kept and a filter `regex_replace`; here in a sandbox with bounds on time and memory.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError

from stages.base.errors import InputError
from stages.base.params import nearest
from stages.lm.template import MEMORY, Sandbox, bounded, is_unicode

LONGEST = 1 << 23  # characters of a rendered text
NAME = re.compile(r"[A-Za-z_]\w*")
UNDEFINED = re.compile(r"'(\w+)' is undefined")

Columns = Mapping[str, Any]


@cache
def _environment() -> Sandbox:
    environment = Sandbox(undefined=StrictUndefined, keep_trailing_newline=True)
    environment.filters["regex_replace"] = _regex_replace
    return environment


def _regex_replace(text: str, pattern: str, repl: str, count: int = 0) -> str:
    return re.sub(pattern, repl, text, count=count)


@cache
def _compiled(source: str) -> Template:
    return _environment().from_string(source)


@contextmanager
def rendering(where: str, columns: Columns) -> Iterator[None]:
    """What a document's templates raise becomes an InputError that names `where`; time and memory are bounded."""
    try:
        with bounded():
            yield
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    except Exception as error:  # whatever a stranger's program raises
        reason = " ".join(str(error).split())[:200]
        if missing := UNDEFINED.match(reason):
            reason = f"no column `{missing[1]}`{nearest(missing[1], list(columns))}"
        elif not isinstance(error, TemplateError):
            reason = f"{type(error).__name__}: {reason}"
        raise InputError(f"{where}: {reason}") from None


def render(source: str, columns: Columns) -> str:
    """The text of a template; within `rendering`."""
    text = _compiled(source).render(columns)
    if len(text) > LONGEST:
        raise TemplateError(f"{len(text):,} characters; at most {LONGEST:,} are taken")
    if not is_unicode(text):
        raise TemplateError("it writes half of a surrogate pair")
    return text


def render_key(key: str, source: str, columns: Columns) -> str:
    """`render` of the template that stands at a key of the file; what fails says at which."""
    try:
        return render(source, columns)
    except MemoryError:
        raise TemplateError(f"{key}: it takes more than {MEMORY >> 20} MiB of memory") from None
    except TemplateError as error:
        raise TemplateError(f"{error}" if UNDEFINED.match(str(error)) else f"{key}: {error}") from None
    except Exception as error:  # whatever a stranger's program raises
        raise TemplateError(f"{key}: {type(error).__name__}: {error}") from None


def value_of(key: str, source: str | int, columns: Columns, *, choosing: bool) -> Any:
    """What a column or a template gives, as lm-eval reads it: a column's value as it is, a template's text; digits are
    an index where there are choices (`choosing`). Raises InputError for one word that is no column.
    """
    if isinstance(source, int):
        return source
    if source in columns:
        return columns[source]
    if NAME.fullmatch(source):
        raise InputError(f"{key}: no column `{source}`{nearest(source, list(columns))}")
    text = render_key(key, source, columns)
    return int(text) if choosing and text.isdecimal() and text.isascii() else text


def literal(text: str) -> Any:
    """A list that a template wrote as text, or the text itself where it is none."""
    if len(text) < 2 or text[0] != "[" or text[-1] != "]":
        return text
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text
