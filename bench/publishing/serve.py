"""The endpoint under load: `trainyard serve` in a process of its own, asked through HTTP.

python bench/publishing/serve.py FOLDER                         1, 16 and 50 clients; time to the first token
python bench/publishing/serve.py FOLDER --beside llama          llama.cpp's server after it, on its own 4-bit weights
python bench/publishing/serve.py FOLDER --beside transformers   its `generate`, one by one and 16 at a time
python bench/publishing/serve.py FOLDER --beside llama transformers --clients 1 16    both in one run

Peers run in the peers' environment (TRAINYARD_PEERS_PYTHON, or .venv-peers), on one thread, as ours. Prints one JSON
line a measurement; tokens are counted by the servers' own usage.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp

ROOT = Path(__file__).resolve().parents[2]
PEERS = os.environ.get("TRAINYARD_PEERS_PYTHON") or str(ROOT / ".venv-peers" / "bin" / "python")
WORDS = [
    "which",
    "province",
    "river",
    "town",
    "does",
    "the",
    "people",
    "of",
    "Velmora",
    "trade",
    "lie",
    "beside",
    "and",
    "why",
]
TRANSFORMERS = """
import json, sys, time, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
torch.set_num_threads(1)
folder, questions, tokens = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
texts = [tokenizer.apply_chat_template([{"role": "user", "content": q}], tokenize=False, add_generation_prompt=True)
         for q in questions]
for size in (1, 16):
    start, count = time.perf_counter(), 0
    for first in range(0, len(texts), size):
        batch = tokenizer(texts[first:first + size], return_tensors="pt", padding=True, add_special_tokens=False)
        with torch.inference_mode():
            out = model.generate(**batch, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False)
        count += (out.shape[1] - batch.input_ids.shape[1]) * len(out)
    seconds = time.perf_counter() - start
    print(json.dumps({"who": "transformers", "clients": size, "tokens_per_second": round(count / seconds, 1)}))
"""


def questions(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(6, 24))) + "?" for _ in range(count)]


async def one(session: aiohttp.ClientSession, url: str, model: str, question: str, tokens: int) -> dict[str, float]:
    body = {
        "model": model, "messages": [{"role": "user", "content": question}], "max_tokens": tokens, "temperature": 0,
        "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip
    start, first, count = time.perf_counter(), 0.0, 0
    async with session.post(f"{url}/v1/chat/completions", json=body) as reply:
        assert reply.status == 200, await reply.text()
        async for line in reply.content:
            if line.startswith(b"data: {"):
                chunk = json.loads(line[6:])
                if not first and chunk["choices"] and chunk["choices"][0]["delta"].get("content"):
                    first = time.perf_counter() - start
                count = (chunk.get("usage") or {}).get("completion_tokens", count)
    return {"first": first, "tokens": count, "seconds": time.perf_counter() - start}


async def load(url: str, model: str, clients: int, asked: list[str], tokens: int) -> dict[str, Any]:
    """So many clients at a time, each of which asks its next question once it has its answer."""
    waiting, found = list(asked), []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=900)) as session:

        async def client() -> None:
            while waiting:
                found.append(await one(session, url, model, waiting.pop(), tokens))

        start = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(clients)))
        seconds = time.perf_counter() - start
    firsts = sorted(answer["first"] for answer in found if answer["first"])
    return {
        "clients": clients,
        "answered": len(found),
        "asked": len(asked),
        "tokens": int(sum(answer["tokens"] for answer in found)),
        "tokens_per_second": round(sum(answer["tokens"] for answer in found) / seconds, 1),
        "first_token_ms_median": round(1000 * statistics.median(firsts)),
        "first_token_ms_most": round(1000 * firsts[-1]),
    }


@contextmanager
def ours(folder: Path, scratch: Path) -> Iterator[tuple[str, str]]:
    command = [
        sys.executable,
        "-m",
        "stages.cli",
        "serve",
        str(folder),
        "--port",
        "0",
        "--folder",
        str(scratch / "votes"),
    ]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    url = process.stdout.readline().rpartition(" ")[2].strip().removesuffix("/v1")
    try:
        yield url, folder.resolve().name
    finally:
        process.terminate()
        process.wait()


@contextmanager
def llama() -> Iterator[tuple[str, str]]:
    port = 18_117
    process = subprocess.Popen(
        [PEERS, str(ROOT / "bench/real/judge.py"), str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None and process.stdin is not None
    process.stdout.readline()
    try:
        yield f"http://127.0.0.1:{port}", "SmolLM2-135M-Instruct-Q4_1"
    finally:
        process.stdin.close()
        process.wait()


async def ready(url: str, model: str, seconds: float = 120) -> None:
    """Wait until the model is loaded: some servers listen before it is."""
    end = time.monotonic() + seconds
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                await one(session, url, model, "Where?", 1)
                return
            except (aiohttp.ClientError, AssertionError):
                if time.monotonic() > end:
                    raise
            await asyncio.sleep(0.5)


def measure(who: str, place: tuple[str, str], options: argparse.Namespace) -> None:
    url, model = place
    asyncio.run(ready(url, model))
    alone = None
    for clients in options.clients:
        count = {1: options.alone, 16: options.alone * 8}.get(clients, clients)
        found = asyncio.run(load(url, model, clients, questions(count, clients), options.tokens))
        alone = alone or found["tokens_per_second"]
        print(json.dumps({"who": who, **found, "times_one": round(found["tokens_per_second"] / alone, 2)}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokens", type=int, default=64, help="of an answer at most")
    parser.add_argument(
        "--alone", type=int, default=8, help="questions of the one client; 16 clients ask eight times as many"
    )
    parser.add_argument("--beside", choices=["llama", "transformers"], nargs="*", default=[])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16, 50])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, ours(options.folder, Path(scratch)) as place:
        measure("trainyard", place, options)
    if "llama" in options.beside:
        with llama() as place:
            measure("llama.cpp", place, options)
    if "transformers" in options.beside:
        asked = json.dumps(questions(16, 16))
        subprocess.run([PEERS, "-c", TRANSFORMERS, str(options.folder), asked, str(options.tokens)], check=True)


if __name__ == "__main__":
    main()
