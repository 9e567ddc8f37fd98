"""Sources of every kind and their ingest: ids that survive repeated URLs, robots files, truth; bad input."""

import gzip
import hashlib
import json
import sys
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from stages.base import schemas
from stages.base.artifacts import PLANTED, SOURCES
from stages.base.errors import DataLossError, InputError, ParamError
from stages.base.files import read_json, write_json
from stages.base.hub import HubDataset
from stages.base.params import parse
from stages.base.progress import Progress
from stages.base.tables import read_table, table_writer, write_table
from stages.corpus import extract, ingest, source
from stages.corpus.sources import download
from stages.corpus.sources.files import SUFFIXES, read_file
from stages.corpus.sources.hub import read_hub
from stages.corpus.sources.intake import Found, Intake
from stages.corpus.sources.locations import files_at, read_addresses
from stages.corpus.sources.raw import Raw, unwrap, wrap
from stages.corpus.sources.robots import ROBOTS, Robots, robots_table
from tests.corpus.archives import http, noise, page, record, sha1

LIMIT = 1_000_000


def take(tmp_path: Path, raws: list[Raw | Robots]) -> tuple[pa.Table, pa.Table, Intake]:
    with (
        table_writer(tmp_path / "pages", schemas.PAGE) as pages,
        table_writer(tmp_path / "drops", schemas.DROP) as drops,
        Progress(None, "ingesting") as bar,
    ):
        intake = Intake(pages, drops, 50)
        intake.take("s", Found(iter(raws), "CC0-1.0", max_damaged=1), bar)
    return read_table(tmp_path / "pages", schemas.PAGE), read_table(tmp_path / "drops", schemas.DROP), intake


def test_ids_follow_the_contract_and_drops_have_reasons(tmp_path):
    raws = [
        Raw("u", b"<p>1"), Raw("u", b"<p>2", "MIT", "tdm-reservation"), Raw("v", b" \n", where="v.html@0"),
        Raw("w", b"x" * 99, where="w.html@0"), Raw("w", b"", problem="not_html", where="a@7", detail="image/png"),
    ]  # fmt: skip
    pages, drops, intake = take(tmp_path, raws)
    expected = [
        hashlib.sha256(f"s\x1f{u}".encode()).hexdigest()[:16]
        for u in ("u\x1f0", "u\x1f1", "v\x1f0", "w\x1f0", "w\x1f1")
    ]
    assert pages["id"].to_pylist() + drops["id"].to_pylist() == expected
    assert pages["licence"].to_pylist() == ["CC0-1.0", "MIT"]
    assert pages["opt_out"].to_pylist() == ["", "tdm-reservation"]
    assert drops["reason"].to_pylist() == ["empty", "too_large", "not_html"] and dict(intake.reasons) == {
        "empty": 1, "too_large": 1, "not_html": 1,
    }  # fmt: skip
    assert drops["sample"].to_pylist() == ["v.html@0", "x" * 99, "a@7: image/png"]
    assert intake.problems["too_large"] == {"count": 1, "first": ["w.html@0"]}


def test_damage_is_counted_up_to_the_bound(tmp_path):
    bad = [Raw(f"b{n}", b"", problem=problem, where=f"a@{n}") for n, problem in enumerate(["damaged", "bad_digest"])]
    assert take(tmp_path, [bad[0], Raw("u", b"<p>")])[1].num_rows == 1
    with pytest.raises(DataLossError, match=r"`s`.*max_damaged = 1.*a@1; a@0"):
        take(tmp_path, [*bad, Raw("u", b"<p>")])


def test_a_source_without_pages_is_an_error_unless_it_has_robots_files(tmp_path):
    with pytest.raises(InputError, match="source `s`"):
        take(tmp_path, [Raw("v", b"")])
    robots = [Robots("b", "old"), Robots("a", "x"), Robots("b", "new")]
    assert take(tmp_path, list(robots))[2].robots == {"b": "new", "a": "x"}


def test_memory_holds_no_corpus(tmp_path):
    """3,000 pages of 40 kB: 120 MB pass through, and what Arrow holds at any time is a few batches."""

    def endless():
        for number in range(3000):
            held.append(pa.total_allocated_bytes())
            yield Raw(f"https://a/{number}", b"<p>" + noise(number % 7, 40_000))

    held: list[int] = []
    with (
        table_writer(tmp_path / "pages", schemas.PAGE) as pages,
        table_writer(tmp_path / "drops", schemas.DROP) as drops,
        Progress(None, "ingesting") as bar,
    ):
        Intake(pages, drops, LIMIT).take("s", Found(endless()), bar)
    assert pages.rows == 3000 and max(held) < 32 * 2**20


