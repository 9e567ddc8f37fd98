"""Metrics of a run, read by item: against pandas, against what stages say of themselves, and refused by name."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.base import schemas
from stages.base.errors import InputError, ParamError
from stages.base.files import write_json
from stages.base.params import read_params
from stages.base.tables import write_table
from stages.evaluation.items import ITEM
from stages.experiment import readers
from stages.experiment.declaration import MetricFile
from stages.experiment.metrics import CATALOGUE, Metric, catalogue, find, of_file, read_outcome
from stages.judging.judge import summary
from tests.contracts.judging import leaderboard
from tests.contracts.scaling import points

ROOT = Path(__file__).resolve().parents[2]
VALUES = read_params(ROOT / "params.yaml")
N, ENTITIES = 60, 12


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a small finished run."""
    root, rng = tmp_path_factory.mktemp("run"), np.random.default_rng(3)

    def table(path: str, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows, schema), file)

    ids = [f"q{i:03}" for i in range(N)]
    instructions = [
        {"id": q, "split": "test" if i % 3 else "validation", "origin": "atlas", "entity": f"e{i % ENTITIES}",
         "attributes": ["x"], "prompt": f"what of {q}?", "response": "that"}
        for i, q in enumerate(ids)
    ]  # fmt: skip
    table("data/alignment/instructions/atlas/instructions.parquet", instructions, schemas.INSTRUCTION)
    annotations, exact, outputs = [], [], []
    for i, one in enumerate(instructions):
        correct, wrong = int(rng.integers(0, 3)), int(rng.integers(0, 2))
        text, failed = "a" * int(rng.integers(1, 50)), i == 7
        shared = {"id": one["id"], "split": one["split"]}
        annotations.append(
            {**shared, "instruction_index": i, "model": "dpo", "baseline": "sft", "annotator": "simulated-0",
             "preference": math.nan if failed else 1 + float(rng.random()), "baseline_first": 1.5,
             "output_first": math.nan, "weighted": True, "usd": 0.001 * i, "seconds": 0.1, "len_output": len(text),
             "len_baseline": 9, "error": "no verdict in the reply" if failed else ""}
        )  # fmt: skip
        exact.append({**shared, "model": "dpo", "asked": 2, "correct": correct, "wrong": wrong,
                      "score": correct - wrong, "right": correct == 2 and not wrong})  # fmt: skip
        outputs.append({**shared, "prompt": one["prompt"], "output": text, "tokens": len(text) // 3})
    table("data/judging/judge/dpo/annotations.parquet", annotations, schemas.ANNOTATION)
    table("data/judging/judge/dpo/exact.parquet", exact, schemas.EXACT)
    table("data/judging/respond/dpo/outputs.parquet", outputs, schemas.OUTPUT)
    write_json(root / "data/judging/judge/dpo/metrics.json", summary(annotations, exact))
    write_json(root / "data/judging/leaderboard/leaderboard.json", leaderboard().model_dump())

    items: list[dict[str, Any]] = [
        {"set": "held_out", "protocol": "", "id": f"d{i}", "group": "atlas", "domain": "", "tokens": 9,
         "nats": float(rng.random() * 900), "bytes": int(rng.integers(50, 900))}
        for i in range(20)
    ]  # fmt: skip
    for protocol in ("original", "cloze", "chat"):
        for q in ids:
            logprobs = rng.normal(-9, 3, 4).tolist()
            choice = int(np.argmax(logprobs))
            items.append(
                {
                    "set": "atlas_facts",
                    "protocol": protocol,
                    "id": q,
                    "group": "x",
                    "domain": "",
                    "choice": choice,
                    "logprobs": logprobs,
                    "answer": int(rng.integers(0, 4)),
                    "choice_norm": choice,
                    "shots": 0,
                }
            )
    table("data/evaluation/evaluate/dpo/items.parquet", items, ITEM)
    table("data/corpus/source/atlas/questions.parquet", [
        {"id": one["id"], "split": "test", "entity": one["entity"], "kind": "single", "attributes": ["x"],
         "prompt": "?", "reference": "that", "filler": ""} for one in instructions
    ], schemas.QUESTION)  # fmt: skip
    for key, point in zip(VALUES["scaling"]["points"], points(), strict=False):
        write_json(root / f"data/scaling/ladder/{key}/point.json", point.model_dump(mode="json"))
    write_json(root / "data/pretraining/pretrain/metrics.json", {"validation_loss": 3.81, "predicted_loss": 3.77})
    write_json(root / "data/corpus/dedup/metrics.json", {"near_duplicate_recall": 0.875, "documents_out": 31})
    return root


def of_test(run: Path, path: str) -> pd.DataFrame:
    frame = pd.read_parquet(run / path)
    return frame[frame.split == "test"].set_index("id")


def bits(run: Path) -> pd.Series:
    frame = pd.read_parquet(run / "data/evaluation/evaluate/dpo/items.parquet").query("protocol == ''")
    frame = frame.assign(item="held_out/" + frame["id"]).set_index("item")
    return frame.nats / math.log(2) * len(frame) / frame.bytes.sum()


def choices(run: Path, protocol: str) -> pd.DataFrame:
    frame = pd.read_parquet(run / "data/evaluation/evaluate/dpo/items.parquet")
    return frame[(frame.set == "atlas_facts") & (frame.protocol == protocol)].set_index("id")


def probability(frame: pd.DataFrame) -> pd.Series:
    each = np.exp(np.stack(frame.logprobs.to_list()))
    return pd.Series(100 * each[np.arange(len(frame)), frame.answer.astype(int)] / each.sum(1), frame.index)


EXACT, VERDICTS = "data/judging/judge/dpo/exact.parquet", "data/judging/judge/dpo/annotations.parquet"
OUTPUTS = "data/judging/respond/dpo/outputs.parquet"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dpo/right", lambda run: 100.0 * of_test(run, EXACT).right),
        ("dpo/score", lambda run: of_test(run, EXACT).score),
        ("dpo/correct", lambda run: of_test(run, EXACT).correct),
        ("dpo/wrong", lambda run: of_test(run, EXACT).wrong),
        ("dpo/win_rate", lambda run: 100 * (of_test(run, VERDICTS).preference.dropna() - 1)),
        ("dpo/length", lambda run: of_test(run, OUTPUTS).output.str.len()),
        ("dpo/tokens", lambda run: of_test(run, OUTPUTS).tokens),
        ("dpo/bpb", bits),
        ("dpo/bpb/held_out", bits),
        ("dpo/atlas_facts/cloze", lambda run: 100.0 * (lambda f: f.choice == f.answer)(choices(run, "cloze"))),
        ("dpo/atlas_facts", lambda run: 100.0 * (lambda f: f.choice == f.answer)(choices(run, "chat"))),
        ("dpo/atlas_facts/original/probability", lambda run: probability(choices(run, "original"))),
    ],
)
def test_items_are_those_that_pandas_finds(run: Path, name: str, expected: Callable[[Path], pd.Series]) -> None:
    found = read_outcome(find(name, VALUES), run).set_index("item")
    wanted = expected(run).astype(float)
    assert len(found) == len(wanted) > 10
    np.testing.assert_allclose(found.value.loc[wanted.index], wanted, rtol=1e-12)


