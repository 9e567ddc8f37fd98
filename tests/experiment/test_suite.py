"""The suite of the lecture's claims: every file is a claim that the project as it stands can run."""

from pathlib import Path
from typing import Any, get_args

import pytest

from stages import sections
from stages.experiment.arms import compose, differences
from stages.experiment.check import of_metric, of_rule
from stages.experiment.declaration import Declaration, Topic, read_suite
from stages.experiment.metrics import asked_for

ROOT = Path(__file__).resolve().parents[2]
SUITE, PROBLEMS = read_suite([ROOT / "experiments"])


@pytest.fixture(scope="module")
def schema() -> Any:
    return sections._read_all()["schema"]


def test_every_topic_has_claims() -> None:
    assert not PROBLEMS and len(SUITE) >= 30
    assert {claim.lecture for claim in SUITE} == set(get_args(Topic))
    for claim in SUITE:
        assert claim.lecture and claim.name.startswith(claim.lecture) and claim.source


@pytest.mark.parametrize("claim", SUITE, ids=lambda claim: claim.name)
def test_arms_differ_and_have_the_metric(claim: Declaration, schema: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    params = differences(claim, schema)
    assert len(claim.arms) == 1 or all(params.values())
    assert list(of_rule(claim)) == []
    for arm in claim.arms:
        values = compose(claim, arm, claim.seed_values()[0], schema)
        metric, *_ = asked_for(claim, values)
        assert list(of_metric(claim, metric)) == []


def test_claims_of_a_scale_share_their_baseline(schema: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An untouched arm is the scale itself, so that it runs once for all of them."""
    monkeypatch.chdir(ROOT)
    found: dict[tuple[str, ...], list[Any]] = {}
    for claim in SUITE:
        if not claim.set and claim.arms.get("baseline") == {} and claim.axes == ["run.seed"]:
            found.setdefault(tuple(claim.scale), []).append(compose(claim, "baseline", {"run.seed": 1}, schema))
    assert set(found) == {("claims",), ("claims", "claims_short")}
    for baselines in found.values():
        assert len(baselines) > 5 and all(one == baselines[0] for one in baselines)