def test_addresses_that_were_seen_take_a_few_bytes_each(tmp_path):
    """20,000 URLs of 200 characters: a dictionary of them takes 5 MB, the table of digests half of one."""

    def many():
        for number in range(20_000):
            if number == 1000:
                tracemalloc.start()
            yield Raw(f"https://a/{number:0190}", b"", problem="not_html")
        held.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        yield Raw("https://a/", b"<p>")

    held: list[int] = []
    with (
        table_writer(tmp_path / "p", schemas.PAGE) as pages,
        table_writer(tmp_path / "d", schemas.DROP) as drops,
        Progress(None, "ingesting") as bar,
    ):
        Intake(pages, drops, LIMIT).take("s", Found(many()), bar)
    assert held[0] < 2 * 2**20


def read(path: Path, limit: int = LIMIT) -> list[Raw]:
    return list(read_file(path, path.name, limit))


def test_files_of_every_kind_in_sorted_order(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.html").write_bytes(b"<p>hi</p>")
    (tmp_path / "sub/a.txt").write_text("plain <b>text</b>")
    lines = [json.dumps({"text": "one", "url": "http://x/1"}), "", json.dumps({"html": "<p>2"})]
    (tmp_path / "c.jsonl").write_text("\n".join(lines))
    pq.write_table(pa.table({"content": ["three", None], "extra": [1, 2]}), tmp_path / "d.parquet")
    (tmp_path / "notes.pdf").write_bytes(b"%PDF")
    files = files_at(tmp_path, None, SUFFIXES)
    assert list(files.values()) == ["b.html", "c.jsonl", "d.parquet", "sub/a.txt"]
    assert list(files_at(tmp_path, "**/*.[th]*", SUFFIXES).values()) == ["b.html", "sub/a.txt"]
    assert files_at(tmp_path / "b.html", None, SUFFIXES) == {tmp_path / "b.html": "b.html"}
    raws = [raw for f, name in files.items() for raw in read_file(f, name, LIMIT)]
    assert [(raw.url, raw.where) for raw in raws] == [
        ("file:///b.html", "b.html@0"), ("http://x/1", "c.jsonl:1"), ("file:///c.jsonl#3", "c.jsonl:3"),
        ("file:///d.parquet#1", "d.parquet:1"), ("file:///d.parquet#2", "d.parquet:2"),
        ("file:///sub/a.txt", "sub/a.txt@0"),
    ]  # fmt: skip
    assert [unwrap(raw.html) for raw in raws] == [None, "one", None, "three", None, "plain <b>text</b>"]
    assert raws[4].html == b"" and not any(raw.problem for raw in raws)


def test_bad_lines_are_named_and_the_others_read(tmp_path):
    bad = tmp_path / "bad.jsonl"
    lines = [
        b'{"text": "a"}',
        b'{"text": ',
        b'["list"]',
        b'{"txt": "x"}',
        b"[" * 100_000,
        b'{"text": "\xff\x00"}',
        b'{"text": "cut',
    ]
    bad.write_bytes(b"\n".join(lines))
    raws = read(bad)
    assert [raw.problem for raw in raws] == ["", "damaged", "damaged", "damaged", "damaged", "damaged", "damaged"]
    assert [raw.where for raw in raws] == [f"bad.jsonl:{n}" for n in range(1, 8)] and all(r.detail for r in raws[1:])
    bad.write_bytes(b'{"text": "' + b"x" * 200_000 + b'"}\n{"text": "b"}\n')
    assert [raw.problem for raw in read(bad, 10_000)] == ["too_large", ""]
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match=r"bad\.parquet"):
        read(tmp_path / "bad.parquet")
    with pytest.raises(InputError, match="matches no file"):
        files_at(tmp_path, "*.nothing", SUFFIXES)


