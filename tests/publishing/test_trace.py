"""Trace: the chain is complete, follows one row only, and any changed byte breaks it."""

import json
from pathlib import Path

import pytest

from stages import cli
from stages.base.files import folder_digest, sha256_file, sha256_path, write_json
from stages.publishing.lineage.chain import row_chain, row_of
from stages.publishing.lineage.records import Graph, read_records


def write(path: str, text: str) -> str:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)
    return path


def record(stage: str, item: str | None, inputs: list[str], outputs: list[str]) -> None:
    folder = Path("data").joinpath(*stage.split("."), *([item] if item else []))
    write_json(
        folder / "record.json",
        {
            "stage": stage,
            "item": item,
            "params": {stage: {"knob": 1, "nested": {"a": 2}}},
            "seed": 7,
            "code": "c" * 64,
            "inputs": {path: sha256_path(path) for path in inputs},
            "outputs": {path: sha256_file(path) for path in outputs},
            "rows": {"in": 5, "out": 4, "dropped": {"short": 1}},
            "notes": {},
        },
    )


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """pages → model; a model that was imported; both and an answerer's file → respond → judge → leaderboard."""
    monkeypatch.chdir(tmp_path)
    crawl = write("crawl.warc", "raw")
    pages = write("data/corpus/ingest/pages.parquet", "pages")
    record("corpus.ingest", None, [crawl], [pages])
    weights = [write(f"data/models/sft/{name}", name) for name in ("config.json", "model.safetensors")]
    record("alignment.sft", None, [pages], weights)
    write("models/theirs/model.safetensors", "theirs")
    theirs = write("data/models/theirs/model.safetensors", "theirs")
    record("pretraining.imported", "theirs", ["models/theirs"], [theirs])
    own = write("answers.json", "[]")
    judged = [write("data/judging/judge/items.json", '["own", "sft", "theirs"]')]
    for model, source in (("own", own), ("sft", "data/models/sft"), ("theirs", "data/models/theirs")):
        answers = write(f"data/judging/respond/{model}/outputs.parquet", f"answers of {model}")
        record("judging.respond", model, [source], [answers])
        annotations = write(f"data/judging/judge/{model}/annotations.parquet", f"verdicts on {model}")
        record("judging.judge", model, [answers], [annotations])
        judged.append(annotations)
    board = write(
        "data/judging/leaderboard/leaderboard.json", json.dumps({"rows": [{"model": "sft", "win_rate": 61.25}]})
    )
    record("judging.leaderboard", None, judged, [board])
    return tmp_path


def labels(row: str) -> list[str]:
    nodes, broken = row_chain(row, Graph(read_records()))
    assert not broken
    return list(nodes)


def test_the_chain_reaches_the_source_and_only_this_row(pipeline: Path) -> None:
    assert labels("sft") == [
        "judging.leaderboard",
        "judging.judge@sft",
        "judging.respond@sft",
        "alignment.sft",
        "corpus.ingest",
    ]


def test_the_chain_of_an_imported_model_ends_at_its_folder(pipeline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert labels("theirs")[1:] == ["judging.judge@theirs", "judging.respond@theirs", "pretraining.imported@theirs"]
    assert cli.main(["trace", "theirs"]) == 0
    assert "models/theirs  " in capsys.readouterr().out


def test_the_chain_of_an_answerer_ends_at_its_file(pipeline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert labels("own")[1:] == ["judging.judge@own", "judging.respond@own"]
    assert cli.main(["trace", "own"]) == 0
    assert "answers.json  " in capsys.readouterr().out


def test_a_folder_may_be_of_several_stages(pipeline: Path) -> None:
    """The ladder's points, or all models at once."""
    record("scaling.fit", None, ["data/models"], [write("data/scaling/fit/fit.json", "{}")])
    graph = Graph(read_records())
    ((path, digest),) = graph.find("scaling.fit").inputs.items()
    assert [found.label for found in graph.producers(path, digest)] == ["alignment.sft", "pretraining.imported@theirs"]


def test_the_tree_names_sources_counts_and_scores(pipeline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["trace", "sft"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == "sft: win_rate 61.25"
    assert "crawl.warc" in out and "from outside the pipeline" in out
    assert "5 rows in, 4 out, 1 dropped" in out and "knob=1" in out
    assert "verified: 5 stages" in out


def test_json_has_every_hash(pipeline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["trace", "sft", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["chain"][-1]["inputs"] == {"crawl.warc": sha256_file("crawl.warc")}


@pytest.mark.parametrize(
    "path", ["crawl.warc", "data/models/sft/config.json", "data/judging/judge/sft/annotations.parquet"]
)
def test_a_changed_byte_anywhere_breaks_it(pipeline: Path, path: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(path).write_text("tampered")
    assert cli.main(["trace", "sft"]) == 1
    error = capsys.readouterr().err
    assert path in error and len(error.splitlines()) == 1


def test_another_rows_files_are_not_this_rows_business(pipeline: Path) -> None:
    Path("data/judging/judge/own/annotations.parquet").write_text("tampered")
    assert "judging.judge@sft" in labels("sft")


def test_a_lineage_id_names_its_row(pipeline: Path) -> None:
    graph = Graph(read_records())
    lineage = sha256_file("data/judging/judge/sft/annotations.parquet")[:16]
    assert row_of(lineage, graph) == "sft" and row_of("sft", graph) == "sft"
    assert row_of("f" * 16, graph) == "f" * 16
    assert cli.main(["trace", lineage]) == 0 and cli.main(["trace", "f" * 16]) == 1


def test_a_missing_file_is_no_contradiction_and_is_told(pipeline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("data/corpus/ingest/pages.parquet").unlink()
    assert cli.main(["trace", "sft"]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("not checked: data/corpus")]
    assert len(told) == 1 and "pages.parquet" in told[0] and "not here" in told[0]


def test_a_producer_that_ran_again_is_noticed(pipeline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file on disk and its record agree, but the reader read something else."""
    write("data/judging/respond/sft/outputs.parquet", "newer answers")
    record("judging.respond", "sft", ["data/models/sft"], ["data/judging/respond/sft/outputs.parquet"])
    assert cli.main(["trace", "sft"]) == 1
    assert "judging.respond@sft last wrote" in capsys.readouterr().err


@pytest.mark.parametrize(
    "row, told",
    [("nobody", "known here: own, sft, theirs"), ("sfd", "`sft`"), ('s"f%t@', "`sft`"), ("\u202esft", "`sft`")],
)
def test_an_unknown_row_names_the_nearest(
    pipeline: Path, row: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["trace", row]) == 1
    error = capsys.readouterr().err
    assert told in error and len(error.splitlines()) == 1 and "\u202e" not in error


def test_a_stranger_s_words_stand_on_one_line(pipeline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A record that was edited is told plainly."""
    path = Path("data/alignment/sft/record.json")
    path.write_text(path.read_text().replace('"alignment.sft"', '"\\u001b[31m"'))
    assert cli.main(["trace", "sft"]) == 1
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out + shown.err


def test_a_folders_digest_is_that_of_base_files(pipeline: Path) -> None:
    folder = "data/models/sft"
    files = {f"{folder}/{name}": sha256_file(f"{folder}/{name}") for name in ("config.json", "model.safetensors")}
    assert folder_digest(folder, files) == sha256_path(folder)
