from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from stages.base.errors import ParamError
from stages.base.params import Section, load, parse


class Inner(Section):
    rate: Annotated[float, Field(gt=0)]


class Model(Section):
    steps: Annotated[int, Field(ge=1)]
    mode: Literal["fast", "slow"]
    inner: dict[str, Inner]


GOOD = {"steps": 3, "mode": "fast", "inner": {"a": {"rate": 1}}}


def test_a_good_section_is_typed(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text("phase:\n  step:\n    steps: 3\n    mode: fast\n    inner: {a: {rate: 1}}\n")
    assert load("phase.step", Model, file).inner["a"].rate == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stesp": 1}, "unknown parameter `phase.step.stesp`; did you mean `steps`?"),
        ({"steps": "3"}, "`phase.step.steps`"),
        ({"steps": True}, "`phase.step.steps`"),
        ({"steps": -1}, "greater than or equal to 1, got -1"),
        ({"mode": "quick"}, "`phase.step.mode`"),
        ({"inner": {"a": {"rte": 1}}}, "did you mean `rate`?"),
        ({"inner": {"a": {"rate": float("nan")}}}, "`phase.step.inner.a.rate`"),
    ],
)
def test_a_bad_section_names_place_and_remedy(change: dict, message: str) -> None:
    with pytest.raises(ParamError) as caught:
        parse("phase.step", GOOD | change, Model)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_missing_file_and_section(tmp_path: Path) -> None:
    with pytest.raises(ParamError, match="run from the project's root"):
        load("phase.step", Model, tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("phase:\n  stepp: {}\n")
    with pytest.raises(ParamError, match="did you mean `stepp`"):
        load("phase.step", Model, tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("a: [1\n")
    with pytest.raises(ParamError, match="not valid YAML"):
        load("phase.step", Model, tmp_path / "params.yaml")
