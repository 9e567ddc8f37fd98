"""Keep or discard: what a change may be, which way is better, error rates, the ledger."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from stages.base.contracts.claim import Verdict
from stages.base.errors import ParamError
from stages.base.reference import Schema
from stages.base.workers import can_fork
from stages.cli import parser
from stages.experiment.gate import Gate, arm, better, conclude, declaration, judged
from stages.experiment.runs.suite import run
from stages.experiment.verdict import decide
from tests.experiment.toy import Toy

PLAN = {"metric": "dpo/right", "direction": "higher", "seeds": [3, 5, 8]}


def outcomes(gap: float, seeds: int, rng: np.random.Generator) -> list[dict[str, object]]:
    return [
        {"arm": name, "seed": s, "value": effect + rng.normal()}
        for name, effect in (("baseline", 0.0), ("change", gap))
        for s in range(1, seeds + 1)
    ]


def test_a_change_is_params_a_file_or_a_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("hot.yaml").write_text("alignment:\n  dpo:\n    lr: 3.0e-4\n")
    assert arm(["hot.yaml"]) == {"alignment": {"dpo": {"lr": 3e-4}}}
    assert arm(["alignment.dpo.lr=3.0e-4", "run.seed=7"]) == {"alignment.dpo.lr": 3e-4, "run.seed": 7}
    assert arm(["."]) == {}
    subprocess.run(["git", "init", "-q"], check=True)
    commit = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "x"]
    subprocess.run(commit, check=True)
    assert len(arm(["HEAD"])["revision"]) == 40
    for wrong, told in (
        (["nosuch"], "neither a YAML file"),
        (["gone.yaml"], "not found"),
        (["a=1", "a=2"], "given twice"),
        (["a=[1"], "not valid YAML"),
        (["a=!!int x"], "not valid YAML"),
        (["a=!!timestamp x"], "not valid YAML"),
        (["hot.yaml", "a=1"], "one YAML file"),
    ):
        with pytest.raises(ParamError, match=told):
            arm(wrong)


def test_the_declaration_fixes_rule_and_looks_beforehand() -> None:
    one = declaration(["alignment.dpo.lr=3.0e-4"], **PLAN)  # type: ignore[arg-type]
    assert (one.rule, one.alpha, one.looks and one.looks.at) == ("change > baseline", 0.1, [3, 5, 8])
    assert one.name == declaration(["alignment.dpo.lr=3.0e-4"], **PLAN).name  # type: ignore[arg-type]
    other = declaration(["alignment.dpo.lr=1.0e-4"], **PLAN | {"direction": "lower", "seeds": [4]})  # type: ignore[arg-type]
    assert (other.rule, other.looks) == ("change < baseline", None) and other.name != one.name
    assert better("bits per byte", "x") == "lower" and better("percent", "x") == "higher"
    for options, told in (({"seeds": [1, 3]}, "--seeds"), ({"seeds": [5, 3]}, "--seeds"), ({"alpha": 0.3}, "--alpha")):
        with pytest.raises(ParamError, match=told):
            declaration(["a=1"], **PLAN | options)  # type: ignore[arg-type]
    with pytest.raises(ParamError, match="--better"):
        better("characters", "dpo/length")


@pytest.mark.parametrize(
    ("word", "low", "high", "margin", "direction", "decision"),
    [
        ("supported", 1, 3, None, "higher", "keep"),
        ("supported", 1, 3, 4, "higher", "discard"),
        ("supported", -3, -1, None, "lower", "keep"),
        ("supported", -3, -1, 4, "lower", "discard"),
        ("contradicted", -3, -1, None, "higher", "discard"),
        ("equivalent", -1, 1, 2, "higher", "discard"),
        ("undecided", -1, 1, None, "higher", "undecided"),
        ("undecided", -9, 1, 2, "higher", "discard"),
        ("undecided", -1, 9, 2, "higher", "undecided"),
        ("undecided", -1, 9, 2, "lower", "discard"),
    ],
)
def test_decisions(word: str, low: float, high: float, margin: float | None, direction: str, decision: str) -> None:
    verdict = Verdict(
        verdict=word, sentence="x: y", analysis="difference", level=0.9, effect=(low + high) / 2, low=low, high=high
    )  # type: ignore[arg-type]
    assert judged(verdict, margin, direction) == decision  # type: ignore[arg-type]


def test_error_rate_of_keeping_over_all_looks() -> None:
    rng, plan = np.random.default_rng(0), declaration(["a=1"], **PLAN)  # type: ignore[arg-type]
    words = [decide(plan, outcomes(0.0, 8, rng)).verdict for _ in range(400)]
    kept, discarded = words.count("supported") / 400, words.count("contradicted") / 400
    assert 0.02 <= kept <= 0.09 and 0.02 <= discarded <= 0.09  # .05 each
    found = [decide(plan, outcomes(3.0, 8, rng)) for _ in range(50)]
    assert sum(one.verdict == "supported" for one in found) >= 45
    assert np.mean([one.n_seeds for one in found]) < 6.5  # a large improvement is seen before the last look


def test_the_ledger_counts_other_changes(tmp_path: Path) -> None:
    rng, ledger = np.random.default_rng(1), tmp_path / "store" / "gates.jsonl"
    gates = []
    for change, gap in (("a=1", 9.0), ("a=2", 0.0), ("a=2", 0.0)):
        plan = declaration([change], **PLAN)  # type: ignore[arg-type]
        gates.append(conclude(plan, decide(plan, outcomes(gap, 8, rng)), [change], ".", ledger))
    assert [one.decision for one in gates] == ["keep", "undecided", "undecided"]
    assert [one.before for one in gates] == [0, 1, 1]  # the same change again is no other one
    assert gates[0].line.startswith("keep: change − baseline is") and "\n" not in gates[0].line
    assert "Of 2 changes gated so far 1 were kept" in gates[1].line and "up to 0.1" in gates[1].line
    rows = ledger.read_text().splitlines()
    assert [Gate.model_validate_json(row) for row in rows] == gates
    with pytest.raises(ParamError, match=r"no decision: .*dpo failed"):
        conclude(plan, decide(plan, [], waits=["arm change, seed 1 (dpo failed)"]), ["a=2"], ".", ledger)


@pytest.mark.skipif(not can_fork(), reason="instances are forked on Linux")
def test_a_gate_runs_seeds_until_a_look_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = Toy(tmp_path / "project")
    monkeypatch.chdir(toy.root)
    metric = {"file": "data/evaluate/metrics.json", "key": "right"}
    plan = declaration(["train.lr=0.1"], **PLAN | {"metric": metric, "seeds": [2, 3]})  # type: ignore[arg-type]
    schema: Schema = {}
    schema["additionalProperties"] = schema
    (done,) = run([plan], schema)
    decided = conclude(plan, done.verdict, ["train.lr=0.1"], ".", Path("gates.jsonl"))
    look = done.verdict.look
    assert look and toy.executed().count("train") == 2 * look.at == 2 * decided.seeds
    assert decided.decision == judged(done.verdict, None, "higher")


def test_the_command_takes_its_options() -> None:
    given = parser().parse_args(["experiment", "gate", "a.b=1", "c=2", "--metric", "x/bpb", "--seeds", "4", "--json"])
    assert given.change == ["a.b=1", "c=2"] and given.seeds == "4" and given.json
