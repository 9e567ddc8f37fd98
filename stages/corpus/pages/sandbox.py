"""A child process that works on hostile inputs one at a time, within bounds of memory and time.

A fault in a C parser, an endless loop or an exhausted memory costs that input and no other. The child is a fresh
interpreter that imports one module; bytes go in and out, nothing is unpickled. What becomes of an input doesn't depend
on those before it: one that kills a child that has worked already is tried once more in a fresh one.

Inputs lie in a memory file that both sides have open, and answers come back one by one: the child never waits between
two inputs, and the parent always knows which one it is at.
"""

import contextlib
import importlib
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
from array import array
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

MIB = 2**20
CHUNK_BYTES = 8 * MIB  # inputs handed over at once, or a single larger one
LAST_WORDS = 5.0  # seconds that a dying child has to write why
SIZE = 8  # bytes of a length
CODE = "from stages.corpus.pages.sandbox import serve; serve()"
NO_MEMORY = (b"memory allocation of", b"MemoryError", b"bad_alloc")  # what runtimes say on stderr before they end


class Request(NamedTuple):
    head: bytes
    body: bytes


class Lost(NamedTuple):
    """What is returned in place of an answer: the input took the child with it."""

    reason: str  # crashed, timeout, out_of_memory


class Sandbox:
    """Calls `answer(head: bytes, body: bytes) -> bytes` of a module, in a child that lives from call to call.

    Parameters: `memory_mib`: the child's address space; `seconds`: wall clock an input, against endless loops.
    """

    def __init__(self, module: str, memory_mib: int, seconds: float) -> None:
        self._module, self._memory, self._seconds = module, memory_mib, seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket
        self._answers: BinaryIO
        self._fresh = True  # the child hasn't answered yet
        self._inputs = os.fdopen(os.memfd_create("inputs"), "w+b", buffering=0)
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - the child's stderr, kept as long as this object

    def answers(self, requests: list[Request]) -> Iterator[bytes | Lost]:
        """The answer to each request, in order."""
        start = 0
        while start < len(requests):
            end, size = start, 0
            while end < len(requests) and (end == start or size + len(requests[end].body) <= CHUNK_BYTES):
                size += len(requests[end].body)
                end += 1
            yield from self._chunk(requests[start:end])
            start = end

    def close(self) -> None:
        """End the child."""
        if self._process is not None:
            self._answers.close()
            self._socket.close()
            self._process.kill()
            self._process.wait()
            self._process = None

    def _chunk(self, requests: list[Request]) -> Iterator[bytes | Lost]:
        self._inputs.seek(0)
        for request in requests:
            for part in request:
                self._inputs.write(part)
        done = 0
        while done < len(requests):
            try:
                self._hand_over(requests, done)
                while done < len(requests):
                    answer = self._receive()
                    self._fresh = False
                    yield answer
                    done += 1
            except _GoneError as gone:
                verdict = self._fresh or gone.reason == "timeout"
                self.close()
                if verdict:
                    yield Lost(gone.reason)
                    done += 1

    def _hand_over(self, requests: list[Request], first: int) -> None:
        """Tell the child the lengths of the inputs from `first` on, and where in the memory file they begin."""
        if self._process is None:
            self._start()
        offset = sum(len(part) for request in requests[:first] for part in request)
        lengths = array("Q", [offset, *(len(part) for request in requests[first:] for part in request)])
        try:
            self._socket.sendall(len(lengths).to_bytes(SIZE, "little") + lengths.tobytes())
        except OSError:
            raise _GoneError(self._cause()) from None

    def _receive(self) -> bytes:
        try:
            length = int.from_bytes(_exactly(self._answers, SIZE), "little")
            if length > self._memory * MIB:
                raise EOFError
            return _exactly(self._answers, length)
        except TimeoutError:
            raise _GoneError("timeout") from None
        except (EOFError, OSError):
            raise _GoneError(self._cause()) from None

    def _start(self) -> None:
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(self._seconds)
        self._answers = self._socket.makefile("rb")
        self._fresh = True
        self._said.seek(0)
        self._said.truncate()
        numbers = (theirs.fileno(), self._inputs.fileno(), self._memory, self._seconds)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", CODE, self._module, *map(str, numbers)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                pass_fds=[theirs.fileno(), self._inputs.fileno()],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )

    def _cause(self) -> str:
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(LAST_WORDS)
        self._said.seek(max(0, self._said.seek(0, os.SEEK_END) - 64 * 1024))
        said = self._said.read()
        return "out_of_memory" if any(words in said for words in NO_MEMORY) else "crashed"


class _GoneError(Exception):
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _exactly(stream: BinaryIO, length: int) -> bytes:
    """Raises EOFError if there is less."""
    found = stream.read(length)
    if len(found) < length:
        raise EOFError
    return found


def serve() -> None:
    """The child: answers until the parent is gone, or half of its memory is: a fresh child goes on then."""
    module, connected, inputs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    memory, seconds = int(sys.argv[4]) * MIB, float(sys.argv[5])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    logging.disable()  # on stderr only the last words of a process are wanted
    answer = importlib.import_module(module).answer
    size = os.open("/proc/self/statm", os.O_RDONLY)
    enough = (memory + _address_space(size)) / 2
    with socket.socket(fileno=connected) as connection, connection.makefile("rb") as requests:
        while True:
            try:
                count = int.from_bytes(_exactly(requests, SIZE), "little")
                offset, *lengths = array("Q", _exactly(requests, count * array("Q").itemsize))
            except (EOFError, OSError):
                return
            for head, body in zip(lengths[::2], lengths[1::2], strict=True):
                signal.setitimer(signal.ITIMER_REAL, 2 * seconds)  # ends a child whose parent was killed
                told = answer(os.pread(inputs, head, offset), os.pread(inputs, body, offset + head))
                offset += head + body
                connection.sendall(len(told).to_bytes(SIZE, "little") + told)
                signal.setitimer(signal.ITIMER_REAL, 0)
                if _address_space(size) > enough:
                    return


def _address_space(statm: int) -> int:
    """Bytes that this process has mapped."""
    return int(os.pread(statm, 100, 0).split()[0]) * resource.getpagesize()
