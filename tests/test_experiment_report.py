"""`trainyard experiment report`: from the folders that runs leave to JSON, pages and the page of all claims."""

import json
from pathlib import Path
from shutil import copy, copytree, rmtree
from typing import Any

import numpy as np
import pytest

from stages.base.contracts.claim import Claim
from stages.base.params import read_params
from stages.base.reference import params_schema
from stages.check import declared_sections
from stages.cli import main
from stages.commands.compare import compare
from stages.experiment.arms import compose
from stages.experiment.declaration import read_declaration
from stages.experiment.runs.graph import Run, graph_of
from stages.experiment.runs.outcomes import ClaimFolder, outcome_table, seed_label
from stages.experiment.runs.results import open_store
from stages.experiment.runs.scheduler import Finished
from stages.experiment.sides import read_side
from stages.experiment.summary import across_scales, signals, sizes_of
from stages.experiment.verdict import decide
from stages.publishing.claims.publish import write_suite
from stages.publishing.html.site import SiteParams
from tests.contracts import claims
from tests.publishing.html_page import Page

RATES = ("baseline", "faster")
ROOT = Path(__file__).resolve().parents[1]
FASTER = """# as declared
claim: A higher learning rate of DPO gives more right answers.
source: DPO has few numbers, and they still have to be found.
lecture: alignment
metric: dpo/right
metrics: [dpo/length]
arms: {baseline: {}, faster: {alignment.dpo.lr: 3.0e-4}}
seeds: 4
rule: faster > baseline
margin: 1
"""
LONGER = """claim: More steps of DPO make longer answers.
metric: dpo/length
arms: {baseline: {}, longer: {alignment.dpo.epochs: 3}}
seeds: 3
rule: longer > baseline
"""


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return params_schema(declared_sections())


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project's pipeline and params with two declarations, of which one has run."""
    for file in ("dvc.yaml", "params.yaml"):
        copy(ROOT / file, tmp_path)
    copytree(ROOT / "scales", tmp_path / "scales")
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "faster.yaml").write_text(FASTER)
    (tmp_path / "experiments" / "longer.yaml").write_text(LONGER)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_claim(
    name: str, effect: float, schema: dict[str, Any], *, fails: tuple[str, str] | None = None
) -> dict[str, np.ndarray]:
    """Leave a claim's folder as its runs would; arm → the values [seeds, questions] that they had."""
    declaration = read_declaration(Path(f"experiments/{name}.yaml"))
    store = open_store()
    folder = ClaimFolder(name, store)
    folder.freeze(declaration)
    rng = np.random.default_rng(7)
    seeds = declaration.seed_values()
    shared, items = rng.normal(0, 20, 60), [f"q{i}" for i in range(60)]
    rows, found, waits = [], {}, []
    for place, arm in enumerate(declaration.arms):
        values = 60 + shared + rng.normal(0, 5, (len(seeds), 60)) + rng.normal(0, 0.5, (len(seeds), 1)) + effect * place
        found[arm] = values
        for seed, own in zip(seeds, values, strict=True):
            params = compose(declaration, arm, seed, schema)
            graph = graph_of(Path(), params, ["data/judging/judge/dpo/exact.parquet"])
            keys = {"check": "c" * 64, "sft": "5" * 64, "dpo": f"{arm[0]}{seed_label(seed)}".ljust(64, "d")}
            finished = Finished(Run(name, arm, seed, Path(), params, "", graph), keys)
            if (arm, seed_label(seed)) == fails:
                finished.failed, finished.reason = "dpo", "killed for memory"
                waits.append(f"arm {arm}, seed {seed_label(seed)}")
            else:
                for metric, factor in ((declaration.metric, 1.0), *((one, 0.5) for one in declaration.metrics)):
                    for i, (item, value) in enumerate(zip(items, own, strict=True)):
                        row = {"metric": metric, "arm": arm, "seed": seed_label(seed), "item": item}
                        row |= {"cluster": f"e{i // 2}", "value": value * factor, "compute": None, "predicted": None}
                        rows.append(row)
            folder.log(finished, declaration)
    cost = {"executed": [{}] * 8, "reused": [{}] * 40, "cpu_seconds": 120.0, "judge_usd": 0.0}
    table = outcome_table(rows)
    folder.write(table, cost, decide(declaration, table, waits=waits))
    return found


def read(name: str) -> Claim:
    return Claim.model_validate_json(Path(f"reports/claims/{name}.json").read_text())