def test_text_in_another_charset_is_guessed_and_remarked(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"Stra\xdfe und Caf\xe9 in der Stadt")
    raw = read(tmp_path / "a.txt")[0]
    assert unwrap(raw.html) == "Straße und Café in der Stadt" and raw.remarks == ("wrong_charset",)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"kind": "wrac", "path": "x"}, "did you mean `warc`"),
        ({"kind": "files", "path": "", "pattern": None, "licence": "x", "max_damaged": 0}, r"mine\.path"),
        ({"kind": "parquet", "pth": "x"}, "did you mean `path`"),
        ({"path": "x"}, r"mine\.kind` is missing"),
    ],
)
def test_bad_params_are_refused(values, told):
    with pytest.raises(ParamError, match=told):
        parse("corpus.sources.mine", values, source.Source)


def test_a_list_of_addresses_is_common_crawls_or_has_digests(tmp_path):
    listed = tmp_path / "warc.paths.gz"
    listed.write_bytes(gzip.compress(b"# two\ncrawl-data/a.warc.gz\n\nhttps://x.example/b.warc " + b"AB" * 32 + b"\n"))
    assert read_addresses(listed) == [
        ("https://data.commoncrawl.org/crawl-data/a.warc.gz", None),
        ("https://x.example/b.warc", "ab" * 32),
    ]
    for bad in ("https://x/ abc", "https://x/ a b", "http://[bad/x.warc", ""):
        (tmp_path / "bad.paths").write_text(bad)
        with pytest.raises(InputError, match=r"bad\.paths"):
            read_addresses(tmp_path / "bad.paths")


def dataset(name: str | None, **given: Any) -> HubDataset:
    of = {"path": "watched", "config": None, "split": "train", "revision": None, "data_files": None, "limit": None}
    return HubDataset(name=name, **of | given)


def test_hub_rows_are_streamed_up_to_the_limit(monkeypatch):
    rows = ({"body": f"text {n}"} | ({"url": "http://u/"} if n == 1 else {}) for n in range(10**9))
    asked: list[dict] = []

    def load(*arguments, **options):
        asked.append(options)
        return rows

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load))
    pages = list(read_hub(dataset("some/set", revision="abc", limit=3), "body"))
    assert [unwrap(raw.html) for raw in pages] == ["text 0", "text 1", "text 2"]
    assert [raw.url for raw in pages] == [
        "https://huggingface.co/datasets/some/set?split=train&row=0", "http://u/",
        "https://huggingface.co/datasets/some/set?split=train&row=2",
    ]  # fmt: skip
    assert asked == [{"split": "train", "revision": "abc", "streaming": True}]
    with pytest.raises(InputError, match="no text in `other`"):
        list(read_hub(dataset("some/set"), "other"))


def test_a_hub_that_breaks_off_is_named_with_its_row(monkeypatch):
    def rows():
        yield {"text": "one"}
        yield {"text": "two"}
        raise ConnectionResetError("gone\naway")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=lambda *a, **k: rows()))
    with pytest.raises(InputError, match=r"some/set: after 2 rows: ConnectionResetError: gone away"):
        list(read_hub(dataset("some/set"), "text"))


@pytest.mark.parametrize("kind", ["parquet", "json"])
def test_a_local_folder_is_a_dataset(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    folder = tmp_path / "set"
    folder.mkdir()
    rows = [{"text": f"text {n}", "url": f"http://u/{n}"} for n in range(5)]
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), folder / "train-00000.parquet")
        found = list(read_hub(dataset(None, path=str(folder), limit=3), "text"))
    else:
        with gzip.open(folder / "a.json.gz", "wt") as handle:
            handle.write("".join(json.dumps(row) + "\n" for row in rows))
        found = list(read_hub(dataset("json", data_files=[str(folder / "a.json.gz")], limit=3), "text"))
    assert [(raw.url, raw.html) for raw in found] == [(f"http://u/{n}", wrap(f"text {n}")) for n in range(3)]


# ------------------------------------------------------------------------------------------------ the whole stage

PARAGRAPH = b"<p>The quick brown fox jumps over the lazy dog while the sun is setting behind the hills today.</p>"
GOOD = b"<html><body><main><article>" + PARAGRAPH * 5 + b"</article></main></body></html>"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    extract.close_sandboxes()


CRAWL = {"kind": "warc", "path": "crawl.warc.gz", "pattern": None, "licence": "declared"}


