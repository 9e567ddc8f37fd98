"""The harness's files: read as it wrote them, written as it reads them."""

import argparse
import contextlib
import io
import json
import math
import os
import subprocess
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from stages.base.closure import ROOT
from stages.base.errors import InputError
from stages.base.paired import compare
from stages.commands.evaluate import register
from stages.evaluation.board import Board, Cell, Model, table
from stages.evaluation.exchange.reading import Imported, read_harness, sample_task
from stages.evaluation.exchange.writing import Exported, exported_name, sanitized, write_harness
from stages.evaluation.measure import Measured, Task, open_task
from stages.evaluation.results import accuracy
from stages.evaluation.tasks.yaml_file import read_task_file
from tests.evaluation.test_run import Arithmetic

COLOURS = """
task: colours
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/colours.jsonl, train: {folder}/colours_train.jsonl}}}}
test_split: test
training_split: train
output_type: multiple_choice
doc_to_text: "Question: {{{{question}}}}\\nAnswer:"
doc_to_choice: choices
doc_to_target: answer
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: acc_norm, aggregation: mean, higher_is_better: true}}
metadata: {{version: 1.0}}
"""
SUMS = """
task: sums
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/sums.jsonl, train: {folder}/sums_train.jsonl}}}}
test_split: test
training_split: train
output_type: generate_until
doc_to_text: "{{{{question}}}} ="
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["\\n"], max_gen_toks: 8}}
filter_list:
  - {{name: strict, filter: [{{function: regex, regex_pattern: "(\\\\d+)"}}, {{function: take_first}}]}}
  - {{name: loose, filter: [{{function: take_first}}]}}
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true}}
metadata: {{version: 2.0}}
"""


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Task]]:
    folder = tmp_path_factory.mktemp("tasks")
    colours = [{"question": f"What colour is thing {i}?", "choices": ["red", "light blue", "green"], "answer": i % 3}
               for i in range(12)]  # fmt: skip
    sums = [{"question": f"{i} + {i}", "answer": str(2 * i)} for i in range(8)]
    for name, rows, text in (("colours", colours, COLOURS), ("sums", sums, SUMS)):
        (folder / f"{name}_train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in reversed(rows)))
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / f"{name}.yaml").write_text(text.format(folder=folder))
    return folder, {name: open_task(read_task_file(folder / f"{name}.yaml")) for name in ("colours", "sums")}


def exported(tasks: dict[str, Task]) -> dict[str, Exported]:
    engine = Arithmetic()
    found = {exported_name(name, "task"): Exported(task, "task", 2, task.measured(engine, "task", 2))
             for name, task in tasks.items()}  # fmt: skip
    cloze = Exported(tasks["colours"], "cloze", 0, tasks["colours"].measured(engine, "cloze", 0))
    return found | {exported_name("colours", "cloze"): cloze}


