"""Claims before they run: every problem by name, what seeds can see, and the bill."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from stages import cli, sections
from stages.base.pipeline import Declared
from stages.experiment import bill
from stages.experiment.check import Admission, check
from stages.experiment.declaration import Budget, declare
from stages.experiment.noise import Earlier
from stages.experiment.power import Noise, visible_effect
from stages.experiment.runs.plan import Planned
from stages.experiment.runs.results import open_store
from stages.experiment.verdict import decide
from stages.sections import Sections

ROOT = Path(__file__).resolve().parents[2]
ASKED = sections._read_all()
CLAIM: dict[str, Any] = {
    "claim": "a higher rate is better",
    "metric": "dpo/right",
    "arms": {"baseline": {}, "faster": {"alignment.dpo.lr": 3e-4}},
    "seeds": 3,
    "rule": "faster > baseline",
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project with a store of its own, in which nothing has run."""
    monkeypatch.chdir(tmp_path)
    for name in ("dvc.yaml", "params.yaml", "requirements.lock", "requirements-torch.txt"):
        shutil.copy(ROOT / name, name)
    for name in ("stages", "scales", "lists"):
        os.symlink(ROOT / name, name)
    monkeypatch.setattr(sections, "_read_all", lambda: ASKED)
    return tmp_path


def admitted(**changes: Any) -> Admission:
    (found,), _ = check([declare({**CLAIM, **changes})], Sections(), open_store())
    return found


def test_a_sound_claim_is_admissible_and_priced(project: Path) -> None:
    found = admitted()
    assert found.problems == [] and found.bill is not None
    assert "was never measured" in found.power
    assert found.bill.to_run > 20 and found.bill.reused == 0 and found.bill.judge_usd == 0
    assert found.bill.line().startswith(f"bill: {found.bill.to_run} stage instances to run, 0 to reuse; ")


def test_one_seed_may_be_judged_over_its_items_alone(project: Path) -> None:
    assert admitted(seeds=1, pair=["item"]).admissible


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"arms": {"baseline": {}, "faster": {"alignment.dpo.lrr": 1e-3}}},
         "`arms.faster`: unknown parameter `alignment.dpo.lrr`; did you mean `lr`?"),
        ({"arms": {"baseline": {}, "faster": {"alignment.dpo.lr": -1.0}}},
         "`arms.faster`: `alignment.dpo.lr`: input should be greater than 0"),
        ({"set": {"alignment.dpoo.lr": 1.0}}, "`set`: unknown parameter `alignment.dpoo`; did you mean `dpo`?"),
        ({"set": {"alignment.sft.lr": -1.0}}, "the params that all arms share: `alignment.sft.lr`: input should be"),
        ({"arms": {"baseline": {}, "faster": {"corpus": None}}}, "`arms.faster`: `corpus.seed` is missing"),
        ({"scale": ["tinny"]}, "no such scale; did you mean `tiny`?"),
        ({"seeds": {"run.sed": 3}}, "`seeds`: unknown parameter `run.sed`; did you mean `seed`?"),
        ({"metric": "dpo/rigth"}, "`metric`: unknown metric `dpo/rigth`; did you mean `dpo/right`?"),
        ({"metrics": ["dpo/lenght"]}, "`metrics`: unknown metric `dpo/lenght`; did you mean `dpo/length`?"),
        ({"metric": {"file": "data/alignment/dpoo/metrics.json", "key": "a"}}, "no stage of dvc.yaml writes it"),
        ({"metric": "best_of_n/right", "arms": {"baseline": {}, "faster": {"judging.answerers.best_of_n": None}}},
         "`metric`: arm `faster` has no `best_of_n/right`, which arm `baseline` has"),
        ({"set": {"corpus.screen.lists": "nowhere"}}, "nowhere: not found"),
        ({"arms": {"baseline": {}, "faster": {"alignment.dpo.clip": 1.0}}},
         "`arms.faster` changes nothing: alignment.dpo.clip is 1.0 already"),
        ({"arms": {"baseline": {}, "faster": {"run.shards": 1}, "third": {"run": {"shards": 1}}}},
         "`faster` and `third` are equal"),
        ({"metric": "sft/right"}, "differ in nothing that a stage behind `sft/right` reads"),
        ({"seeds": 1}, "`seeds`: one seed can't say what another training would give"),
        ({"rule": "faster = baseline ± 2", "looks": {"at": [2, 3]}}, "`looks`: they are for rules about a side"),
        ({"metric": "tokenizer/bytes_per_token",
          "arms": {"baseline": {}, "faster": {"tokens.tokenizer.vocab_size": 1024}}},
         "reads run.seed, so all seeds would be identical; use `seeds: {corpus.seed: 3}`"),
        ({"seeds": {"corpus.seed": 3}}, "have no question in common; use run.seed"),
        ({"rule": "faster > baseline + 100"}, "can never hold: `dpo/right` lies between 0 and 100 percent"),
        ({"rule": "faster > baseline - 100"}, "always holds"),
        ({"rule": "faster = baseline ± 100"}, "always holds"),
        ({"margin": 100.0}, "`margin`: no effect can be 100 percent"),
        ({"rule": "multiplier(faster, baseline) > 1.1"}, "needs losses with their compute"),
        ({"rule": "reached = predicted ± 0.1"}, "nothing is predicted of `dpo/right`"),
        ({"metric": "dpo/lc", "pair": ["seed", "item"]}, "`pair`: `dpo/lc` is one number a run"),
        ({"metric": "dpo/bpb", "pair": ["seed", "cluster"]}, "nothing is known of what the items of `dpo/bpb`"),
    ],
)  # fmt: skip
def test_what_can_not_be_asked_is_refused_by_name(project: Path, changes: dict[str, Any], said: str) -> None:
    found = admitted(**changes)
    assert not found.admissible
    assert any(said in problem for problem in found.problems), found.problems


