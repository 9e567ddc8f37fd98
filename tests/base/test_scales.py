"""What params may hold is read from the models; overlays name what differs, and nothing that isn't there."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import Field, RootModel

from stages.base import scales
from stages.base.errors import ParamError
from stages.base.params import Section, parse
from stages.base.reference import describe, find, params_schema
from stages.base.scales import changes, compose, lay, render


class Pages(Section):
    kind: Literal["files"]
    path: str
    """A folder."""


class Crawl(Section):
    kind: Literal["warc"]
    path: str
    max_pages: Annotated[int, Field(ge=1)]
    """Pages to read,
    at most."""


class Rate(Section):
    lr: Annotated[float, Field(gt=0)]
    """Of the matrices."""
    warmup: Annotated[float | None, Field(ge=0, lt=1)]
    betas: list[Annotated[float, Field(ge=0)]]


class Step(Section):
    """Training."""

    rate: Rate
    per_source: dict[str, Rate]


class Source(RootModel[Annotated[Pages | Crawl, Field(discriminator="kind")]]):
    pass


SECTIONS: dict[str, Any] = {"phase.step": Step, "phase.sources.*": Source, "run.seed": Annotated[int, Field(ge=0)]}
SCHEMA = params_schema(SECTIONS)
COMPLETE = """\
# Every choice.
run:
  seed: 1  # of all

phase:
  step:
    rate: {lr: 1.0e-3, warmup: 0.1, betas: [0.9, 0.95]}
    per_source:
      web:
        lr: 0.5
        warmup: null
        betas: [0.1]  # one
  sources:
    mine: {kind: files, path: here}
    other: {kind: files, path: there}
