"""Training and encoding beside Hugging Face tokenizers, rustbpe and tiktoken: `python bench/tokens/tokenizer.py`.

Real documents of `bench/corpus/documents.py`, the same for all, read a batch at a time. Every run is a process of its
own with one thread; CPU seconds of the work itself, after warm-up. Medians of 3, the libraries taking turns.
Training: peak memory above what the process held before (imports, compiled code, a batch of text), and in all.
Encoding: every library has the vocabulary that ours learned; the digest of all ids says whether they agree. tiktoken
answers with lists, or with arrays by way of `encode_to_numpy`; the faster one counts.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
PEER = os.environ.get("TRAINYARD_PEERS_PYTHON", str(ROOT / ".venv-peers" / "bin" / "python"))
TRAINERS = ("ours", "tokenizers", "rustbpe")
ENCODERS = ("ours", "tokenizers", "tiktoken", "tiktoken numpy")
SPECIALS = 5
WARM = ["Words, 1 2 3, to load what is loaded lazily and to compile what is compiled; don't count. " + "x" * 99] * 3
# The pattern as tiktoken ships it for its own gpt2 encoding: possessive, hence fast in its engine.
PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"


def batches(source: Path, megabytes: float) -> Iterator[list[str]]:
    """Lists of 256 texts, until there are as many megabytes."""
    size = 0
    for batch in pq.ParquetFile(source).iter_batches(256, columns=["text"]):
        texts = batch["text"].to_pylist()
        yield texts
        size += sum(len(text.encode()) for text in texts)
        if size > megabytes * 1e6:
            return


def train_ours(texts: Iterator[list[str]], size: int) -> str:
    from stages.tokens.vocabulary import train_bpe

    return train_bpe((text for batch in texts for text in batch), size, "gpt2").to_str()


def train_tokenizers(texts: Iterator[list[str]], size: int) -> str:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=size - SPECIALS,
        min_frequency=2,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.to_str()


def train_rustbpe(texts: Iterator[list[str]], size: int) -> str:
    import rustbpe

    pattern = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    tokenizer = rustbpe.Tokenizer()
    tokenizer.train_from_iterator((text for batch in texts for text in batch), size - SPECIALS, pattern=pattern)
    return json.dumps({"model": {"merges": [list(rank) for rank, _ in tokenizer.get_mergeable_ranks()][256:]}})


def encode_ours(tokenizer: str) -> Callable[[list[str]], Any]:
    from stages.tokens.encoder import Encoder

    encoder = Encoder(tokenizer)
    return lambda texts: encoder.encode(texts).documents()


def encode_tokenizers(tokenizer: str) -> Callable[[list[str]], Any]:
    from tokenizers import Tokenizer

    made = Tokenizer.from_str(tokenizer)
    made.encode_special_tokens = True
    return lambda texts: [found.ids for found in made.encode_batch_fast(texts, add_special_tokens=False)]


def encode_tiktoken(tokenizer: str, numpy: bool) -> Callable[[list[str]], Any]:
    import tiktoken

    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    byte_of = {chr(byte if byte in printable else 256 + others.index(byte)): byte for byte in range(256)}
    vocabulary = json.loads(tokenizer)["model"]["vocab"]
    ranks = {bytes(byte_of[character] for character in token): rank for token, rank in vocabulary.items()}
    made = tiktoken.Encoding("ours", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})
    if numpy:
        return lambda texts: [made.encode_to_numpy(text, disallowed_special=()) for text in texts]
    return lambda texts: [made.encode_ordinary(text) for text in texts]


def memory(name: str) -> float:
    """MiB of VmRSS or VmHWM, its peak."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024


def work_train(name: str, source: Path, megabytes: float, size: int) -> dict[str, Any]:
    train = {"ours": train_ours, "tokenizers": train_tokenizers, "rustbpe": train_rustbpe}[name]
    train(iter([WARM]), 320)
    for _ in batches(source, 2):
        pass
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
    before, start = memory("VmRSS"), time.process_time()
    made = train(batches(source, megabytes), size)
    seconds, peak = time.process_time() - start, memory("VmHWM")
    merges = json.loads(made)["model"]["merges"]
    digest = hashlib.sha256(json.dumps(merges).encode()).hexdigest()[:12]
    return {"seconds": seconds, "above": peak - before, "peak": peak, "digest": digest, "made": made}