@pytest.fixture(scope="module")
def harness(tasks, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path, list[Path]]:
    """What lm-eval's readers say of our files; its own results; its own samples."""
    python = os.environ.get("TRAINYARD_PEERS_PYTHON") or str(ROOT / ".venv-peers" / "bin" / "python")
    if not Path(python).exists() or subprocess.run([python, "-c", "import lm_eval"], capture_output=True).returncode:
        pytest.skip("no lm-eval in the peers' environment: make .venv-peers from bench/requirements.lock")
    theirs, ours = tmp_path_factory.mktemp("theirs"), tmp_path_factory.mktemp("ours")
    write_harness(ours, "org/our model", exported(tasks[1]), datetime(2026, 1, 2, 3, 4, 5))
    script = Path(__file__).with_name("lm_eval_files.py")
    done = subprocess.run([python, script, tasks[0], theirs, ours], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (results,) = theirs.glob("*/results_*.json")
    return json.loads(done.stdout.splitlines()[-1]), results, sorted(theirs.glob("*/samples_*.jsonl"))


def test_the_harness_reads_what_is_exported(harness) -> None:
    said, _, _ = harness
    assert said["date"] == "2026-01-02T03-04-05.json"
    assert {name: rows[0] for name, rows in said["rows"].items()} == {"colours": 12, "colours_cloze": 12, "sums": 16}
    arguments = said["rows"]["colours"][1]
    assert arguments["gen_args_1"]["arg_1"] == " light blue"
    assert arguments["gen_args_0"]["arg_0"].endswith("Question: What colour is thing 0?\nAnswer:")
    lines = [line for line in said["table"].splitlines() if line.startswith(("|colours", "|sums", "|   "))]
    assert any("colours" in line and "0.3333" in line and "0.1" in line for line in lines)  # acc and its error
    assert any("strict" in line and "exact_match" in line for line in lines)


def test_its_samples_are_paired_with_our_items(harness, tasks) -> None:
    _, results, samples = harness
    found = read_harness(results, samples, tasks[1])
    assert set(found.tasks) == {"colours", "sums"} and found.shots == {"colours": 2, "sums": 2} and found.notes == []
    own = tasks[1]["colours"].measured(Arithmetic(), "task", 2)
    theirs = {row.item.id: row for row in found.tasks["colours"].rows}
    assert set(theirs) == {row.item.id for row in own.rows}
    assert all(row.prompt == theirs[row.item.id].prompt for row in own.rows)  # byte by byte
    said = json.loads(results.read_text())["results"]
    assert found.tasks["colours"].accuracy.acc == pytest.approx(said["colours"]["acc,none"])
    assert found.tasks["sums"].accuracy.scores["exact_match,strict"].mean == said["sums"]["exact_match,strict"]
    values = {name: {row.item.id: row.answer.scores["acc"] for row in rows.rows}
              for name, rows in (("ours", own), ("theirs", found.tasks["colours"]))}  # fmt: skip
    pairs, _ = compare(values)
    (difference,) = pairs.values()
    assert difference.n == 12


def test_what_was_exported_comes_back(tasks, tmp_path: Path) -> None:
    before = exported(tasks[1])
    results, *samples = write_harness(tmp_path, "m", before, datetime(2026, 1, 2))
    after = read_harness(results, samples, tasks[1])
    assert after.model == "m"
    for name, one in before.items():
        again = after.tasks[name]
        assert again.accuracy.scores == one.measured.accuracy.scores
        if name in tasks[1]:
            assert [row.item for row in again.rows] == [row.item for row in one.measured.rows]
            nats = [[each.nats for each in row.likelihoods] for row in again.rows]
            assert nats == [[each.nats for each in row.likelihoods] for row in one.measured.rows]


def test_scores_without_samples_keep_their_own_errors(tasks, tmp_path: Path) -> None:
    results, *_ = write_harness(tmp_path, "m", exported(tasks[1]), datetime(2026, 1, 2))
    found = read_harness(results, [], {})
    score = found.scores["colours"]["acc"]
    assert (score.mean, score.n, found.tasks) == (pytest.approx(1 / 3), 12, {}) and score.low < 1 / 3 < score.high


def files(tmp_path: Path, samples: Sequence[dict], metrics: dict[str, Any]) -> Imported:
    results = tmp_path / "results_x.json"
    results.write_text(json.dumps({"results": {"t": metrics}, "config": {"model_args": "pretrained=org/a,dtype=x"}}))
    path = tmp_path / "samples_t_2026.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in samples))
    return read_harness(results, [path], {})


def sample(place: int, **fields: Any) -> dict[str, Any]:
    return {"doc_id": place, "doc": {"q": place}, "target": "0", "arguments": [["ctx", " a"], ["ctx", " b"]],
            "filtered_resps": [["-1.0", "True"], ["-2.0", "False"]], "filter": "none", "metrics": ["acc"],
            "acc": 1.0} | fields  # fmt: skip


def test_two_models_of_a_task_that_only_the_harness_knows_are_paired(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    a = files(tmp_path, [sample(i) for i in range(3)], {"acc,none": 1.0})
    b = files(tmp_path / "b", [sample(i, acc=float(i == 0)) for i in range(3)], {"acc,none": 1 / 3})
    assert a.model == "org/a"
    ids = [[row.item.id for row in one.tasks["t"].rows] for one in (a, b)]
    assert ids[0] == ids[1] and len(set(ids[0])) == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"doc_id": None}, "no `doc_id`"),
        ({"arguments": None}, "no `arguments`"),
        ({"acc": math.nan}, "is nan, no score"),
        ({"acc": "right"}, "no metric has a number"),
        ({"filtered_resps": [["nan", "False"]] * 2}, "that model was broken"),
        ({"filtered_resps": 3}, "neither texts nor log-likelihoods"),
        ({"acc": 0.0}, "samples and results of the same run"),
        ({"acc": 7.0}, "`acc` is 7; it must lie from 0 to 1"),
        ({"acc": -1}, "`acc` is -1; it must lie from 0 to 1"),
        ({"metrics": ["mc2"], "mc2": 1.5}, "`mc2` is 1.5; it must lie from 0 to 1"),
        ({"acc": 10**400}, "no score"),
        ({"metrics": 5}, "`metrics` is 5, no list of names"),
        ({"filtered_resps": [["-inf", "False"]] * 2}, "that model was broken"),
        ({"filtered_resps": [["5.0", "False"]] * 2}, "is above 0"),
        ({"filtered_resps": [["-1.0", "False"]] * 3}, "3 `filtered_resps` for 2 `arguments`"),
        ({"arguments": "ab"}, "no `arguments`"),
        ({"filter": 5}, "`filter` is 5, no name"),
        ({"doc_id": 0}, ":2: `doc_id` 0 stands twice, first in line 1"),
        ({"doc_id": -1}, "no `doc_id`"),
        ({"filter": "strict"}, "`doc_id` 0 has no line of the filter `strict`"),
    ],
)  # fmt: skip
def test_damaged_samples_are_named(change: dict, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"samples_t_2026\.jsonl") as told:
        files(tmp_path, [sample(0), sample(1, **change)], {"acc,none": 1.0})
    assert words in str(told.value)


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"samples_<task>_<date>\.jsonl"):
        sample_task(Path("answers.jsonl"))
    assert sample_task(Path("samples_arc_easy_2026-01-01T00-00-00.jsonl")) == "arc_easy"
    (tmp_path / "r.json").write_text("[]")
    with pytest.raises(InputError, match="no `results`"):
        read_harness(tmp_path / "r.json", [], {})