def run(folder: Path, max_damaged: int = 0, max_drop: float = 0.9, **sources: dict) -> None:
    """Every source, then ingest."""
    sources = sources or {"crawl": CRAWL | {"max_damaged": max_damaged}}
    params = {
        "corpus": {
            "seed": 1,
            "sources": sources,
            "ingest": {"max_page_bytes": 5_000_000, "max_drop": max_drop},
            "extract": {
                "mode": "volume", "max_page_bytes": 5_000_000, "max_tags": 100_000, "max_nesting": 400,
                "max_memory_mib": 1024, "max_page_seconds": 60.0, "max_drop": max_drop,
            },
        }
    }  # fmt: skip
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    with pytest.MonkeyPatch.context() as monkeypatch:
        for key in sources:
            monkeypatch.setattr(sys, "argv", ["source", key])
            source.main()
    write_json(folder / SOURCES / "items.json", list(sources))
    ingest.main()


def archive(folder: Path, *parts: bytes, name: str = "crawl.warc.gz") -> list[int]:
    """Write the parts as gzip members; their offsets."""
    members = [gzip.compress(part) for part in parts]
    (folder / name).write_bytes(b"".join(members))
    return [sum(map(len, members[:place])) for place in range(len(members))]


def bad_input() -> dict[str, bytes]:
    bomb = gzip.compress(gzip.compress(bytes(2**27)))
    return {
        "good": page("http://good/", GOOD),
        "digest": record("http://digest/", http(GOOD), f"WARC-Block-Digest: {sha1(b'other')}"),
        "charset": page("http://charset/", GOOD.replace(b"fox", b"caf\xe9"), media="text/html; charset=utf-8"),
        "nul": page("http://nul/", GOOD.replace(b"fox", b"f\0ox")),
        "large": page("http://large/", b"<p>" + bytes(10**8)),
        "bomb": page("http://bomb/", bomb, "Content-Encoding: gzip, gzip"),
        "nested": page("http://nested/", b"<div>" * 10_000 + b"deep" + b"</div>" * 10_000),
        "tags": page("http://tags/", b"<br>" * 200_000),
        "robots": page("http://good/robots.txt", b"User-agent: *", media="text/plain"),
        "last": page("http://last/", GOOD),
    }


def test_bad_input_is_dropped_with_its_place_and_the_rest_goes_on(folder):
    places = dict(zip(bad_input(), archive(folder, *bad_input().values()), strict=True))
    run(folder, max_damaged=1)
    extract.main()
    note = read_json("data/corpus/ingest/record.json")["notes"]["problems"]["crawl"]
    found = {name: [place.partition(":")[0] for place in told["first"]] for name, told in note.items()}
    assert found == {
        "bad_digest": [f"crawl.warc.gz@{places['digest']}"],
        "too_large": [f"crawl.warc.gz@{places['large']}", f"crawl.warc.gz@{places['bomb']}"],
        "wrong_charset": [f"crawl.warc.gz@{places['charset']}"],
        "nul_bytes": [f"crawl.warc.gz@{places['nul']}"],
    }
    record = read_json("data/corpus/ingest/record.json")
    assert record["rows"] == {"in": 9, "out": 6, "dropped": {"bad_digest": 1, "too_large": 2}}
    assert read_table("data/corpus/ingest/robots.parquet", ROBOTS).to_pylist() == [
        {"host": "good", "text": "User-agent: *"}
    ]
    documents = read_table("data/corpus/extract/documents.parquet", schemas.DOCUMENT).to_pylist()
    assert [row["url"] for row in documents] == ["http://good/", "http://charset/", "http://nul/", "http://last/"]
    assert "caf\ufffd" in documents[1]["text"] and "\0" not in documents[2]["text"] and "f" in documents[2]["text"]
    drops = read_table("data/corpus/extract/drops.parquet", schemas.DROP).to_pylist()
    assert [(row["url"], row["reason"]) for row in drops] == [
        ("http://nested/", "too_deep"), ("http://tags/", "too_many_tags"),
    ]  # fmt: skip
    assert read_json("data/corpus/extract/record.json")["notes"]["wall_clock_drops"] == []
    assert read_json("data/corpus/extract/metrics.json")["wall_clock_drops"] == 0