@pytest.mark.parametrize("name", ["dpo/right", "dpo/win_rate", "dpo/length", "dpo/atlas_facts"])
def test_questions_come_in_groups_of_their_entity(run: Path, name: str) -> None:
    found = read_outcome(find(name, VALUES), run)
    assert all(
        cluster == f"e{int(item[1:]) % ENTITIES}" for item, cluster in zip(found.item, found.cluster, strict=True)
    )


def test_the_mean_of_items_is_the_number_that_the_stage_says(run: Path) -> None:
    said = json.loads((run / "data/judging/judge/dpo/metrics.json").read_text())
    for name, key in (("right", "test_right"), ("score", "test_mean_score"), ("win_rate", "test_win_rate")):
        assert read_outcome(find(f"dpo/{name}", VALUES), run).value.mean() == pytest.approx(said[key], rel=1e-12)
    assert read_outcome(find("dpo/judge_usd", VALUES), run).value.tolist() == [pytest.approx(said["test_usd"])]
    items = pd.read_parquet(run / "data/evaluation/evaluate/dpo/items.parquet").query("protocol == ''")
    whole = items.nats.sum() / math.log(2) / items.bytes.sum()
    assert read_outcome(find("dpo/bpb", VALUES), run).value.mean() == pytest.approx(whole, rel=1e-12)


def test_a_ladder_has_a_loss_and_its_compute_a_point(run: Path) -> None:
    keys = [key for key, one in VALUES["scaling"]["points"].items() if one["arch"] == "transformer"]
    frame = read_outcome(find("ladder/loss", VALUES), run)
    assert frame.item.tolist() == keys
    for row in frame.itertuples():
        said = json.loads((run / f"data/scaling/ladder/{row.item}/point.json").read_text())
        assert (row.value, row.compute) == (said["loss"], said["flops"])
    assert read_outcome(find("ladder/bpb/lstm", VALUES), run).item.str.startswith("lstm").all()


def test_numbers_of_files(run: Path) -> None:
    reached = read_outcome(find("pretrain/loss", VALUES), run)
    assert reached[["item", "value", "predicted"]].values.tolist() == [["", 3.81, 3.77]]
    assert read_outcome(find("dedup/near_recall", VALUES), run).value.tolist() == [87.5]
    assert read_outcome(find("dedup/documents", VALUES), run).value.tolist() == [31.0]
    row = next(row for row in leaderboard().rows if row.model == "dpo")
    assert read_outcome(find("dpo/lc", VALUES), run).value.tolist() == [row.lc_win_rate]


