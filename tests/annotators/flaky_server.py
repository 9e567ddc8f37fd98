"""A judge on the loopback that fails as servers do, and keeps a ledger of what it did.

`python -m tests.annotators.flaky_server PORT_FILE [latency]` serves until it is ended. What happens to the n-th try of
a call is drawn from sha256(call, n): 10 % are told to wait (429), 5 % fail (500), 2 % are cut in the middle of the
reply, 2 % take eight times as long, .5 % hang. The longer output wins.
"""

import asyncio
import hashlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Script = Callable[[dict[str, Any], int], tuple[int, bytes | dict[str, Any], str]]
FATES = (("limited", 0.10), ("broken", 0.05), ("cut", 0.02), ("slow", 0.02), ("hanging", 0.005))
RETRY_AFTER_S = 0.3
SLOWER = 8


class FlakyJudge:
    """`ledger` counts tries by fate, whole replies by call, and the seconds in which the server was busy."""

    def __init__(
        self,
        latency: float,
        fates: Sequence[tuple[str, float]] = FATES,
        requests_per_second: float | None = None,
    ) -> None:
        self.latency, self.odds, self.rate = latency, fates, requests_per_second
        self.tries: dict[str, int] = {}
        self.replies: dict[str, int] = {}
        self.fates: dict[str, int] = {}
        self.busy = 0.0
        self.at_once = self.most_at_once = 0
        self.allowance = requests_per_second or 0.0
        self.refilled = time.monotonic()

    def ledger(self) -> dict[str, Any]:
        return {
            "calls": len(self.tries),
            "fates": self.fates,
            "whole_replies": sum(self.replies.values()),
            "most_replies_of_a_call": max(self.replies.values(), default=0),
            "busy_seconds": self.busy,
            "most_at_once": self.most_at_once,
        }

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has hung up
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; whether the connection stays open."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        if head.startswith("get"):
            return self._send(writer, 200, self.ledger())
        data = await reader.readexactly(int(head.split("content-length:")[1].split("\r\n")[0]))
        start = time.monotonic()
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self._answer(reader, writer, data)
        finally:
            self.at_once -= 1
            self.busy += time.monotonic() - start

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> bool:
        key = hashlib.sha256(data).hexdigest()
        self.tries[key] = self.tries.get(key, 0) + 1
        fate = self._fate(key)
        self.fates[fate] = self.fates.get(fate, 0) + 1
        if fate == "hanging":
            await reader.read()  # until the client hangs up
            return False
        await asyncio.sleep(self.latency * (SLOWER if fate == "slow" else 0.2 if fate in ("limited", "broken") else 1))
        if fate == "limited":
            return self._send(writer, 429, {"error": {"message": "slow down"}}, f"Retry-After: {RETRY_AFTER_S}\r\n")
        if fate == "broken":
            return self._send(writer, 500, {"error": {"message": "oops"}})
        reply = json.dumps(self._reply(json.loads(data))).encode()
        if fate == "cut":
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(reply)}\r\n\r\n".encode() + reply[: len(reply) // 2])
            await writer.drain()
            return False
        self.replies[key] = self.replies.get(key, 0) + 1
        return self._send(writer, 200, reply)

    def _fate(self, key: str) -> str:
        if self.rate is not None:
            now = time.monotonic()
            self.allowance = min(self.rate / 4, self.allowance + (now - self.refilled) * self.rate)
            self.refilled = now
            if self.allowance < 1:
                return "limited"
            self.allowance -= 1
            return "whole"
        drawn = int(hashlib.sha256(f"{key}{self.tries[key]}".encode()).hexdigest()[:12], 16) / 16**12
        for fate, share in self.odds:
            if drawn < share:
                return fate
            drawn -= share
        return "whole"

    def _reply(self, body: dict[str, Any]) -> dict[str, Any]:
        lines = body["messages"][0]["content"].splitlines()
        first, second = (next(len(line) for line in lines if line.startswith(f'{{"output_{k}"')) for k in (1, 2))
        return {
            "id": "r",
            "object": "chat.completion",
            "model": "flaky-2026-01",
            "choices": [
                {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "12"[second > first]}}
            ],
            "usage": {"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101},
        }

    @staticmethod
    def _send(writer: asyncio.StreamWriter, status: int, content: bytes | dict[str, Any], headers: str = "") -> bool:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        head = f"HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n{headers}"
        writer.write(head.encode() + b"\r\n" + data)
        return True


class Scripted(FlakyJudge):
    """Answers what the script says of (request, number of the try): status, content, further headers."""

    def __init__(self, script: Script) -> None:
        super().__init__(latency=0.0)
        self.script, self.asked = script, list[dict[str, Any]]()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> bool:
        key = data.decode()
        self.tries[key] = self.tries.get(key, 0) + 1
        self.asked.append(json.loads(data))
        return self._send(writer, *self.script(json.loads(data), self.tries[key]))


def serving(judge_loop: asyncio.AbstractEventLoop, judge: FlakyJudge) -> str:
    """The URL of a judge that a running loop of another thread serves from now on."""
    serve = asyncio.start_server(judge.serve, "127.0.0.1", 0)
    server = asyncio.run_coroutine_threadsafe(serve, judge_loop).result()
    return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


async def main(port_file: Path, latency: float) -> None:
    judge = FlakyJudge(latency)
    server = await asyncio.start_server(judge.serve, "127.0.0.1", 0)
    port_file.write_text(str(server.sockets[0].getsockname()[1]))
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.25))