"""
VALUES = yaml.safe_load(COMPLETE)


def over(text: str) -> dict[str, Any]:
    return lay(VALUES, yaml.safe_load(text), SCHEMA, "big.yaml")


def test_a_parameter_is_explained_by_the_string_below_it_and_by_its_bounds() -> None:
    schema, value = find(SCHEMA, "phase.step.rate.lr", VALUES)
    assert (schema["description"], describe(schema), value) == ("Of the matrices.", "number, above 0", 1e-3)
    assert describe(find(SCHEMA, "phase.step.rate.warmup", VALUES)[0]) == "number, at least 0, below 1 or null"
    assert describe(find(SCHEMA, "phase.step.rate.betas", VALUES)[0]) == "list of (number, at least 0)"
    assert find(SCHEMA, "phase.step.per_source.web.lr", VALUES)[0]["description"] == "Of the matrices."
    crawl = {"phase": {"sources": {"mine": {"kind": "warc"}}}}
    assert find(SCHEMA, "phase.sources.mine.max_pages", crawl)[0]["description"] == "Pages to read, at most."
    assert find(SCHEMA, "phase.step", VALUES)[0]["description"] == "Training."
    with pytest.raises(ParamError, match=r"unknown parameter `phase.step.rate.lrr`; did you mean `lr`\?"):
        find(SCHEMA, "phase.step.rate.lrr", VALUES)


def test_overlays_merge_remove_items_and_replace_those_of_another_kind() -> None:
    laid = over("phase: {step: {rate: {lr: 0.1, warmup: null}}, sources: {other: null, third: {kind: files, path: c}}}")
    assert laid["phase"]["step"]["rate"] == {"lr": 0.1, "warmup": None, "betas": [0.9, 0.95]}
    assert list(laid["phase"]["sources"]) == ["mine", "third"]
    swapped = over("phase: {sources: {mine: {kind: warc, path: x, max_pages: 3}}}")["phase"]["sources"]["mine"]
    assert swapped == {"kind": "warc", "path": "x", "max_pages": 3}
    assert over("phase: {sources: {mine: {path: x}}}")["phase"]["sources"]["mine"] == {"kind": "files", "path": "x"}
    assert yaml.safe_load(COMPLETE) == VALUES, "what is laid over stays as it was"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("phase: {stepp: {}}", "big.yaml: unknown parameter `phase.stepp`; did you mean `step`?"),
        ("phase: {step: {rate: {wramup: 1}}}", "unknown parameter `phase.step.rate.wramup`; did you mean `warmup`?"),
        (
            "phase: {sources: {others: null}}",
            "`phase.sources.others` is not there to be removed; did you mean `other`?",
        ),
        ("phase: {sources: {mine: {paht: x}}}", "`phase.sources.mine.paht`; did you mean `path`?"),
    ],
)
def test_an_unknown_name_in_an_overlay_is_named_with_the_nearest(text: str, message: str) -> None:
    with pytest.raises(ParamError) as caught:
        over(text)
    assert message in str(caught.value)


def test_compose_lays_settings_over_a_scale_and_names_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("scales").mkdir()
    Path("scales/laptop.yaml").write_text(COMPLETE)
    Path("scales/big.yaml").write_text("run: {seed: 2}\n")
    Path("scales/twice.yaml").write_text("run:\n  seed: 2\n  seed: 3\n")
    base, values = compose(["big"], ["phase.step.rate.lr=0.25", "phase.sources.mine=null"], SCHEMA)
    assert base == scales.COMPLETE and values["run"]["seed"] == 2
    assert values["phase"]["step"]["rate"]["lr"] == 0.25 and list(values["phase"]["sources"]) == ["other"]
    assert changes(VALUES, values) == [
        "  run.seed: 1 → 2",
        "  phase.step.rate.lr: 0.001 → 0.25",
        "- phase.sources.mine.kind: 'files'",
        "- phase.sources.mine.path: 'here'",
    ]
    for words, message in (
        ((["bigg"], []), "no such scale; did you mean `big`?"),
        ((["big"], ["seed"]), "must be key=value"),
        ((["big"], ["run.sed=3"]), "run.sed=3: unknown parameter `run.sed`; did you mean `seed`?"),
        ((["twice"], []), "`run.seed` stands twice, on lines 2 and 3"),
    ):
        with pytest.raises(ParamError) as caught:
            compose(*words, SCHEMA)
        assert message in str(caught.value)


def test_a_rendered_file_keeps_its_comments_and_dvc_changes_one_line_of_it(tmp_path: Path) -> None:
    from dvc.utils.hydra import apply_overrides

    base = tmp_path / "laptop.yaml"
    base.write_text(COMPLETE)
    values = lay(VALUES, {"run": {"seed": 7}}, SCHEMA, "")
    text = render(base, values)
    assert yaml.safe_load(text) == values
    assert "# Every choice." in text and "seed: 7  # of all" in text and "lr: 1.0e-3" in text
    path = tmp_path / "params.yaml"
    path.write_text(text)
    apply_overrides(str(path), ["phase.step.per_source.web.lr=0.25"])
    old, new = text.splitlines(), path.read_text().splitlines()
    assert len(old) == len(new)
    assert [pair for pair in zip(old, new, strict=True) if pair[0] != pair[1]] == [
        ("        lr: 0.5", "        lr: 0.25")
    ]


def test_problems_of_a_union_name_the_place_in_the_file() -> None:
    for value, message in (
        ({"kind": "wrac", "path": "x"}, "`s.mine.kind`: unknown kind `wrac`; did you mean `warc`?"),
        ({"path": "x"}, "`s.mine.kind` is missing"),
        ({"kind": "warc", "path": "x"}, "`s.mine.max_pages` is missing"),
        ({"kind": "warc", "path": "x", "max_pages": 0}, "`s.mine.max_pages`: input should be greater"),
        ({"kind": "files", "path": "x", "max_pages": 1}, "unknown parameter `s.mine.max_pages`"),
    ):
        with pytest.raises(ParamError) as caught:
            parse("s.mine", value, Source)
        assert message in str(caught.value)
        assert "max_pages" not in str(caught.value).partition("known here:")[2]