def test_its_comparison_is_unpaired_and_ours_is_not(tmp_path: Path) -> None:
    """Two models on 500 items of which 252 are right for both, 66 for one alone and 39 for the other."""
    right = [(1, 1)] * 252 + [(1, 0)] * 66 + [(0, 1)] * 39 + [(0, 0)] * 143
    found = []
    for model in (0, 1):
        (tmp_path / str(model)).mkdir()
        share = sum(pair[model] for pair in right) / 500
        rows = [sample(i, acc=float(pair[model])) for i, pair in enumerate(right)]
        found.append(files(tmp_path / str(model), rows, {"acc,none": share}).tasks["t"])
    values = {str(at): {row.item.id: row.answer.scores["acc"] for row in one.rows} for at, one in enumerate(found)}
    (difference,) = compare(values)[0].values()
    errors = [scipy_stats.sem(list(own.values())) for own in values.values()]  # as the harness computes them
    z = (found[0].accuracy.acc - found[1].accuracy.acc) / math.hypot(*errors)
    assert (round(2 * scipy_stats.norm.sf(z), 3), round(difference.p, 3)) == (0.080, 0.008)


def whole(tmp_path: Path, **parts: Any) -> Imported:
    """Of a results file alone."""
    (tmp_path / "results_x.json").write_text(json.dumps({"results": {"t": {"acc,none": 0.5}}} | parts))
    return read_harness(tmp_path / "results_x.json", [], {})


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"results": {"t": None}}, "`results.t` is None, no object"),
        ({"results": {"t": []}}, "`results.t` is [], no object"),
        ({"results": {}}, "no `results`"),
        ({"configs": "x"}, "`configs` is 'x', no object"),
        ({"configs": {"t": "x"}}, "`configs.t` is 'x', no object"),
        ({"config": {"model_args": [1]}}, "`config.model_args` is [1], no object"),
        ({"n-shot": "x"}, "`n-shot` is 'x', no object"),
        ({"n-shot": {"t": "x"}}, "`n-shot.t` is 'x'; it must be an integer"),
        ({"n-shot": {"t": -3}}, "`n-shot.t` is -3; it must be an integer, 0 or more"),
        ({"n-samples": {"t": {"effective": -1}}}, "`n-samples.t.effective` is -1"),
        ({"results": {"t": {"acc,none": 7.0}}}, "`results.t.acc,none` is 7; it must lie from 0 to 1"),
        ({"results": {"t": {"acc,none": 0.5, "acc_stderr,none": -0.1}}}, "`results.t.acc_stderr,none` is -0.1"),
    ],
)  # fmt: skip
def test_damaged_results_are_named(parts: dict, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"results_x\.json") as told:
        whole(tmp_path, **parts)
    assert words in str(told.value)