def test_an_arm_of_a_revision_is_another_arm_only_if_its_code_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    from stages.experiment import check as module

    codes = {None: "a", "HEAD": "a", "old": "b"}
    monkeypatch.setattr(module, "code_of", lambda revision: codes[revision])
    for revision, expected in (("HEAD", True), ("old", False)):
        claim = declare({**CLAIM, "arms": {"baseline": {}, "faster": {"revision": revision}}})
        equal = list(module._equal_arms(claim, {arm: {"a": 1} for arm in claim.arms}))
        assert bool(equal) is expected


def test_code_of_a_revision_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    from stages.base.errors import InputError
    from stages.experiment.check import code_of

    monkeypatch.chdir(ROOT)
    with pytest.raises(InputError, match="git doesn't know `no-such-revision`"):
        code_of("no-such-revision")


# ------------------------------------------------------------------------------------------------------ power


def earlier(project: Path, name: str, scale: list[str], seed_sd: float, seeds: int = 40, items: int = 30) -> None:
    folder = project / ".trainyard/experiments/claims" / name
    folder.mkdir(parents=True)
    (folder / "declaration.yaml").write_text(yaml.safe_dump({"scale": scale}))
    rng = np.random.default_rng(5)
    level = rng.normal(0, 20, items)
    rows = [
        {"metric": "dpo/right", "arm": arm, "seed": str(seed), "item": f"q{item}", "cluster": "", "compute": None,
         "value": 50 + run + level[item] + float(rng.normal(0, 3))}
        for arm in ("baseline", "faster") for seed in range(seeds)
        for run in [float(rng.normal(0, seed_sd))] for item in range(items)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), folder / "outcomes.parquet")


def test_power_comes_from_the_noise_of_earlier_claims(project: Path) -> None:
    earlier(project, "before", [], seed_sd=2.0)
    known = Earlier(project / ".trainyard/experiments").of("dpo/right", declare(CLAIM))
    assert known is not None and not known.guess and known.items == 30 and known.claims == ("before",)
    assert known.seed == pytest.approx(2 * 2.0**2, rel=0.5), "of a difference: both arms'"
    assert known.residual == pytest.approx(2 * 3.0**2, rel=0.2)
    smallest = visible_effect(Noise(known.seed, known.item, known.residual), 3, 30)
    found = admitted(margin=1.5 * smallest)
    assert found.admissible
    assert f"3 seeds × 30 questions see a difference of {smallest:.3g} points with 80 % power" in found.power
    assert "noise of before" in found.power


def test_a_margin_below_the_noise_is_refused_unless_the_noise_is_a_guess(project: Path) -> None:
    earlier(project, "before", [], seed_sd=2.0)
    found = admitted(margin=0.5)
    assert any(problem.startswith("`margin`: the noise hides the margin") for problem in found.problems)
    found = admitted(rule="faster = baseline ± 0.5")
    assert any(problem.startswith("`rule`: the noise hides the margin") for problem in found.problems)
    found = admitted(margin=0.5, scale=["tiny"])
    assert found.admissible and "a guess, from another scale: before" in found.power


