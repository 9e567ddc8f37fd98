"""How fast is overlap over a gigabyte of text, in how much memory, and is anything lost?

    python bench/evaluation/overlap.py --work FOLDER [--megabytes 1000]

The corpus is made once in FOLDER: the text files of the installed packages, their lines shuffled by seed into new
documents until there is enough. 2,000 passages of 60 words are planted, half of them disguised (ligatures and spaces
without width, full width, soft hyphens, other case, punctuation and white space). Then, each in a process of its own
with one thread: reading alone, building an index, a lookup of all passages and of 10,000 that are not there, and one
look without an index.
"""

import argparse
import json
import random
import site
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

WORDS = 60
PASSAGES, ABSENT = 2000, 10_000
TEXT = {".py", ".txt", ".md", ".rst", ".pyi", ".json", ".h", ".html"}
SYLLABLES = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]


def passage(rng: random.Random) -> str:
    """Words that no file has, so that what is found is what was planted."""
    return " ".join("".join(rng.choices(SYLLABLES, k=rng.randint(2, 4))) for _ in range(WORDS))


def disguised(text: str, number: int) -> str:
    """One of five copies that look like the text, in turn."""
    wide = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
    return (
        text.replace("fi", "ﬁ").replace("a", "\u200ba"),
        text.translate(wide).replace(" ", "\u3000"),
        "\u00ad".join(text),
        text.upper().replace(" ", " — "),
        text.title().replace(" ", "\n\t"),
    )[number % 5]


def package_lines() -> Iterator[str]:
    for folder in site.getsitepackages():
        for path in sorted(Path(folder).rglob("*")):
            if path.suffix in TEXT and path.is_file() and path.stat().st_size < 4 << 20:
                yield from path.read_text(encoding="utf-8", errors="replace").splitlines()


def make_corpus(folder: Path, megabytes: int) -> Path:
    path = folder / f"corpus_{megabytes}.jsonl"
    if path.exists():
        return path
    rng = random.Random(0)
    lines, size = [], 0
    for line in package_lines():
        if line.strip():
            lines.append(line.strip())
            size += len(line)
        if size > min(megabytes, 250) << 20:
            break
    planted = [passage(rng) for _ in range(PASSAGES)]
    documents = megabytes * 1_000_000 // 5000
    hosts = dict(zip(rng.sample(range(documents), PASSAGES), range(PASSAGES), strict=True))
    partial = path.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as file:
        written, number = 0, 0
        while written < megabytes * 1_000_000:
            start = rng.randrange(len(lines))
            body = lines[start : start + rng.randint(40, 160)]
            rng.shuffle(body)
            if number in hosts:
                which = hosts[number]
                body.insert(len(body) // 2, planted[which] if which % 2 else disguised(planted[which], which // 2))
            text = "\n".join(body)
            written += len(text.encode())
            file.write(json.dumps({"id": f"document {number}", "text": text}) + "\n")
            number += 1
        if number <= max(hosts):
            sys.exit("documents came out longer than expected: lower the number of hosts")
    partial.replace(path)
    return path


def peak_mib() -> float:
    """Resident memory of this process at its highest; ru_maxrss would hold what the parent had when it started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def work(what: str, path: Path, index: Path) -> None:
    """One measured part: prints its figures as JSON."""
    from stages.evaluation.overlap.corpora import corpus_files, read_corpus
    from stages.evaluation.overlap.index import Index, segments_of, write_index
    from stages.evaluation.overlap.search import Rules, search
    from stages.evaluation.overlap.words import words_of

    words_of(["compiled and loaded"])
    rng = random.Random(0)
    planted, absent = [passage(rng) for _ in range(PASSAGES)], [passage(rng) for _ in range(ABSENT)]
    batches = read_corpus(corpus_files([str(path)]), "text", lambda _: None)
    start, cpu = time.monotonic(), time.process_time()
    told: dict[str, object] = {}
    if what == "read":
        told["bytes"] = sum(table["text"].nbytes for table in batches)
    elif what == "build":
        told = write_index(index, batches, 5, {"corpus": path.name})
    else:
        segments = Index(index) if what == "look up" else segments_of(batches, 5)
        asked = planted + absent
        found = search(segments, asked, [""] * len(asked), Rules())
        told = {
            "planted found dirty": sum(match.state == "dirty" for match in found[:PASSAGES]),
            "absent not clean": sum(match.state != "clean" for match in found[PASSAGES:]),
        }
    told |= {
        "wall_seconds": time.monotonic() - start,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mib": peak_mib(),
    }
    print(json.dumps(told))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--part", choices=["read", "build", "look up", "one look"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    path = make_corpus(options.work, options.megabytes)
    index = options.work / f"index_{options.megabytes}"
    if options.part:
        work(options.part, path, index)
        return
    size = path.stat().st_size
    for part in ("read", "build", "look up", "one look"):
        if part == "build" and index.exists():
            import shutil

            shutil.rmtree(index)
        arguments = ["--work", str(options.work), "--megabytes", str(options.megabytes), "--part", part]
        done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=True)
        told = json.loads(done.stdout)
        speed = "" if part == "look up" else f", {size / 1e6 / told['cpu_seconds']:.1f} MB/s a core"
        rest = {name: value for name, value in told.items() if name.startswith(("planted", "absent", "words"))}
        took = f"{told['cpu_seconds']:.1f} CPU s ({told['wall_seconds']:.1f} s)"
        print(f"{part}: {took}{speed}, peak {told['peak_mib']:,.0f} MiB {rest or ''}", flush=True)
    kept = sum(file.stat().st_size for file in index.rglob("*") if file.is_file())
    print(f"corpus {size / 1e6:,.0f} MB of JSON Lines, index {kept / 1e6:,.0f} MB")


if __name__ == "__main__":
    main()
