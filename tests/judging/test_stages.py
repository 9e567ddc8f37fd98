"""respond, baseline, judge, agreement and leaderboard, as the pipeline runs them, over a project of a few kilobytes."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from stages.annotators.grades import EXACT, OVERLAP
from stages.base import schemas
from stages.base.contracts.agreement import Agreement
from stages.base.contracts.leaderboard import Leaderboard
from stages.base.files import read_json, write_json
from stages.base.tables import read_table, write_table
from stages.judging import agreement, baseline, judge, leaderboard, respond
from stages.lm.checkpoint import save_model
from tests.annotators.judges import settings
from tests.evaluation.conftest import make_model, make_tokenizer

ROOT = Path(__file__).resolve().parents[2]
CONTROLS = {kind: {"kind": kind, "path": "params.yaml"} for kind in ("constant", "shuffled", "nearest_neighbour")}
PADDED = {"kind": "padded", "path": "data/judging/respond/sft/outputs.parquet"}
PARAMS: dict[str, Any] = {
    "run": {"seed": 3},
    "models": {"import": {}, "trained": {"sft": {}}},
    "judging": {
        "answerers": CONTROLS | {"padded": PADDED, "gold": {"kind": "outputs", "path": "gold.parquet"}},
        "respond": {"temperature": 0.0, "max_new_tokens": 6, "batch_size": 8, "limit": None},
        "baseline": {"model": "sft"},
        "judge": {"max_missing": 0.0, "annotator": settings().model_dump()},
        "agreement": {"pairs": 30, "min_length_gap": 2, "models": []},
        "leaderboard": {"subject": "gold", "against": ["constant"], "choose_by": "right", "reruns": "reruns"},
    },
}
COLOURS = ["red", "blue", "green"]
KEYS = ["sft", *PARAMS["judging"]["answerers"]]


def instructions(known: bool) -> list[dict]:
    return [
        {
            "id": f"{split}{i}",
            "split": split,
            "origin": "own",
            "entity": f"P{i}" if known else "",
            "attributes": ["colour"] if known else [],
            "prompt": f"What colour is P{i} of {split}?",
            "response": f"It is {COLOURS[i % 3]}, all agree.",
        }
        for split in ("sft", "validation", "test")
        for i in range(9)
    ]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRAINYARD_TRACK", "off")
    monkeypatch.setenv("TRAINYARD_WORKERS", "1")
    Path("params.yaml").write_text(yaml.safe_dump(PARAMS))
    save_model("data/models/sft", make_model(), make_tokenizer(tmp_path / "tokenizer"))
    for folder in ("respond", "judge"):
        write_json(f"data/judging/{folder}/items.json", KEYS)
    write_json("data/alignment/instructions/items.json", ["own"])
    return tmp_path


def bring(known: bool) -> None:
    """The instructions, with their truth or without, and the right answers as an outputs table."""
    rows = instructions(known)
    facts = {f"P{i}": {"kind": "place", "facts": {"colour": COLOURS[i % 3]}} for i in range(9)}
    truth = {"attributes": {"colour": COLOURS}, "entities": facts} if known else {"attributes": {}, "entities": {}}
    write_json("data/alignment/instructions/own/truth.json", truth)
    path = "data/alignment/instructions/own/instructions.parquet"
    write_table(path, pa.Table.from_pylist(rows, schemas.INSTRUCTION), schemas.INSTRUCTION)
    gold = [{"id": r["id"], "split": r["split"], "prompt": r["prompt"], "output": r["response"]} for r in rows]
    write_table("gold.parquet", pa.Table.from_pylist(gold, schemas.OUTPUT), schemas.OUTPUT)


@pytest.fixture(autouse=True)
def no_reruns(project: Path) -> None:
    Path("reruns").mkdir()


def run_all(monkeypatch: pytest.MonkeyPatch) -> tuple[Agreement, Leaderboard]:
    for module in (respond, judge):
        for key in KEYS:
            monkeypatch.setattr("sys.argv", [module.__name__, key])
            module.main()
            if (module, key) == (respond, KEYS[-1]):
                baseline.main()
    agreement.main()
    leaderboard.main()
    agreed = Agreement.model_validate(read_json("data/judging/agreement/agreement.json"))
    return agreed, Leaderboard.model_validate(read_json("data/judging/leaderboard/leaderboard.json"))


def test_own_instructions_without_truth_reach_a_leaderboard(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bring(known=False)
    agreed, board = run_all(monkeypatch)
    rows = {row.model: row for row in board.rows}
    assert next(iter(rows)) == "gold" and rows["gold"].win_rate > 90
    assert all(row.right is None for row in board.rows)
    assert board.judge.simulated and board.judge.signal == OVERLAP
    assert any(OVERLAP in note for note in board.notes) and any(OVERLAP in note for note in agreed.notes)
    assert agreed.pool.truth_agreement is None and agreed.pool.agreement is not None
    assert (board.chosen.model, board.chosen.by) == ("gold", "lc_win_rate")
    assert board.comparisons[0].metric == "win_rate"
    assert (rows["sft"].kind, rows["sft"].source, rows["padded"].control) == ("trained", "data/models/sft", True)
    assert "most frequent" in read_json("data/judging/respond/constant/record.json")["notes"]["answers"]
    assert read_table("data/judging/judge/gold/exact.parquet", schemas.EXACT).num_rows == 0
    tokens = {key: read_table(f"data/judging/respond/{key}/outputs.parquet", schemas.OUTPUT)["tokens"] for key in KEYS}
    assert tokens["sft"].null_count == 0 and tokens["constant"].null_count == len(tokens["constant"])


def test_with_truth_the_exact_score_counts(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bring(known=True)
    agreed, board = run_all(monkeypatch)
    rows = {row.model: row for row in board.rows}
    assert rows["gold"].right == 100 and rows["sft"].right == 0
    assert board.judge.signal == EXACT and agreed.pool.truth_agreement > 90
    assert (board.chosen.by, board.comparisons[0].metric) == ("right", "right")
    parameters = read_json("data/judging/judge/gold/record.json")["params"]
    assert set(parameters) == {"judging.judge", "judging.baseline", "run.seed"}


def test_what_answers_without_weights_imports_no_torch() -> None:
    program = "import sys, stages.judging.{0}; sys.exit(bool({{'torch', 'pandas', 'scipy'}} & set(sys.modules)))"
    for module in ("respond", "judge", "baseline"):
        assert subprocess.run([sys.executable, "-c", program.format(module)], cwd=ROOT).returncode == 0, module