def test_an_interval_ends_where_its_metric_does_and_what_is_no_number_is_said(tmp_path: Path) -> None:
    metrics = {
        "acc,none": 0.99,
        "acc_stderr,none": 0.5,
        "bleu,none": 40.0,
        "bleu_stderr,none": 2.0,
        "f1,none": math.nan,
    }
    found = whole(tmp_path, results={"t": metrics})
    acc, bleu = found.scores["t"]["acc"], found.scores["t"]["bleu"]
    assert (acc.low, acc.high) == (pytest.approx(0.01, abs=1e-3), 1.0) and "cut" in acc.method
    assert (bleu.low, bleu.high) == (pytest.approx(36.08, abs=0.01), pytest.approx(43.92, abs=0.01))
    assert set(found.scores["t"]) == {"acc", "bleu"}
    assert [note.partition(": ")[2] for note in found.notes] == ["`results.t.f1,none` is nan, no number: left out"]


@pytest.mark.parametrize("metrics", [{"acc,none": math.nan}, {"acc,none": "N/A"}, {}])
def test_scores_that_the_results_dont_confirm_are_said(metrics: dict, tmp_path: Path) -> None:
    found = files(tmp_path, [sample(0)], metrics)
    assert found.tasks["t"].accuracy.acc == 1.0
    assert len(found.notes) == 1 and "isn't checked against the results file" in found.notes[0]


def test_an_empty_file_of_samples_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"samples_t_2026\.jsonl: no samples"):
        files(tmp_path, [], {"acc,none": 1.0})


def test_values_beyond_a_share_keep_their_interval(tmp_path: Path) -> None:
    """lm-eval's bleu_diff of TruthfulQA lies from -100 to 100; scipy's interval of its mean."""
    values = [-30.0, -20.0, -40.0, 5.0]
    rows = [sample(i, metrics=["bleu_diff"], bleu_diff=value) for i, value in enumerate(values)]
    score = files(tmp_path, rows, {"bleu_diff,none": sum(values) / 4}).tasks["t"].accuracy.scores["bleu_diff"]
    theirs = scipy_stats.t.interval(0.95, 3, loc=score.mean, scale=scipy_stats.sem(values))
    assert (score.low, score.high) == pytest.approx(theirs)


def test_metrics_over_all_documents_are_no_scores_of_one(tmp_path: Path) -> None:
    """f1 and brier_score of one document are a pair there: (right answer, what was said)."""
    pairs = {"metrics": ["acc", "f1", "brier_score"], "f1": [1, 0], "brier_score": [1, [0.5, 0.5]]}
    assert set(files(tmp_path, [sample(0, **pairs)], {"acc,none": 1.0}).tasks["t"].accuracy.scores) == {"acc"}