def work_encode(name: str, source: Path, megabytes: float, tokenizer: str) -> dict[str, Any]:
    if name == "ours":
        encode = encode_ours(tokenizer)
    elif name == "tokenizers":
        encode = encode_tokenizers(tokenizer)
    else:
        encode = encode_tiktoken(tokenizer, name.endswith("numpy"))
    encode(WARM)
    seconds, size, tokens, digest = 0.0, 0, 0, hashlib.sha256()
    for texts in batches(source, megabytes):
        size += sum(len(text.encode()) for text in texts)
        start = time.process_time()
        made = encode(texts)
        seconds += time.process_time() - start
        for ids in made:
            tokens += len(ids)
            digest.update(json.dumps([int(number) for number in ids]).encode())
    return {"seconds": seconds, "size": size, "tokens": tokens, "digest": digest.hexdigest()[:12]}


def run(kind: str, name: str, *arguments: object) -> dict[str, Any]:
    """A piece of work in a process of its own, ours in this environment, a peer's in the peers'."""
    python = sys.executable if name == "ours" else PEER
    one = {
        "OMP_NUM_THREADS": "1",
        "NUMBA_NUM_THREADS": "1",
        "RAYON_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    command = [python, __file__, "--work", kind, name, *map(str, arguments)]
    done = subprocess.run(command, env=os.environ | one, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def alternate(kind: str, names: tuple[str, ...], *arguments: object) -> dict[str, list[dict[str, Any]]]:
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for _ in range(3):
        for name in names:
            rows[name].append(run(kind, name, *arguments))
            print(f"{kind} {name}: {rows[name][-1]['seconds']:.2f} s", file=sys.stderr)
    return rows


def median(rows: list[dict[str, Any]], key: str) -> float:
    return statistics.median(row[key] for row in rows)


def compare(source: Path, megabytes: float, size: int, folder: Path) -> None:
    trained = alternate("train", TRAINERS, source, megabytes, size)
    ours = trained["ours"]
    print(f"\ntraining, {size:,} tokens, {megabytes:g} MB\n")
    print("| library | CPU s (range) | ours is | MiB above (in all) | ours takes | merges |\n|---|---|---|---|---|---|")
    for name, rows in trained.items():
        seconds = [row["seconds"] for row in rows]
        same = {row["digest"] for row in rows} == {row["digest"] for row in ours}
        print(
            f"| {name} | {median(rows, 'seconds'):.2f} ({min(seconds):.2f}–{max(seconds):.2f}) "
            f"| {median(rows, 'seconds') / median(ours, 'seconds'):.1f}x faster "
            f"| {median(rows, 'above'):.0f} ({median(rows, 'peak'):.0f}) "
            f"| {median(ours, 'above') / median(rows, 'above'):.2f}x | {'the same' if same else 'others'} |"
        )
    path = folder / f"{size}.json"
    path.write_text(ours[0]["made"])
    encoded = alternate("encode", ENCODERS, source, megabytes, path)
    ours = encoded["ours"]
    print(f"\nencoding, {size:,} tokens, {ours[0]['size'] / ours[0]['tokens']:.2f} bytes a token\n")
    print("| library | MB/s a core (range) | ours is | ids |\n|---|---|---|---|")
    for name, rows in encoded.items():
        speeds = [row["size"] / row["seconds"] / 1e6 for row in rows]
        print(
            f"| {name} | {statistics.median(speeds):.1f} ({min(speeds):.1f}–{max(speeds):.1f}) "
            f"| {median(rows, 'seconds') / median(ours, 'seconds'):.2f}x faster "
            f"| {'the same' if rows[0]['digest'] == ours[0]['digest'] else 'DIFFER'} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=40)
    parser.add_argument("--vocabularies", type=int, nargs="+", default=[8192, 32768])
    parser.add_argument("--work", nargs=5, metavar=("KIND", "NAME", "SOURCE", "MEGABYTES", "OF"))
    arguments = parser.parse_args()
    if arguments.work:
        kind, name, source, megabytes, of = arguments.work
        if kind == "train":
            print(json.dumps(work_train(name, Path(source), float(megabytes), int(of))))
        else:
            print(json.dumps(work_encode(name, Path(source), float(megabytes), Path(of).read_text())))
        return
    from bench.corpus.documents import documents

    source = documents(20_000)
    with tempfile.TemporaryDirectory() as folder:
        for size in arguments.vocabularies:
            compare(source, arguments.megabytes, size, Path(folder))


if __name__ == "__main__":
    main()
