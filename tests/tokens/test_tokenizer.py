"""The stage on a small mixture: what it writes, that it is bounded and seeded, and what it refuses."""

import hashlib
import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tokenizers import Tokenizer

from stages.base import schemas, tables
from stages.tokens import tokenizer as stage
from stages.tokens.measures import token_bytes
from stages.tokens.page import HARD, coloured, visible
from stages.tokens.tokenizer import choose
from stages.tokens.vocabulary import train_bpe
from tests.tokens.test_vocabulary import TEXTS

PARAMS = {
    "vocab_size": 384,
    "pretokenizer": "gpt2",
    "max_bytes": 20000,
    "measured_documents": 30,
    "compare": ["code", "gpt2"],
}
HOSTILE = "<script>alert(1)</script> & \"quoted\" 'text' \u202e\x00 " + "</div>" * 3


def table(texts: list[str]) -> pa.Table:
    columns = [
        [f"{number:016x}" for number in range(len(texts))],
        [f"source{number % 2}" for number in range(len(texts))],
        [("<b>code</b>", "prose")[number % 2] for number in range(len(texts))],
        texts,
        [1.0] * len(texts),
    ]
    return pa.table(dict(zip(schemas.MIXED.names, columns, strict=True)), schema=schemas.MIXED)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("data/corpus/mix").mkdir(parents=True)
    write_params(PARAMS)
    tables.write_table("data/corpus/mix/train.parquet", table(TEXTS * 3), schemas.MIXED)
    tables.write_table("data/corpus/mix/validation.parquet", table([HOSTILE, *TEXTS[:40]]), schemas.MIXED)
    return tmp_path


def write_params(section: dict) -> None:
    Path("params.yaml").write_text(json.dumps({"corpus": {"seed": 1}, "tokens": {"tokenizer": section}}))


def digests() -> dict[str, str]:
    files = [*Path("data/tokens/tokenizer").iterdir(), Path("reports/tokenizer.html")]
    return {path.as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_stage_writes_tokenizer_figures_and_page(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.main()
    first = digests()
    assert {Path(name).name for name in first} == {
        "tokenizer.json", "tokenizer_config.json", "metrics.json", "record.json", "tokenizer.html",
    }  # fmt: skip
    figures = json.loads(Path("data/tokens/tokenizer/metrics.json").read_text())
    assert figures["vocab_size"] == 384 and figures["bytes_per_token"] > 1.3
    assert figures["bytes_per_token_as_code"] > 1 and "bytes_per_token_as_gpt2" not in figures
    tokenizer = Tokenizer.from_file("data/tokens/tokenizer/tokenizer.json")
    assert len(tokenizer.encode("The heron").ids) < 9
    monkeypatch.setenv("TRAINYARD_WORKERS", "1")
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    stage.main()
    assert digests() == first


def test_only_the_seeded_subset_is_learned_from(project: Path) -> None:
    write_params(PARAMS | {"max_bytes": 500, "compare": []})
    stage.main()
    sizes = np.array([len(text.encode()) for text in TEXTS * 3])
    seed = json.loads(Path("data/tokens/tokenizer/record.json").read_text())["seed"]
    chosen = choose(sizes, 500, seed)
    assert 0 < len(chosen) < 10
    expected = train_bpe([(TEXTS * 3)[number] for number in chosen], 384, "gpt2").to_str()
    assert Path("data/tokens/tokenizer/tokenizer.json").read_text() == expected + "\n"


def test_the_subset_is_seeded_and_bounded() -> None:
    sizes = np.full(100, 4)
    chosen = choose(sizes, 100, 7).tolist()
    assert len(chosen) == 25 and chosen == sorted(chosen) == choose(sizes, 100, 7).tolist()
    assert chosen != choose(sizes, 100, 8).tolist()
    assert choose(sizes, 10**9, 7).tolist() == list(range(100)) and len(choose(sizes, 1, 7)) == 1


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_needs_nothing_else_and_runs_nothing(project: Path) -> None:
    tables.write_table("data/corpus/mix/validation.parquet", table([HOSTILE, HOSTILE]), schemas.MIXED)
    tables.write_table("data/corpus/mix/train.parquet", table([HOSTILE] * 50), schemas.MIXED)  # whole words as tokens
    stage.main()
    page = Path("reports/tokenizer.html").read_text()
    found = _Text()
    found.feed(page)
    assert not found.tags & {"script", "img", "iframe", "b>"}
    assert not re.search(r"(src|href)=\"(?!data:)", page) and "@import" not in page and "url(" not in page
    assert "<script>alert(1)</script>" in found.text and "\u202e" not in page and "\x00" not in page
    assert "U+202E" in found.text and "<b>code</b>" in found.text
    assert "prefers-color-scheme: dark" in page


def test_the_coloured_text_is_the_text() -> None:
    tokenizer = train_bpe(TEXTS, 448, "gpt2")
    shown = coloured(tokenizer, token_bytes(tokenizer), HARD + TEXTS[0])
    parts = [bytes.fromhex(span["text"]) if span["hex"] else None for span in shown["spans"]]
    assert any(parts) and shown["bytes"] == len((HARD + TEXTS[0]).encode())
    colours = [span["colour"] for span in shown["spans"]]
    assert all(one != other for one, other in itertools.pairwise(colours))
    assert len(colours) == shown["tokens"]
    assert visible("a\tb\n\u200d ", False) == "a⇥\tb↵\nU+200D "


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"vocab_size": 1000}, r"tokens\.tokenizer\.vocab_size.*multiple of 64"),
        ({"vocab_size": 256}, r"tokens\.tokenizer\.vocab_size.*320"),
        ({"vocab_size": 2097216}, r"tokens\.tokenizer\.vocab_size.*2097152"),
        ({"pretokenizer": "gpt5"}, r"tokens\.tokenizer\.pretokenizer.*'gpt2'"),
        ({"compare": ["gpt5"]}, r"tokens\.tokenizer\.compare"),
        ({"max_bytes": 0}, r"tokens\.tokenizer\.max_bytes"),
    ],
)
def test_bad_params_are_named(project: Path, change: dict, names: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_params(PARAMS | change)
    with pytest.raises(SystemExit) as exit:
        stage.main()
    assert exit.value.code == 2
    assert re.search(names, capsys.readouterr().err)
    assert not Path("data/tokens/tokenizer").exists() and not Path("reports/tokenizer.html").exists()


@pytest.mark.parametrize("name", ["train", "validation"])
@pytest.mark.parametrize("texts", [[], ["", ""]])
def test_an_empty_corpus_is_named(
    project: Path, name: str, texts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    tables.write_table(f"data/corpus/mix/{name}.parquet", table(texts), schemas.MIXED)
    with pytest.raises(SystemExit):
        stage.main()
    assert f"data/corpus/mix/{name}.parquet: no text" in capsys.readouterr().err
