"""Compiles the kernels of corpus and tokens ahead of the stages that call them: `python -m stages.kernels`.

Numba compiles a kernel at its first call and keeps it on disk, by a digest of all kernels' files: a fresh clone spends
40 s on that, one core at work. Where there is a second one, `check` starts this beside the first stages. Nothing
depends on it: what isn't there yet when a stage asks for it, the stage compiles itself, and to the same code.
"""

import fcntl
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from stages.base.params import parse, read_params
from stages.base.workers import worker_count

DONE = "all"  # in the cache's folder, once everything is in it
PLAIN = (
    "The old teacher described a garden, and the sailors of the village crossed the river to see it.\n\n"
    "- Nobody sold the U.S. map for $3.50 (figure 2)... It isn't theirs! Who'd say so?\n"
)
TEXTS = [PLAIN, 8 * PLAIN, 8 * f"“{PLAIN}” – she said"]  # characters of one byte, and of more: kernels differ
HTML = f"<nav><a href=/>Home</a></nav><ul><li>{PLAIN} <b>here</b>.</ul><table><tr><td>a<td>b</table>".encode()


def start() -> None:
    """Compile in a process of its own, which may outlive this one, if it isn't done and a CPU is free for it."""
    cache = os.environ.get("NUMBA_CACHE_DIR")
    if cache and not Path(cache, DONE).exists() and worker_count() > 1:
        command = [sys.executable, "-m", "stages.kernels"]
        quiet = subprocess.DEVNULL
        subprocess.Popen(command, start_new_session=True, stdin=quiet, stdout=quiet, stderr=quiet)


def compile_corpus() -> None:
    """In the order of the stages."""
    import pyarrow as pa

    from stages.base import schemas
    from stages.corpus import decontaminate, dedup, extract, heuristics
    from stages.corpus.classifiers.folds import features
    from stages.corpus.screening import language

    values = read_params()["corpus"]
    extract.extract_text(HTML, "", values["extract"]["mode"])
    for text in TEXTS:
        language.identify(text, 2000)
    features(TEXTS, 4000, 16)
    params = parse("corpus.dedup", values["dedup"], dedup.DedupParams)
    same = dict.fromkeys(schemas.DOCUMENT.names, "") | {"links": [], "quality": 0.0}
    rows = [same | {"id": f"{n:016x}", "text_hash": f"{n:016x}", "text": text} for n, text in enumerate(2 * TEXTS)]
    documents = pa.Table.from_pylist(rows, schemas.DOCUMENT)
    with tempfile.TemporaryDirectory() as folder:
        list(dedup.deduplicate(lambda _: iter([documents]), params, seed=0, folder=Path(folder), notices={}))
    rules = parse("corpus.heuristics", values["heuristics"], heuristics.HeuristicsParams).rules["default"]
    for family in type(rules).model_fields:  # each alone: the first that drops a text is the last that sees it
        others = {name: None for name in type(rules).model_fields if name != family}
        heuristics.apply_rules(TEXTS, rules.model_copy(update=others))
    known = parse("corpus.decontaminate", values["decontaminate"], decontaminate.DecontaminateParams)
    decontaminate.contaminated(TEXTS, TEXTS, known)


def compile_tokens() -> None:
    from stages.tokens.splitter import split
    from stages.tokens.vocabulary import encode_documents, train_bpe

    split(TEXTS, "gpt2")
    for pretokenizer in ("gpt2", "cl100k"):
        encode_documents(train_bpe(TEXTS, 320, pretokenizer), TEXTS)


def main() -> None:
    os.nice(5)
    cache = Path(os.environ["NUMBA_CACHE_DIR"])
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # another one is at it
        compile_corpus()
        compile_tokens()
        (cache / DONE).touch()


if __name__ == "__main__":
    main()