def test_a_claim_is_reported_with_its_arms_and_every_run(
    project: Path, schema: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    values = run_claim("faster", 2.0, schema)
    assert main(["experiment", "report"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("faster: Supported: faster − baseline") and "not run yet: longer" in told
    claim = read("faster")
    assert claim.declaration == FASTER and claim.topic == "alignment" and claim.unit == "percent"
    assert [arm.name for arm in claim.arms if arm.baseline] == ["baseline"]
    rate = read_params()["alignment"]["dpo"]["lr"]
    assert [arm.params for arm in claim.arms] == [{"alignment.dpo.lr": rate}, {"alignment.dpo.lr": 3e-4}]
    for arm in claim.arms:
        own = values[arm.name].mean(1)
        summary = arm.metrics["dpo/right"]
        assert (summary.mean, summary.sd, summary.n) == pytest.approx((own.mean(), own.std(ddof=1), 4))
        assert arm.metrics["dpo/length"].mean == pytest.approx(own.mean() / 2)
        assert [run.values["dpo/right"] for run in claim.runs if run.arm == arm.name] == pytest.approx(own)
    assert claim.verdict.effect == pytest.approx(values["faster"].mean() - values["baseline"].mean())
    suite = Page(Path("reports/claims.html").read_text())
    assert "1 claim, put to the test" in suite.text and "longer" not in suite.text


def test_a_seed_that_failed_is_named_and_the_verdict_waits(project: Path, schema: dict[str, Any]) -> None:
    run_claim("faster", 2.0, schema, fails=("faster", "3"))
    assert main(["experiment", "report", "faster"]) == 0
    claim = read("faster")
    assert claim.verdict.verdict == "undecided" and "faster, seed 3" in claim.verdict.sentence
    failed = [run for run in claim.runs if run.status == "failed"]
    assert [(run.arm, run.seed, run.reason) for run in failed] == [("faster", "3", "dpo: killed for memory")]
    assert "killed for memory" in Page(Path("reports/claims/faster.html").read_text()).text


def test_an_edit_after_the_runs_makes_it_deviated(project: Path, schema: dict[str, Any]) -> None:
    run_claim("faster", 2.0, schema)
    Path("experiments/faster.yaml").write_text(FASTER.replace("# as declared\n", "# a comment changes nothing\n"))
    main(["experiment", "report", "faster"])
    assert read("faster").deviation is None
    Path("experiments/faster.yaml").write_text(FASTER.replace("rule: faster > baseline", "rule: faster < baseline"))
    assert main(["experiment", "report", "faster"]) == 0
    claim = read("faster")
    assert claim.verdict.verdict == "deviated" and "`rule`" in claim.verdict.sentence
    assert claim.rule == "faster > baseline" and claim.deviation is not None
    assert "faster < baseline" in claim.deviation.declaration


def test_a_claim_that_the_check_refused_has_a_page(project: Path, schema: dict[str, Any]) -> None:
    declaration = read_declaration(Path("experiments/faster.yaml"))
    cost = {"executed": [], "reused": [], "cpu_seconds": 0.0, "judge_usd": 0.0}
    folder = ClaimFolder("faster", open_store())
    folder.write(outcome_table([]), cost, decide(declaration, outcome_table([]), refused=["two arms are equal"]))
    assert main(["experiment", "report"]) == 0
    claim = read("faster")
    assert claim.verdict.verdict == "inadmissible" and {run.status for run in claim.runs} == {"waiting"}
    page = Page(Path("reports/claims/faster.html").read_text())
    assert "two arms are equal" in page.text and "0 of 8 runs" in page.text


def test_reports_are_a_function_of_the_folders(project: Path, schema: dict[str, Any]) -> None:
    def written() -> dict[str, bytes]:
        main(["experiment", "report"])
        return {str(path): path.read_bytes() for path in sorted(Path("reports").rglob("*.*"))}

    run_claim("faster", 2.0, schema)
    run_claim("longer", 0.0, schema)
    noted = open_store().folder / "claims" / "faster" / "mlflow.json"
    first = written()
    noted.write_text(json.dumps({"baseline": "0123abcd"}))
    assert written() == first, "run ids of MLflow are on no page"


def test_a_page_whose_runs_are_elsewhere_is_made_anew_from_its_json(
    project: Path, schema: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run_claim("faster", 2.0, schema)
    assert main(["experiment", "report"]) == 0
    pages = {path: path.read_bytes() for path in sorted(Path("reports").rglob("*.*"))}
    assert main(["verify", "reports/claims.html"]) == 0
    rmtree(".trainyard")
    Path("reports/claims/faster.html").write_text("of an older version")
    assert main(["experiment", "report"]) == 0
    assert {path: path.read_bytes() for path in sorted(Path("reports").rglob("*.*"))} == pages
    capsys.readouterr()
    assert main(["verify", "reports/claims.html"]) == 0
    assert "not here: claims' runs are where they ran" in capsys.readouterr().out
    Path("reports/claims/faster.json").write_text(Path("reports/claims/faster.json").read_text() + " ")
    assert main(["experiment", "report"]) == 2
    assert "git checkout reports/claims/faster.json" in capsys.readouterr().err


def test_runs_of_mlflow_are_told_on_the_terminal(
    project: Path, schema: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run_claim("faster", 2.0, schema)
    (open_store().folder / "claims" / "faster" / "mlflow.json").write_text(json.dumps({"baseline": "0123abcd"}))
    main(["experiment", "report", "faster"])
    assert "MLflow run of faster, arm baseline: 0123abcd" in capsys.readouterr().out


def test_a_verdict_that_was_written_by_hand_is_not_published(project: Path, schema: dict[str, Any]) -> None:
    run_claim("faster", 2.0, schema)
    kept = open_store().folder / "claims" / "faster" / "verdict.json"
    found = json.loads(kept.read_text())
    kept.write_text(json.dumps(found | {"verdict": "contradicted", "effect": -7.0}))
    main(["experiment", "report", "faster"])
    told = json.loads(Path("reports/claims/faster.json").read_text())["verdict"]
    assert (told["verdict"], told["effect"]) == (found["verdict"], found["effect"]) and found["verdict"] == "supported"


def test_names_are_checked(project: Path, schema: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiment", "report", "fastr"]) == 2
    assert "experiments/fastr.yaml: not found; did you mean `faster`?" in capsys.readouterr().err
    assert main(["experiment", "report", "experiments/faster.yaml"]) == 1
    assert "not run yet: faster" in capsys.readouterr().out


def test_params_that_have_gone_since_leave_the_overlays(project: Path, schema: dict[str, Any]) -> None:
    run_claim("faster", 2.0, schema)
    text = Path("params.yaml").read_text().replace("  dpo:\n", "  dpo_old:\n", 1)
    Path("params.yaml").write_text(text)
    assert main(["experiment", "report", "faster"]) == 0
    assert read("faster").arms[1].params == {"alignment.dpo.lr": 3e-4}


def test_arms_are_sides_of_a_comparison(project: Path, schema: dict[str, Any]) -> None:
    """Several seeds: paired by seed and question."""
    values = run_claim("faster", 2.0, schema)
    found = compare(read_side("faster:baseline", lambda: schema), read_side("faster:faster", lambda: schema))
    row = next(one for one in found["metrics"] if one["name"] == "dpo/right")
    claimed = decide(read_declaration(Path("experiments/faster.yaml")), open_outcomes("faster"))
    assert row["difference"] == pytest.approx(values["faster"].mean() - values["baseline"].mean())
    assert row["seeds"] == 4 and row["items"] == 60 and row["clusters"] == 30
    assert claimed.effect == pytest.approx(row["difference"])
    assert list(found["params"]) == ["alignment.dpo.lr"]
    one = compare(read_side("faster:baseline@2", lambda: schema), read_side("faster:faster@2", lambda: schema))
    row = next(one for one in one["metrics"] if one["name"] == "dpo/right")
    assert row["difference"] == pytest.approx(values["faster"][1].mean() - values["baseline"][1].mean())
    assert row["seeds"] == 0


def test_two_scales_of_a_claim_are_held_against_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four arms whose order differs in one pair: five of six."""
    monkeypatch.chdir(tmp_path)
    means = {"small": [1.0, 2.0, 3.0, 4.0], "large": [1.0, 2.0, 4.0, 3.0], "else": [9.0, 9.5, 9.7, 9.9]}
    suite = [
        claims.trend(
            name, flops=flops, rule=rule,
            arms=[
                arm.model_copy(update={"metrics": {"sft/right": claims.summary([mean - 0.1, mean + 0.1])}})
                for arm, mean in zip(claims.trend().arms, means[name], strict=True)
            ],
        )
        for name, flops, rule in (
            ("large", 9e12, "increasing"), ("small", 1e12, "increasing"), ("else", 2e12, "decreasing")
        )
    ]  # fmt: skip
    (found,) = across_scales(suite)
    assert (found.small, found.large) == ("small", "large")
    assert (found.accuracy.right, found.accuracy.pairs) == (5, 6)
    write_suite(suite, {}, [found], SiteParams(title="T", pages=["claims"]))
    text = Page(Path("reports/claims.html").read_text()).text
    assert "5 of 6" in text and "a decision accuracy of 83 %" in text and "1T → 9T" in text


def test_noise_of_seeds_and_sizes_of_ladders_are_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ladder = claims.ladder()
    sizes = sizes_of(ladder.runs)
    assert [round(size.compute / size.largest, 3) for size in sizes] == [0.025, 0.063, 0.158, 0.398]
    assert all(size.by_size.pairs == 1 for size in sizes) and sizes[0].by_law is None and sizes[-1].by_law is not None
    found = signals(claims.claim().runs)
    values = {arm: [run.values["dpo/right"] for run in claims.claim().runs if run.arm == arm] for arm in RATES}
    within = np.mean([np.var(some, ddof=1) for some in values.values()])
    between = np.var([np.mean(some) for some in values.values()], ddof=1) - within / 5
    assert found["dpo/right"].ratio == pytest.approx((between / within) ** 0.5)
    write_suite(
        [claims.ladder(sizes=sizes), claims.claim(signal=found)], {}, [], SiteParams(title="T", pages=["claims"])
    )
    text = Page(Path("reports/claims.html").read_text()).text
    assert "No claim has been run at two scales" in text and "2.5 % " in text and "Signal to noise" in text


def open_outcomes(name: str) -> Any:
    return ClaimFolder(name, open_store()).outcomes()
