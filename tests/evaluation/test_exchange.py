"""The harness's files: read as it wrote them, written as it reads them."""

import json
import math
import os
import subprocess
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from scipy import stats as scipy_stats

from stages.base.closure import ROOT
from stages.base.errors import InputError
from stages.base.paired import compare
from stages.evaluation.exchange import Exported, Imported, exported_name, read_harness, sample_task, write_harness
from stages.evaluation.measure import Task, open_task
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