def test_a_declaration_may_name_a_file(run: Path) -> None:
    number = of_file(MetricFile(file="data/corpus/dedup/metrics.json", key="near_duplicate_recall"))
    assert read_outcome(number, run).value.tolist() == [0.875]
    asked = MetricFile(file=EXACT, value="right", item="id", cluster="asked", where={"split": "validation"})
    found = read_outcome(of_file(asked), run).set_index("item")
    frame = pd.read_parquet(run / EXACT).query("split == 'validation'").set_index("id")
    assert found.value.loc[frame.index].tolist() == frame.right.astype(float).tolist()
    assert set(found.cluster) == {"2"}


def test_every_name_of_the_catalogue_has_a_form_that_lists_it() -> None:
    forms: dict[int, list[list[str]]] = {name.count("/"): [] for name in CATALOGUE}
    for name in CATALOGUE:
        forms[name.count("/")].append(name.split("/"))
    for name in catalogue(VALUES):
        parts = name.split("/")
        assert any(
            all(part == form or form.startswith("<") for part, form in zip(parts, one, strict=True))
            for one in forms[len(parts) - 1]
        ), name
    assert all(metric.says and metric.files for metric in CATALOGUE.values())


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("dpo/rigth", "did you mean `dpo/right`?"),
        ("dppo/right", "did you mean `ppo/right`?"),
        ("dedup/documnets", "did you mean `dedup/documents`?"),
        ("nothing at all", "trainyard experiment metrics"),
    ],
)
def test_an_unknown_name_is_told_the_nearest(asked: str, said: str) -> None:
    with pytest.raises(ParamError) as caught:
        find(asked, VALUES)
    assert f"unknown metric `{asked}`" in str(caught.value) and said in str(caught.value)


def broken(metric: Metric, root: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_outcome(metric, root)
    return str(caught.value)


def test_what_is_missing_is_named(tmp_path: Path, run: Path) -> None:
    said = broken(find("dpo/right", VALUES), tmp_path)
    assert "instructions.parquet: not found" in said
    file = "data/pretraining/pretrain/metrics.json"
    write_json(tmp_path / file, {"validation_los": 3.0})
    assert f"{file}: no key `validation_loss`; did you mean `validation_los`?" in broken(
        find("pretrain/loss", VALUES), tmp_path
    )
    write_json(tmp_path / file, {"validation_loss": math.nan, "predicted_loss": 3.0})
    assert f"{file}: `validation_loss` is None; a metric must be a number" in broken(
        find("pretrain/loss", VALUES), tmp_path
    )
    asked = MetricFile(file=EXACT, value="rigth", item="id")
    assert "exact.parquet: no column `rigth`; did you mean `right`?" in broken(of_file(asked), run)
    asked = MetricFile(file=EXACT, value="right", item="id", where={"split": "tset"})
    assert "exact.parquet: no row for metric" in broken(of_file(asked), run)
    asked = MetricFile(file=EXACT, value="right", item="split")
    assert "stands there twice" in broken(of_file(asked), run)
    (tmp_path / "data/x.parquet").write_text("no table")
    asked = MetricFile(file="data/x.parquet", value="a", item="b")
    assert "x.parquet: not a parquet file" in broken(of_file(asked), tmp_path)


def test_a_verdict_that_is_nan_without_a_reason_is_refused_by_its_item(tmp_path: Path, run: Path) -> None:
    for path in (VERDICTS, "data/alignment/instructions/atlas/instructions.parquet"):
        frame = pd.read_parquet(run / path)
        if "preference" in frame:
            frame.loc[frame.id == "q001", "preference"] = math.nan
        (tmp_path / path).parent.mkdir(parents=True)
        frame.to_parquet(tmp_path / path)
    said = broken(find("dpo/win_rate", VALUES), tmp_path)
    assert "metric `dpo/win_rate` is None, item q001" in said


def test_tasks_of_files_count_by_their_main_metric(tmp_path: Path) -> None:
    """Of repeated options any is right; generated answers have no choice; a task that isn't asked under the usual
    protocol is taken under its own template."""
    common = {"set": "t", "protocol": "task", "group": "", "domain": "", "cluster": "p"}
    rows = [
        {"id": "repeated", "answer": 0, "choice": 1, "logprobs": [-2.0, -1.0], "correct": 1.0},
        {"id": "generated", "correct": 0.0, "text": "no"},
    ]
    write_table(tmp_path / "items.parquet", pa.Table.from_pylist([common | row for row in rows], schema=ITEM), ITEM)
    found = readers.answers(tmp_path, "items.parquet", "t", ("cloze", "task"), None)
    assert [(row["item"], row["value"], row["cluster"]) for row in found] == [
        ("repeated", 100.0, "p"),
        ("generated", 0.0, "p"),
    ]
    assert readers.answers(tmp_path, "items.parquet", "t", ("cloze",), None) == []
    (one,) = readers.answers(tmp_path, "items.parquet", "t", ("task",), None, probability=True)
    assert one["value"] == pytest.approx(100 * math.exp(-2) / (math.exp(-2) + math.exp(-1)))