@pytest.mark.parametrize("kind", ["truncated gzip", "cut in the middle", "bad digest"])
def test_damage_above_the_bound_is_one_line_and_nothing_half_written(folder, capsys, kind):
    parts = [page(f"http://a/{n}", GOOD.replace(b"fox", noise(n))) for n in range(5)]
    if kind == "bad digest":
        parts[2] = record("http://a/2", http(GOOD), f"WARC-Payload-Digest: {sha1(b'other')}")
    places = archive(folder, *parts)
    data = (folder / "crawl.warc.gz").read_bytes()
    if kind == "truncated gzip":
        (folder / "crawl.warc.gz").write_bytes(data[:-200])
    elif kind == "cut in the middle":
        (folder / "crawl.warc.gz").write_bytes(data[: places[2] + 500] + data[places[3] - 500 :])
    bad = places[4] if kind == "truncated gzip" else places[2]
    with pytest.raises(SystemExit) as stopped:
        run(folder)
    told = capsys.readouterr().err
    assert stopped.value.code == 2 and told.count("\n") == 1
    assert f"crawl.warc.gz@{bad}" in told and "max_damaged" in told
    assert [path for path in (folder / "data").rglob("*") if path.is_file()] == []
    run(folder, max_damaged=1)
    assert read_table("data/corpus/ingest/pages.parquet", schemas.PAGE).num_rows == 4
    sample = read_table("data/corpus/ingest/drops.parquet", schemas.DROP)["sample"].to_pylist()
    assert len(sample) == 1 and sample[0].startswith(f"crawl.warc.gz@{bad}: ")


def test_archives_of_a_folder_are_named_by_their_place_in_it(folder, capsys):
    for name in ("a", "b"):
        (folder / "crawl" / name).mkdir(parents=True)
        image = page("http://i/", b"x", media="image/png")
        archive(folder / "crawl" / name, page(f"http://{name}/", GOOD), image, name="x.warc.gz")
    (folder / "crawl" / "warc.md5").write_text("no archive")
    run(folder, crawl=CRAWL | {"path": str(folder / "crawl"), "max_damaged": 0})
    samples = read_table("data/corpus/ingest/drops.parquet", schemas.DROP)["sample"].to_pylist()
    assert [sample.partition("@")[0] for sample in samples] == ["a/x.warc.gz", "b/x.warc.gz"]
    run(folder, crawl=CRAWL | {"path": "crawl", "pattern": "b/*", "max_damaged": 0})
    assert read_table("data/corpus/ingest/pages.parquet", schemas.PAGE)["url"].to_pylist() == ["http://b/"]


def test_listed_archives_are_fetched_and_checked(folder, capsys, monkeypatch):
    archive(folder, page("http://a/", GOOD))
    asked = []
    monkeypatch.setattr(download, "fetch", lambda url, digest: asked.append((url, digest)) or folder / "crawl.warc.gz")
    (folder / "warc.paths").write_text(f"crawl-data/x.warc.gz\nhttps://y.example/y.warc.gz {'0' * 64}\n")
    run(folder, crawl=CRAWL | {"path": "warc.paths", "max_damaged": 0})
    assert asked == [
        ("https://data.commoncrawl.org/crawl-data/x.warc.gz", None),
        ("https://y.example/y.warc.gz", "0" * 64),
    ]
    inputs = read_json("data/corpus/source/crawl/record.json")["inputs"]
    assert {"warc.paths", str(folder / "crawl.warc.gz")} <= inputs.keys()


def test_a_source_without_pages_is_one_line(folder, capsys):
    (folder / "mine").mkdir()
    (folder / "mine" / "empty.txt").write_text("  \n")
    for path, told in (("mine", "has no usable page"), ("mine/none", "not found")):
        with pytest.raises(SystemExit) as stopped:
            run(folder, mine={"kind": "files", "path": path, "pattern": None, "licence": "MIT", "max_damaged": 0})
        line = capsys.readouterr().err
        assert stopped.value.code == 2 and line.count("\n") == 1 and told in line
    assert [path for path in (folder / "data").rglob("*") if path.is_file()] == []


def test_what_another_pipeline_knows_comes_along(folder):
    """A folder of kind parquet is a source's own: its truth, questions and plants reach ingest."""
    (folder / "theirs").mkdir()
    row = {"id": "0" * 16, "source": "x", "url": "u", "licence": "MIT", "opt_out": "", "html": GOOD}
    write_table("theirs/pages.parquet", pa.Table.from_pylist([row], schema=schemas.PAGE), schemas.PAGE)
    planted = {"url": "u", "kind": "spam", "of_url": "", "payload": "url"}
    write_table("theirs/planted.parquet", pa.Table.from_pylist([planted], schema=schemas.PLANTED), schemas.PLANTED)
    truth = {"attributes": {"capital": ["Oslo"]}, "entities": {}}
    write_json("theirs/truth.json", truth)
    run(folder, ours={"kind": "parquet", "path": "theirs"})
    assert read_table(PLANTED, schemas.PLANTED).to_pylist() == [planted]
    assert read_json("data/corpus/source/ours/truth.json") == truth
    assert read_table("data/corpus/source/ours/questions.parquet", schemas.QUESTION).num_rows == 0
    assert read_table("data/corpus/ingest/pages.parquet", schemas.PAGE)["source"].to_pylist() == ["ours"]


