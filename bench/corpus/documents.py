"""Real texts for the benchmarks: `python bench/corpus/documents.py 20000 [out.parquet]`; all benchmarks share them.

The documentation of every installed package, rendered and extracted by the project's own stages, and, where the
reference data lies beside the project, its pages, articles, passages and dialogues. Texts are distinct and in an order
by their hash, so that any first n are a mixture. Where more are asked for than there are, the rest is recombined:
paragraphs of real texts in a new order; `recombined` in the URL says so.
"""

import argparse
import gzip
import hashlib
import json
import lzma
import os
import random
import re
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from stages.corpus.sources.raw import Raw

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
SCHEMA = pa.schema([("id", pa.string()), ("url", pa.string()), ("text", pa.string())])
CACHE = ROOT / ".trainyard" / "bench"
MIN_CHARACTERS = 200


def extracted(pages: list[tuple[str, bytes]]) -> list[tuple[str, str]]:
    from stages.corpus.extract import extract_text

    texts = []
    for url, html in pages:
        try:
            texts.append((url, extract_text(html, url, "volume")))
        except Exception:  # a page that breaks the parser is no document
            continue
    return texts


def package_pages(max_chars: int) -> list["Raw"]:
    """The documentation of every installed distribution and of the standard library, by URL."""
    from stages.base.errors import InputError
    from stages.corpus.package_docs import locate
    from stages.corpus.package_docs.collect import PackageDocsParams, choose, rendered

    roots = {}
    for name in [locate.STDLIB, *sorted({found.metadata["Name"] for found in metadata.distributions()})]:
        try:
            package = locate.locate(name)
        except InputError:  # no Python files
            continue
        roots.setdefault(package.root, package)
    params = PackageDocsParams(
        packages=[locate.STDLIB], max_pages=10**9, min_chars=300, max_chars=max_chars, max_unparsable=1.0
    )
    return list(rendered(choose(list(roots.values()), params, 0)[0]))


def reference_pages(folder: Path) -> Iterator[tuple[str, bytes]]:
    for name, opener in (("aeb_public.jsonl.gz", gzip.open), ("trafilatura_eval.jsonl.xz", lzma.open)):
        path = folder / "extraction" / name
        if path.is_file():
            with opener(path, "rt", encoding="utf-8") as lines:
                for line in lines:
                    row = json.loads(line)
                    yield row["url"], row["html"].encode("utf-8", "ignore")


def reference_texts(folder: Path) -> Iterator[tuple[str, str]]:
    """(name, text) of what is prose already."""

    def rows(name: str) -> Iterator[dict]:
        if (folder / name).is_file():
            with gzip.open(folder / name, "rt", encoding="utf-8") as lines:
                yield from map(json.loads, lines)

    for part in ("valid", "test"):
        path = folder / "posttraining" / "wikitext2" / f"{part}.txt.gz"
        if path.is_file():
            text = gzip.decompress(path.read_bytes()).decode("utf-8")
            articles = re.split(r"\n(?= = [^=\n]+ = \n)", text)
            yield from ((f"wikitext2/{part}/{number}", text) for number, text in enumerate(articles))
    for number, row in enumerate(rows("posttraining/hh/harmless-base-test.jsonl.gz")):
        yield f"hh/{number}", row["chosen"].strip()
    for number, row in enumerate(rows("alpaca_eval/text_sample.jsonl.gz")):
        for key, value in sorted(row.items()):
            if isinstance(value, str) and key not in ("dataset", "instruction"):
                yield f"alpaca_eval/{number}/{key}", f"{row['instruction']}\n\n{value}"
    for number, row in enumerate(rows("posttraining/contam/contam-1.4b/boolq.jsonl.gz")):
        yield f"boolq/{number}", f"{row['title']}\n\n{row['passage']}"


def real_texts(workers: int) -> dict[str, str]:
    """text → URL, each text once."""
    folder = Path(os.environ.get("TRAINYARD_REFERENCE", ROOT.parent / "shared" / "reference"))
    found: dict[str, str] = {}
    with ProcessPoolExecutor(workers) as pool:
        waiting, batch = [], []
        for page in [*reference_pages(folder), *((page.url, page.html) for page in package_pages(2400))]:
            batch.append(page)
            if len(batch) == 64:
                waiting.append(pool.submit(extracted, batch))
                batch = []
        waiting.append(pool.submit(extracted, batch))
        for future in waiting:
            for url, text in future.result():
                found.setdefault(text, url)
    for name, text in reference_texts(folder):
        found.setdefault(text, f"https://reference.trainyard.invalid/{name}")
    return {text: url for text, url in found.items() if len(text) >= MIN_CHARACTERS}


def recombined(texts: list[str], count: int) -> Iterator[tuple[str, str]]:
    """`count` texts of as many paragraphs as a real one has, drawn from all of them."""
    generator = random.Random(0)
    paragraphs = [paragraph for text in texts for paragraph in text.split("\n\n")]
    for number in range(count):
        size = generator.choice(texts).count("\n\n") + 1
        text = "\n\n".join(generator.choice(paragraphs) for _ in range(size))
        yield f"https://recombined.trainyard.invalid/{number}", text


def pool_of_texts(cache: Path) -> Path:
    """Every real text there is, as parquet in `cache`; made once."""
    path = cache / "real.parquet"
    if not path.is_file():
        found = sorted(real_texts(os.cpu_count() or 1).items(), key=lambda item: _digest(item[0]))
        _write(path, [(url, text) for text, url in found])
    return path


def documents(n: int, cache: Path = CACHE) -> Path:
    """A parquet of `n` distinct texts (columns id, url, text), made once and kept in `cache`.

    The folder `cache` is to be one that git ignores.
    """
    path = cache / f"documents_{n}.parquet"
    if path.is_file():
        return path
    table = pq.read_table(pool_of_texts(cache))
    rows = list(zip(table["url"].to_pylist()[:n], table["text"].to_pylist()[:n], strict=True))
    rows += recombined([text for _, text in rows], n - len(rows))
    _write(path, rows)
    return path


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _write(path: Path, rows: list[tuple[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    ids = [_digest(f"{url}\0{text}")[:16] for url, text in rows]
    columns = [ids, [url for url, _ in rows], [text for _, text in rows]]
    temporary = path.with_suffix(f".{os.getpid()}.partial")
    pq.write_table(pa.Table.from_arrays([pa.array(column) for column in columns], schema=SCHEMA), temporary)
    temporary.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("documents", type=int)
    parser.add_argument("out", type=Path, nargs="?")
    arguments = parser.parse_args()
    path = documents(arguments.documents)
    if arguments.out:
        shutil.copyfile(path, arguments.out)
    table = pq.read_table(path)
    real = sum("//recombined." not in url for url in table["url"].to_pylist())
    characters = sum(map(len, table["text"].to_pylist()))
    print(f"{arguments.out or path}: {table.num_rows:,} documents, {real:,} of them real, {characters:,} characters")


if __name__ == "__main__":
    main()