def test_only_a_margin_that_every_comparison_hides_is_refused(project: Path) -> None:
    """Arms that are nearly alike differ less from item to item than those that the noise was measured on."""
    earlier(project, "loud", [], seed_sd=6.0)
    earlier(project, "quiet", [], seed_sd=0.5)
    known = Earlier(project / ".trainyard/experiments").of("dpo/right", declare(CLAIM))
    assert known is not None and len(known.each) == 2
    quiet, loud = sorted(visible_effect(Noise(*one), 3, 30) for one in known.each)
    between = admitted(margin=(quiet + loud) / 2)
    assert between.admissible and f"the least noisy of 2 comparisons shows ({quiet:.3g})" in between.power
    below = admitted(margin=0.5 * quiet)
    assert any(f"differences from {quiet:.3g} on" in problem for problem in below.problems)


def test_a_claim_that_has_started_stays_admitted(project: Path) -> None:
    earlier(project, "before", [], seed_sd=2.0)
    assert not admitted(margin=0.5).admissible
    started = project / ".trainyard/experiments/claims/claim"
    started.mkdir(parents=True)
    (started / "declaration.yaml").write_text(yaml.safe_dump({**CLAIM, "margin": 0.5}))
    found = admitted(margin=0.5)
    assert found.admissible and "margin 0.5 asked" in found.power


def test_noise_of_few_seeds_refuses_nothing(project: Path) -> None:
    earlier(project, "before", [], seed_sd=2.0, seeds=3)
    found = admitted(margin=0.5)
    assert found.admissible and "a guess, from few seeds: before" in found.power


def test_a_claim_is_not_judged_by_its_own_outcomes(project: Path) -> None:
    earlier(project, "claim", [], seed_sd=2.0)
    assert admitted(margin=0.5).admissible


def test_noise_is_computed_once_and_again_when_outcomes_change(project: Path) -> None:
    folder = project / ".trainyard/experiments"
    earlier(project, "before", [], seed_sd=2.0)
    first = Earlier(folder).of("dpo/right", declare(CLAIM))
    kept = (folder / "noise.json").stat().st_mtime_ns
    assert Earlier(folder).of("dpo/right", declare(CLAIM)) == first
    assert (folder / "noise.json").stat().st_mtime_ns == kept
    shutil.rmtree(folder / "claims/before")
    earlier(project, "before", [], seed_sd=9.0)
    again = Earlier(folder).of("dpo/right", declare(CLAIM))
    assert first is not None and again is not None and again.seed > 4 * first.seed


# ------------------------------------------------------------------------------------------------------- bill


def instance(
    label: str, known: bool = False, seconds: float | None = 60.0, claims: tuple[str, ...] = ("c",)
) -> Planned:
    return Planned(label, label, label, known, seconds, seconds, claims)


def test_a_bill_counts_what_runs_and_says_what_nobody_timed() -> None:
    total = bill.bill([instance("a"), instance("b", seconds=None), instance("c", known=True)], {"b": 2.5, "c": 9.0})
    assert (total.to_run, total.reused, total.cpu_seconds, total.judge_usd) == (2, 1, 60.0, 2.5)
    assert total.untimed == ("b",)
    assert total.line() == (
        "bill: 2 stage instances to run, 1 to reuse; 1.0 CPU minutes and a time that nobody knows yet for b; "
        "judges at most $2.50"
    )
    assert bill.bill([instance("c", known=True)], {}).line() == "bill: nothing to run, 1 stage instances to reuse"


def test_a_budget_below_the_bill_is_a_problem() -> None:
    total = bill.bill([instance("a", seconds=7200.0)], {"a": 3.0})
    assert total.over(Budget()) == [] == total.over(Budget(cpu_hours=2.5, judge_usd=3.0))
    hours, dollars = total.over(Budget(cpu_hours=1, judge_usd=0))
    assert "`budget.cpu_hours` is 1, the bill is 2.00" in hours
    assert "`budget.judge_usd` is 0, judges may cost up to 3.00" in dollars


def test_only_a_paid_judge_has_a_price() -> None:
    judge = Declared("judge@dpo", "judging.judge", "dpo", "", (), (), ())
    asked = {"provider": "simulated", "max_cost_usd": 5.0}
    values = {"judging": {"judge": {"annotator": asked}, "answerers": {"gpt": {"endpoint": {"max_cost_usd": 2.0}}}}}
    assert bill.price(judge, values) == 0
    asked["provider"] = "openai"
    assert bill.price(judge, values) == 5.0
    answer = Declared("answer@gpt", "judging.respond", "gpt", "", (), (), (), section="judging.answerers.gpt")
    assert bill.price(answer, values) == 2.0


# ---------------------------------------------------------------------------------------------------- command


