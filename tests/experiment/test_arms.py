"""The params of a claim's runs: what is laid over what, and what another revision changes."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.base.errors import ParamError
from stages.experiment.arms import compose, differences
from stages.experiment.declaration import declare

LEAF = {"type": "number"}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "run": {"type": "object", "properties": {"seed": LEAF, "shards": LEAF}},
        "dpo": {"type": "object", "properties": {"lr": LEAF, "beta": LEAF}},
        "models": {"type": "object", "additionalProperties": {"type": "object", "properties": {"path": LEAF}}},
    },
}
NOW = {"run": {"seed": 1, "shards": 2}, "dpo": {"lr": 0.1, "beta": 0.5}, "models": {"mine": {"path": 3}}}
THEN = {"run": {"seed": 1, "shards": 1}, "dpo": {"lr": 0.2, "clip": 1.0}, "models": {}}
CLAIM: dict[str, Any] = {
    "claim": "b is better",
    "metric": "dpo/right",
    "arms": {"a": {}, "b": {"dpo.lr": 0.3}},
    "seeds": 2,
    "rule": "b > a",
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two revisions: `then` with THEN, and the work tree with NOW and a scale."""
    monkeypatch.chdir(tmp_path)
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(name, "a")
    Path("params.yaml").write_text(yaml.safe_dump(THEN))
    for command in (["init", "-q"], ["add", "params.yaml"], ["commit", "-q", "-m", "then"], ["tag", "then"]):
        subprocess.run(["git", *command], check=True, env={**os.environ, "HOME": str(tmp_path)})
    Path("params.yaml").write_text(yaml.safe_dump(NOW))
    Path("scales").mkdir()
    Path("scales/laptop.yaml").write_text(yaml.safe_dump(NOW))
    Path("scales/small.yaml").write_text(yaml.safe_dump({"dpo": {"lr": 0.01}, "run": {"shards": 8}}))
    return tmp_path


def test_scale_set_arm_and_seed_are_laid_in_this_order(project: Path) -> None:
    claim = declare({**CLAIM, "scale": ["small"], "set": {"run.shards": 4, "dpo.beta": 0.9, "dpo.lr": 0.02}})
    values = compose(claim, "b", {"run.seed": 7}, SCHEMA)
    assert values == {"run": {"seed": 7, "shards": 4}, "dpo": {"lr": 0.3, "beta": 0.9}, "models": NOW["models"]}
    assert compose(claim, "a", {"run.seed": 7}, SCHEMA)["dpo"]["lr"] == 0.02
    assert yaml.safe_load(Path("params.yaml").read_text()) == NOW


def test_without_a_scale_params_are_the_projects_even_after_an_edit(project: Path) -> None:
    assert compose(declare(CLAIM), "a", {"run.seed": 1}, SCHEMA) == NOW
    edited = {**NOW, "dpo": {"lr": 0.7, "beta": 0.5}}
    Path("params.yaml").write_text(yaml.safe_dump(edited))
    os.utime("params.yaml", (1, 1))
    assert compose(declare(CLAIM), "a", {"run.seed": 1}, SCHEMA) == edited


def test_a_revision_has_the_projects_values_of_the_params_that_it_knows(project: Path) -> None:
    claim = declare({**CLAIM, "arms": {"a": {"revision": "then"}, "b": {}}})
    assert compose(claim, "a", {"run.seed": 5}, SCHEMA) == {
        "run": {"seed": 5, "shards": 2},
        "dpo": {"lr": 0.1, "clip": 1.0},
        "models": NOW["models"],
    }
    own = declare({**CLAIM, "arms": {"a": {"revision": "then", "dpo.clip": 3.0}, "b": {}}})
    assert compose(own, "a", {"run.seed": 5}, SCHEMA)["dpo"] == {"lr": 0.1, "clip": 3.0}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"arms": {"a": {}, "b": {"dpo.lrr": 1}}}, "claim: `arms.b`: unknown parameter `dpo.lrr`; did you mean `lr`?"),
        ({"arms": {"a": {}, "b": {"models.yours": None}}}, "`models.yours` is not there to be removed"),
        ({"arms": {"a": {}, "b": {"revision": "never"}}}, "claim: revision `never`: "),
        ({"set": {"dp.lr": 1}}, "claim: `set`: unknown parameter `dp`; did you mean `dpo`?"),
        ({"scale": ["smal"]}, "claim: scales/smal.yaml: no such scale; did you mean `small`?"),
    ],
)
def test_what_is_unknown_names_the_key_of_the_declaration(project: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ParamError) as caught:
        compose(declare({**CLAIM, **changes}), "b", {"run.seed": 1}, SCHEMA)
    assert said in str(caught.value)


def test_differences_are_params_that_any_two_arms_do_not_share(project: Path) -> None:
    claim = declare({**CLAIM, "arms": {"a": {"run.shards": 2}, "b": {"dpo.lr": 0.3}, "c": {"models.mine": None}}})
    assert differences(claim, SCHEMA) == {
        "a": {"dpo.lr": 0.1, "models": None, "models.mine.path": 3},
        "b": {"dpo.lr": 0.3, "models": None, "models.mine.path": 3},
        "c": {"dpo.lr": 0.1, "models": {}, "models.mine.path": None},
    }
