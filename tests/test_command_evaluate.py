"""`trainyard evaluate` over a made-up model of a few kilobytes, a server on the loopback, and lm-eval's files."""

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from stages.cli import main
from stages.evaluation.scoring.local import LocalEngine
from stages.lm.checkpoint import save_model
from tests.evaluation.conftest import make_model, make_tokenizer
from tests.evaluation.test_server import SECRET, serve  # noqa: F401  (a fixture)

TASK = """
task: colours
dataset_path: json
dataset_kwargs: {data_files: {test: colours.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_choice: choices
doc_to_target: answer
subject: kind
cluster: passage
metric_list: [acc, acc_norm]
metadata: {version: 3}
"""

SUMS = """
task: sums
dataset_path: json
dataset_kwargs: {data_files: {test: sums.jsonl}}
test_split: test
output_type: generate_until
generation_kwargs: {until: ["\\n"], max_gen_toks: 5}
doc_to_text: "{{question}} ="
doc_to_target: answer
metric_list: [exact_match]
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    rows = [{"question": f"What colour is thing {i}?", "choices": ["red", "light blue", "green"], "answer": i % 3,
             "kind": "things" if i % 2 else "stuff", "passage": f"p{i // 4}"} for i in range(40)]  # fmt: skip
    rows[7]["choices"] = ["red", "red", "green"]
    Path("colours.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("colours.yaml").write_text(TASK)
    tokenizer = make_tokenizer(tmp_path / "tokenizer")
    for name, seed in (("one", 0), ("two", 1)):
        save_model(f"models/{name}", make_model(seed=seed), tokenizer)
    return tmp_path


def evaluate(*arguments: str) -> int:
    return main(["evaluate", *arguments])


def results(out: str = "evaluation") -> dict[str, Any]:
    return json.loads(Path(out, "results.json").read_text())


def score(model: str, protocol: str = "task", metric: str = "acc", out: str = "evaluation") -> dict[str, Any]:
    (found,) = [one for one in results(out)["scores"]
                if (one["model"], one["protocol"], one["metric"]) == (model, protocol, metric)]  # fmt: skip
    return found


def test_the_table_is_that_of_the_items(place: Path, capsys) -> None:
    assert evaluate("models/one", "models/two", "--tasks", "colours.yaml", "--protocols", "task,cloze,original") == 0
    rows = pq.read_table("evaluation/items.parquet").to_pylist()
    assert len(rows) == 2 * 3 * 40
    own = [row for row in rows if (row["model"], row["protocol"]) == ("one", "task")]
    found = score("one")
    assert found["mean"] == sum(row["correct"] for row in own) / 40
    assert (found["n"], found["clusters"], found["version"], found["repeated"]) == (40, 10, 1, 1)
    assert found["chance"] == pytest.approx((39 / 3 + 2 / 3) / 40)
    assert (
        set(found["subjects"]) == {"things", "stuff"}
        and found["by_subject"] == {}
        and found["method"] == "t, clustered"
    )
    assert score("one", "original")["task_digest"] == score("two")["task_digest"]
    assert all(row["prompt"].endswith("Answer:") and len(row["prompt_sha256"]) == 64 for row in own)
    told = capsys.readouterr().out
    assert f"{found['mean']:.3f}" in told and "10 clusters" in told and "1 with repeated options" in told
    assert {pair["n"] for pair in results()["comparisons"]} == {40} and len(results()["comparisons"]) == 3
    assert set(results()["tiers"]["colours"]) == {"task", "cloze", "original"}


def test_of_repeated_options_any_is_right(place: Path) -> None:
    rows = [{"question": "?", "choices": ["red", "red"], "answer": i % 2, "kind": "k", "passage": ""} for i in range(4)]
    Path("colours.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert evaluate("models/one", "--tasks", "colours.yaml", "--protocols", "task,cloze") == 0
    assert score("one")["mean"] == score("one", "cloze")["mean"] == 1.0 and score("one")["repeated"] == 4


def test_a_group_without_a_number_says_why(place: Path, capsys) -> None:
    Path("both.yaml").write_text("group: both\ntask: [{task: colours, metric: f1}]")
    assert evaluate("models/one", "--tasks", "both.yaml", "--protocols", "task") == 0
    assert "[both]: no number of one under task: colours has no f1" in capsys.readouterr().out


def test_a_rerun_asks_only_for_what_is_missing(place: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    asked: list[int] = []
    plain = LocalEngine.likelihoods

    def counted(self: LocalEngine, requests: Any, truncation: Any) -> Any:
        asked.append(len(requests))
        return plain(self, requests, truncation)

    monkeypatch.setattr(LocalEngine, "likelihoods", counted)
    command = ["models/one", "--tasks", "colours.yaml", "--protocols", "cloze", "--out", "out"]
    assert evaluate(*command, "--limit", "25") == 0 and sum(asked) == 25
    assert evaluate(*command) == 0 and sum(asked) == 40
    before = {name: Path("out", name).read_bytes() for name in ("results.json", "items.parquet")}
    first = shutil.copy("out/items.parquet", "first.parquet")
    assert evaluate(*command) == 0 and sum(asked) == 40
    assert before == {name: Path("out", name).read_bytes() for name in before}
    (kept,) = Path("out/answers").glob("*.jsonl")
    lines = kept.read_bytes().splitlines(keepends=True)
    kept.write_bytes(b"".join([lines[0].replace(b"-", b"+", 1), *lines[1:]])[:-5])
    capsys.readouterr()
    assert evaluate(*command) == 0 and sum(asked) == 42
    assert "2 damaged lines (1, 40): asked again" in capsys.readouterr().err
    rows, again = pq.read_table(first), pq.read_table("out/items.parquet")
    for name in ("id", "choice", "prompt", "scores"):
        assert rows[name] == again[name]
    for one, other in zip(rows["logprobs"].to_pylist(), again["logprobs"].to_pylist(), strict=True):
        assert one == pytest.approx(other, abs=1e-5)  # two were asked in a smaller batch
    save_model("models/one", make_model(seed=7), make_tokenizer(place / "again"))
    assert evaluate(*command) == 0 and sum(asked) == 82  # another model under the same name


def test_other_wordings_give_a_spread(place: Path, capsys) -> None:
    assert evaluate("models/one", "--tasks", "colours.yaml", "--protocols", "cloze", "--variants", "--limit", "9") == 0
    variants = score("one", "cloze")["variants"]
    assert len(variants) >= 6 and variants[""]["mean"] == score("one", "cloze")["mean"]
    assert f"over {len(variants)} wordings" in capsys.readouterr().out
    assert (
        evaluate("models/one", "--tasks", "colours.yaml", "--protocols", "cloze-q_a", "--variants", "--out", "q") == 0
    )
    assert score("one", "cloze-q_a", out="q")["variants"] == {}
    named = {row["variant"] for row in pq.read_table("evaluation/items.parquet").to_pylist()}
    assert named == set(variants)


def test_one_model_trained_from_several_seeds(place: Path, capsys) -> None:
    tokenizer = make_tokenizer(place / "again")
    for name, seed in (("three", 2), ("four", 3)):
        save_model(f"models/{name}", make_model(seed=seed), tokenizer)
    assert evaluate("models/one,models/two", "models/three,models/four", "--tasks", "colours.yaml") == 0
    first, second = results()["seeds"]
    assert first["mean"] == pytest.approx((score("one")["mean"] + score("two")["mean"]) / 2)
    assert (first["seeds"], first["n"], first["clusters"]) == (2, 40, 10)
    pooled = [pair for pair in results()["comparisons"] if "seeds" in pair]
    assert [pair["difference"] for pair in pooled] == [pytest.approx(first["mean"] - second["mean"])]
    paired = [pair for pair in results()["comparisons"] if "seeds" not in pair]
    assert len(paired) == 6 and "2 seeds" in capsys.readouterr().out


def test_json_is_the_file(place: Path, capsys) -> None:
    assert evaluate("models/one", "--tasks", "colours.yaml", "--json", "--shots", "2", "--limit", "5") == 0
    assert json.loads(capsys.readouterr().out) == results() and score("one")["shots"] == 2


def test_weights_that_are_no_numbers_are_an_error(place: Path, capsys) -> None:
    broken = make_model()
    with torch.no_grad():
        next(iter(broken.parameters()))[0] = float("nan")
    save_model("models/broken", broken, make_tokenizer(place / "again"))
    assert evaluate("models/broken", "--tasks", "colours.yaml") == 2
    assert "models/broken" in capsys.readouterr().err and not Path("evaluation/results.json").exists()


def test_what_was_exported_joins_the_table_again(place: Path, capsys) -> None:
    assert evaluate("models/one", "--tasks", "colours.yaml", "--protocols", "task,cloze", "--export", "harness") == 0
    files = sorted(map(str, Path("harness/one").iterdir()))
    assert [Path(name).name.split("_2")[0] for name in files] == ["results", "samples_colours", "samples_colours_cloze"]
    assert evaluate("models/two", "--tasks", "colours.yaml", "--import", *files, "--out", "both") == 0
    assert score("one", out="both")["mean"] == score("one")["mean"]
    assert score("one", "cloze", out="both")["mean"] == score("one", "cloze")["mean"]
    (pair,) = results("both")["comparisons"]
    assert (pair["n"], pair["protocol"], {pair["a"], pair["b"]}) == (40, "task", {"one", "two"})
    capsys.readouterr()
    assert evaluate("--import", *files, "--out", "alone") == 0 and "cloze@1" in capsys.readouterr().out


def test_a_server_by_what_it_can(place: Path, serve, monkeypatch: pytest.MonkeyPatch, capsys) -> None:  # noqa: F811
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    plain, echo = serve("plain"), serve("vllm")
    assert evaluate(f"{plain.url}#fake", "--tasks", "colours.yaml", "--protocols", "cloze") == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "gives no log-probabilities" in told and "--protocols helm,generate" in told
    assert evaluate("--server", echo.url, "--model", "fake", "--tasks", "colours.yaml", "--protocols", "cloze,helm",
                    "--out", "echo", "--limit", "6") == 0  # fmt: skip
    assert score("fake", "cloze", out="echo")["n"] == score("fake", "helm", out="echo")["n"] == 6
    calls = len(echo.asked)
    assert evaluate(f"{echo.url}#fake", "--tasks", "colours.yaml", "--protocols", "cloze,helm", "--out", "echo",
                    "--limit", "6") == 0  # fmt: skip
    assert len(echo.asked) == calls
    for path in (*Path("echo").rglob("*"), *Path("evaluation").rglob("*")):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["models/one"], "which tasks?"),
        (["--tasks", "colours.yaml"], "which model?"),
        (["models/none", "--tasks", "colours.yaml"], "no model `models/none`"),
        (["models/one", "--tasks", "colors"], "no task `colors`"),
        (["models/one", "--tasks", "colours.yaml", "--protocols", "originl"], "did you mean `original`?"),
        (["models/one", "models/one", "--tasks", "colours.yaml"], "given twice"),
        (["models/one", "--tasks", "colours.yaml", "--limit", "0"], "--limit is 0"),
        (["--server", "http://localhost:1", "--tasks", "colours.yaml"], "--server URL and --model NAME"),
        (["http://localhost:1", "--tasks", "colours.yaml"], "which model? write"),
        (["--server", "ftp://me:pass@host", "--model", "m", "--tasks", "colours.yaml"], "--server host: an address"),
        (["ftp://host/x#m", "--tasks", "colours.yaml"], "begins with http:// or https://"),
        (["models/one", "--tasks", "colours.yaml", "--out", ""], "--out is empty"),
        (["models/one", "--tasks", "colours.yaml", "--export", ""], "--export is empty"),
        (["--import", "colours.jsonl"], "whose samples are these?"),
        (["models/one", "--tasks", "colours.yaml", "--data", "nowhere"], "nowhere"),
    ],
    ids=lambda value: value[-1][:20] if isinstance(value, list) else "",
)  # fmt: skip
def test_what_cant_be_done_is_one_line(place: Path, arguments: list[str], words: str, capsys) -> None:
    assert evaluate(*arguments) == 2
    told = capsys.readouterr().err
    assert words in told and told.count("\n") == 1 and not Path("evaluation/results.json").exists()


def test_a_protocol_that_cant_ask_a_task_is_named(place: Path, capsys) -> None:
    Path("sums.jsonl").write_text('{"question": "1 + 1", "answer": "2"}\n')
    Path("sums.yaml").write_text(SUMS)
    assert evaluate("models/one", "--tasks", "colours.yaml,sums.yaml", "--protocols", "task,original") == 0
    told = capsys.readouterr().out
    assert "one: sums isn't asked under original: it has no choices" in told and "exact_match" in told
    assert evaluate("models/one", "--tasks", "sums.yaml", "--protocols", "original") == 2
    assert "no item can be asked: one: sums isn't asked under original: it has no choices" in capsys.readouterr().err


def test_what_a_server_cant_do_costs_no_other_protocol(place: Path, serve, capsys) -> None:  # noqa: F811
    plain = serve("plain")
    assert evaluate(f"{plain.url}#fake", "--tasks", "colours.yaml", "--limit", "6", "--protocols",
                    "original,cloze,chat_generate") == 0  # fmt: skip
    told = capsys.readouterr().out
    assert {one["protocol"] for one in results()["scores"]} == {"chat_generate"}
    assert "colours isn't asked under original" in told and "colours isn't asked under cloze" in told
    assert evaluate(f"{plain.url}#fake", "--tasks", "colours.yaml", "--out", "other") == 2
    assert "no item can be asked: fake: colours isn't asked under task" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["results.json", "items.parquet"])
def test_results_that_cant_be_written_keep_the_answers(name: str, place: Path, capsys) -> None:
    Path("evaluation", name, "in").mkdir(parents=True)
    assert evaluate("models/one", "--tasks", "colours.yaml", "--limit", "6") == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert f"evaluation/{name}: results can't be written (Is a directory)" in told and "kept below evaluation" in told
    assert len(next(Path("evaluation/answers").glob("*.jsonl")).read_text().splitlines()) == 6


def test_a_disk_that_is_full_is_one_line(place: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pyarrow.parquet.ParquetWriter.write_table", full)
    assert evaluate("models/one", "--tasks", "colours.yaml", "--limit", "6") == 2
    told = capsys.readouterr().err
    assert "evaluation: results can't be written (No space left on device)" in told and "Traceback" not in told
    assert not [path for path in Path("evaluation").iterdir() if path.is_file()]


def test_items_that_have_no_room_are_counted(place: Path, capsys) -> None:
    Path("sums.jsonl").write_text('{"question": "1 + 1", "answer": "2"}\n')
    Path("sums.yaml").write_text(SUMS.replace("max_gen_toks: 5", "max_gen_toks: 500"))
    assert evaluate("models/one", "--tasks", "sums.yaml") == 0
    assert "1 left out (too long)" in capsys.readouterr().out
    assert results()["scores"][0]["mean"] is None and results()["left_out"][0]["why"] == "too_long"