def test_items_of_equal_prompts_are_each_found_once(tasks, tmp_path: Path) -> None:
    items = [replace(item, prompt="Which?") for item in tasks[1]["colours"].asked[:3]]
    task = replace(tasks[1]["colours"], asked=items)
    (tmp_path / "results_x.json").write_text(json.dumps({"results": {"colours": {"acc,none": 1.0}}}))
    path = tmp_path / "samples_colours_2026.jsonl"
    sent = [["Which?", " a"], ["Which?", " b"], ["Which?", " c"]]
    rows = [sample(i, arguments=sent, filtered_resps=[["-1.0", "True"]] * 3) for i in (2, 7, 0)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_harness(tmp_path / "results_x.json", [path], {"colours": task}).tasks["colours"]
    assert {row.item.id for row in found.rows} == {item.id for item in items}
    rows = [row | {"doc": {"id": items[0].id}} for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, match=r"\.jsonl:1: our item .* stands twice"):
        read_harness(tmp_path / "results_x.json", [path], {"colours": task})


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([10**400, "\ud800", "t", "acc"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.just("t"), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any, path: tuple = ()) -> list[tuple]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, one in inner for place in places(one, (*path, key)))]


def changed(value: Any, path: tuple, junk: Any) -> Any:
    if not path:
        return junk
    copy = value.copy()
    copy[path[0]] = changed(value[path[0]], path[1:], junk)
    return copy


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_files_are_read_or_refused(data: st.DataObject, tmp_path: Path) -> None:
    """Whatever stands in the two files: a table, or one line that names a file."""
    metrics = {"acc,none": 1.0, "acc_stderr,none": 0.1, "sample_len": 2}
    told = {
        "results": {"t": metrics, "alone": metrics},
        "configs": {"t": {"metadata": {"protocol": "task", "task": "t"}}},
        "n-shot": {"t": 0},
        "n-samples": {"alone": {"effective": 2}},
        "model_name": "m",
        "config": {"model_args": {"pretrained": "m"}},
    }
    files = {"results": told, "samples": [sample(0), sample(1)]}
    for _ in range(data.draw(st.integers(1, 2))):
        place = data.draw(st.sampled_from([place for place in places(files) if len(place) > 1]))
        files = changed(files, place, data.draw(JUNK))
    results, samples = tmp_path / "results_x.json", tmp_path / "samples_t_x.jsonl"
    results.write_text(json.dumps(files["results"]))
    samples.write_text("".join(json.dumps(row) + "\n" for row in files["samples"]))
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers())
    options = parser.parse_args(["evaluate", "--import", str(results), str(samples), "--out", str(tmp_path / "out")])
    try:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            assert options.run(options) == 0
    except InputError as error:
        assert str(tmp_path) in str(error)
        return
    assert not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in out.getvalue().replace("\n", ""))


def test_no_name_commands_the_terminal_or_makes_rows(tmp_path: Path) -> None:
    measured = files(tmp_path, [sample(0), sample(1)], {"acc,none": 1.0}).tasks["t"]
    names = ["\x1b[31mX\x1b[2J", "a\nb  fake  0.99", "\u202eeman"]
    models = [Model(name, "imported", name) for name in names]
    board = Board({}, models=models, notes=[f"{names[0]}: a note"])
    board.cells = [Cell(model, "t\r\x9b2J", "task", 0, measured) for model in models]
    lines = table(board)
    assert all(line.isprintable() for line in lines) and "a b fake 0.99  " in "\n".join(lines)
    assert len(lines) == 1 + 3 + 1 + 3 + 1  # head, models, an empty line, pairs, the note


@pytest.mark.parametrize("model", ["..", ".", "a/../b", "C:\\x"])
def test_no_model_s_name_leaves_the_folder(model: str) -> None:
    name = sanitized(model)
    assert "/" not in name and "\\" not in name and name.strip(".")


def test_one_is_singular(tmp_path: Path) -> None:
    rows = [replace(row, item=replace(row.item, cluster="a"))
            for row in files(tmp_path, [sample(0), sample(1)], {"acc,none": 1.0}).tasks["t"].rows]  # fmt: skip
    board = Board({}, models=[Model("m", "imported", "")])
    board.cells = [Cell(board.models[0], "t", "task", 0, Measured(rows, {}, accuracy(rows)))]
    assert table(board)[1].endswith("  1 cluster")
