"""A child process that renders chat templates for a process with threads, such as `trainyard serve`.

Bounds on memory are a process's, not a thread's: set for a template, they would hold for all that others allocate
meanwhile. The child is a fresh interpreter with bounds of its own; JSON goes in and out, one line a conversation.
"""

import json
import os
import select
import subprocess
import sys
import threading
from typing import Any

CODE = "from stages.lm.renderer import serve; serve()"
GRACE = 5.0  # seconds beyond a template's own bound, for the start of the child
_CHILDREN: dict[int, "_Child"] = {}  # by the process that they belong to: a fork has none yet
_STARTING = threading.Lock()


class RenderError(Exception):
    """The child said why a template fails, or ended."""


def rendered(request: dict[str, Any], seconds: float) -> str:
    """The text of `stages.lm.template.answer(request)`, rendered elsewhere. Raises RenderError."""
    with _STARTING:
        child = _CHILDREN.setdefault(os.getpid(), _Child())
    return child.ask(request, seconds)


class _Child:
    def __init__(self) -> None:
        self._one_at_a_time = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, request: dict[str, Any], seconds: float) -> str:
        with self._one_at_a_time:
            try:
                reply = self._reply(json.dumps(request).encode() + b"\n", seconds + GRACE)
            except (OSError, ValueError):
                self._end()
                raise RenderError("MemoryError: the process that rendered it has ended") from None
        if "text" not in reply:
            raise RenderError(str(reply.get("error")))
        return str(reply["text"])

    def _reply(self, line: bytes, seconds: float) -> dict[str, Any]:
        """Raises OSError or ValueError where the child has ended, or is ended because it takes too long."""
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-c", CODE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is the parent's to handle
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], seconds)[0]:
            raise TimeoutError
        reply = json.loads(self._process.stdout.readline())
        return reply if isinstance(reply, dict) else {}

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def serve() -> None:
    """The child: answers until its parent is gone, which ends its input."""
    from stages.lm.template import answer, bounded

    for line in sys.stdin.buffer:
        try:
            with bounded():
                reply = {"text": answer(json.loads(line))}
        except Exception as error:  # whatever a stranger's program raises
            reply = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
        sys.stdout.buffer.write(json.dumps(reply).encode() + b"\n")
        sys.stdout.buffer.flush()