def test_ids_that_two_pages_have_are_an_error(folder, capsys):
    (folder / "mine.txt").write_text("text")
    mine = {"kind": "files", "path": "mine.txt", "pattern": None, "licence": "MIT", "max_damaged": 0}
    run(folder, mine=mine)
    write_json(folder / SOURCES / "items.json", ["mine", "mine"])
    with pytest.raises(SystemExit):
        ingest.main()
    assert "stand on two pages" in capsys.readouterr().err


def test_a_local_dataset_is_an_input_and_its_path_stays_here(folder, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(folder / "home"))
    (folder / "set").mkdir()
    pq.write_table(pa.table({"text": ["one", "two"]}), folder / "set" / "train-0.parquet")
    hub = {
        "kind": "hub", "path": "set", "name": None, "config": None, "split": "train", "revision": None,
        "data_files": None, "column": "text", "limit": 9, "licence": "CC0-1.0",
    }  # fmt: skip
    run(folder, hub=hub)
    urls = read_table("data/corpus/ingest/pages.parquet", schemas.PAGE)["url"].to_pylist()
    assert urls == ["file:///set?split=train&row=0", "file:///set?split=train&row=1"]
    assert "set" in read_json("data/corpus/source/hub/record.json")["inputs"]


def test_too_many_drops_are_one_line_and_nothing_half_written(folder, capsys):
    pictures = [page(f"http://i/{n}", b"x", media="image/png") for n in range(50)]
    archive(folder, page("http://a/", GOOD), *pictures, *[page(f"http://e/{n}", b" ") for n in range(5)])
    with pytest.raises(SystemExit):
        run(folder, max_drop=0.5)
    assert "5 of 6 rows of source `crawl`" in (told := capsys.readouterr().err) and told.count("\n") == 1
    assert "`corpus.ingest.max_drop` allows 50.0%" in told and "empty" in told
    assert [path for path in (folder / "data").rglob("*") if path.is_file()] == []
    archive(folder, page("http://a/", GOOD), *pictures)
    run(folder, max_drop=0.0)
    assert read_json("data/corpus/ingest/record.json")["rows"]["dropped"] == {"not_html": 50}


def test_the_same_sources_give_the_same_bytes(folder):
    archive(folder, page("http://a/", GOOD), page("http://b/", GOOD))
    (folder / "more").mkdir()
    (folder / "more" / "a.md").write_text("# Title\n\ntext")
    (folder / "upstream").mkdir()
    pq.write_table(
        pa.Table.from_pylist(
            [{"id": "i", "source": "x", "url": "u", "licence": "MIT", "opt_out": "meta:noai", "html": GOOD}],
            schema=schemas.PAGE,
        ),
        "upstream/pages.parquet",
    )
    pq.write_table(robots_table({"u": "User-agent: *", "a": "Disallow:"}), "upstream/robots.parquet")
    sources = {
        "z": {"kind": "files", "path": "more", "pattern": "*", "licence": "CC0-1.0", "max_damaged": 0},
        "a": CRAWL | {"max_damaged": 0},
        "m": {"kind": "parquet", "path": "upstream"},
    }
    digests = []
    for _ in range(2):
        run(folder, **sources)
        digests.append(
            [
                hashlib.sha256(path.read_bytes()).hexdigest()
                for path in sorted(Path("data/corpus/ingest").glob("*.parquet"))
            ]
        )
    assert digests[0] == digests[1] and len(digests[0]) == 4
    assert read_table("data/corpus/ingest/robots.parquet", ROBOTS)["host"].to_pylist() == ["a", "u"]
    table = read_table("data/corpus/ingest/pages.parquet", schemas.PAGE)
    assert table["source"].to_pylist() == ["z", "a", "a", "m"]  # in the order of params
    assert table["licence"].to_pylist() == ["CC0-1.0", "", "", "MIT"]
    assert table["opt_out"].to_pylist() == ["", "", "", "meta:noai"]
