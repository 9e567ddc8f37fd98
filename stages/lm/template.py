"""Chat templates: Jinja programs of strangers that come with a tokenizer, rendered in a sandbox with bounds on time and
memory. They see what transformers shows them, but for the clock: a prompt is a function of its messages.
"""

import json
import resource
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError

from stages.base.errors import InputError
from stages.lm.renderer import RenderError, rendered

LONGEST = 1 << 20  # characters of a template
SECONDS = 10  # of wall clock for one conversation; the last guard
MEMORY = 1 << 29  # bytes of address space beyond what is in use

Message = dict[str, str]


class _Generation(Extension):
    """`{% generation %}` marks answers for training in transformers; here it is as if it weren't there."""

    tags = {"generation"}  # noqa: RUF012  # as its base class declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"**"})  # computed in one C call, which no alarm can interrupt

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        raise SecurityError(f"{operator} is not allowed")


def _raise(message: str) -> None:
    raise TemplateError(message)


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)  # Jinja's own escapes HTML


class ChatTemplate:
    """A compiled template. `tokens` are the strings that it knows as bos_token, eos_token and so on; `where` names its
    file in errors. Raises InputError for one that doesn't compile.
    """

    def __init__(self, source: str, tokens: dict[str, str], where: Path) -> None:
        self.source, self.tokens, self.where = source, tokens, where
        with self._guarded():
            self._ask({"source": source, "compile": True})

    def render(self, messages: list[Message], add_generation_prompt: bool) -> str:
        """The conversation as text; thinking is switched off where a template knows of it. InputError if it fails."""
        names = {"messages": messages, "add_generation_prompt": add_generation_prompt, "enable_thinking": False}
        with self._guarded():
            return self._ask({"source": self.source, "names": self.tokens | names})

    def _ask(self, request: dict[str, Any]) -> str:
        """By this process, or by a child where other threads would share its bounds."""
        if threading.active_count() > 1:
            return rendered(request, SECONDS)
        with bounded():
            return answer(request)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever a stranger's program raises
            reason = " ".join(str(error).split())[:200]
            told = reason if isinstance(error, RenderError) else f"{type(error).__name__}: {reason}"
            raise InputError(f"{self.where}: the chat template fails ({told}); mend it there") from None


@lru_cache(maxsize=16)
def _compiled(source: str) -> Template:
    if len(source) > LONGEST:
        raise TemplateError(f"{len(source):,} characters; at most {LONGEST:,} are read")
    environment = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    return environment.from_string(source)


def answer(request: Mapping[str, Any]) -> str:
    """The text that a template, `source`, makes of `names`; "" where it is only to compile. Raises whatever it does."""
    template = _compiled(request["source"])
    if request.get("compile"):
        return ""
    text = template.render(request["names"])
    if not is_unicode(text):
        raise TemplateError("it writes half of a surrogate pair")
    return text


def is_unicode(text: str) -> bool:
    """Whether UTF-8 can hold it: no half of a surrogate pair, which JSON can bring in."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


@contextmanager
def bounded() -> Iterator[None]:
    """Raise TimeoutError after SECONDS (in the main thread, where signals arrive), MemoryError past MEMORY."""
    if sys.platform != "linux":
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise TimeoutError(f"not done after {SECONDS} s")

    alarm = threading.current_thread() is threading.main_thread()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + MEMORY
    before = signal.signal(signal.SIGALRM, stop) if alarm else None
    try:
        if soft == resource.RLIM_INFINITY or limit < soft:
            resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
        if alarm:
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
        yield
    finally:
        if alarm:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