def declared(project: Path, name: str, **changes: Any) -> Path:
    path = project / "experiments" / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump({**CLAIM, **changes}, sort_keys=False, allow_unicode=True))
    return path


def test_the_command_prints_problems_by_file_and_exits_2(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    declared(project, "good")
    assert cli.main(["experiment", "check"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "good: admissible"
    declared(project, "bad", rule="faster > nobody", seeds=[1, 1])
    declared(project, "worse", metric="dpo/rigth")
    assert cli.main(["experiment", "check"]) == 2
    out = capsys.readouterr().out
    assert "experiments/bad.yaml: `rule`: unknown arm `nobody`" in out and "run.seed 1 is used twice" in out
    assert "experiments/worse.yaml: `metric`: unknown metric `dpo/rigth`" in out
    assert "1 claims admissible, 2 not" in out


def test_what_is_wrong_with_the_project_is_told_once(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    declared(project, "one")
    declared(project, "two")
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("jaccard: 0.7", "jaccard: 7"))
    assert cli.main(["experiment", "check"]) == 2
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("params.yaml: `corpus.dedup.jaccard`") and out[1:3] == [
        "one: inadmissible",
        "two: inadmissible",
    ]


def test_a_suite_shares_what_is_equal(project: Path) -> None:
    claims = [declare({**CLAIM, "metric": metric}, f"c{i}") for i, metric in enumerate(("dpo/right", "dpo/length"))]
    found, total = check(claims, Sections(), open_store())
    assert total is not None and all(one.admissible and one.bill for one in found)
    first, second = (one.bill.to_run for one in found if one.bill)
    assert total.to_run < 0.7 * (first + second)


def test_list_shows_where_each_claim_stands(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("edited", "good", "half", "new", "odd"):
        declared(project, name)
    folders = project / ".trainyard/experiments/claims"
    for name in ("edited", "good", "half", "odd"):
        (folders / name).mkdir(parents=True)
    rows = [
        {"arm": arm, "seed": seed, "value": seed + 9.0 * (arm == "faster")}
        for arm in ("baseline", "faster")
        for seed in (1, 2, 3)
    ]
    verdict = decide({**CLAIM, "rule": "faster > baseline", "metric": "x"}, rows)
    for name in ("edited", "good"):
        (folders / name / "verdict.json").write_text(verdict.model_dump_json(by_alias=True))
    (folders / "edited" / "declaration.yaml").write_text(yaml.safe_dump({**CLAIM, "alpha": 0.01}))
    run = {"arm": "baseline", "label": "1", "status": "finished"}
    (folders / "half" / "runs.jsonl").write_text(json.dumps(run) + "\n")
    (folders / "odd" / "verdict.json").write_text("{}")
    assert cli.main(["experiment", "list"]) == 0
    said = [line.split("  ")[:4] for line in capsys.readouterr().out.splitlines()]
    stands = {words[0].strip(): next(word for word in words[1:] if word.strip()).strip() for words in said}
    runs = len(CLAIM["arms"]) * CLAIM["seeds"]
    wanted = {
        "edited": "deviated",
        "good": "supported",
        "half": f"1 of {runs} runs",
        "new": "not run",
        "odd": "unreadable",
    }
    assert stands == wanted
    assert cli.main(["experiment", "check", "experiments/edited.yaml"]) == 0
    assert "edited after its first run (`alpha`)" in capsys.readouterr().out


def test_metrics_are_listed_by_form_and_by_name(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["experiment", "metrics"]) == 0
    assert "<model>/right" in capsys.readouterr().out
    assert cli.main(["experiment", "metrics", "dpo/ri"]) == 0
    assert capsys.readouterr().out.split()[0] == "dpo/right"
    assert cli.main(["experiment", "metrics", "nothing"]) == 1


def test_sections_are_asked_of_the_stages_once(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sections, "_read_all", lambda: {**ASKED, "known": {}})
    first = Sections()
    values = yaml.safe_load(Path("params.yaml").read_text())
    wrong = {**values, "run": {**values["run"], "seed": -1}}
    first.check(values)
    with pytest.raises(Exception, match=r"run\.seed") as caught:
        first.check(wrong)
    first.save()

    def never(*_: Any) -> None:
        raise AssertionError("stages were imported again")

    monkeypatch.setattr(sections, "_read_all", never)
    monkeypatch.setattr(sections, "parse", never)
    second = Sections()
    assert second.schema == first.schema
    second.check(values)
    with pytest.raises(type(caught.value)) as again:
        second.check(wrong)
    assert str(again.value) == str(caught.value)
