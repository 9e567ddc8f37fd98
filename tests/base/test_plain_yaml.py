"""The one reader of YAML reads what DVC reads, or says in one line why it doesn't."""

import io
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML, YAMLError

from stages.base.errors import InputError, ParamError
from stages.base.plain_yaml import parse_yaml, read_yaml

ROOT = Path(__file__).resolve().parents[2]


def by_dvc(text: str) -> Any:
    return YAML(typ="safe").load(text)  # as dvc.utils.serialize.parse_yaml does


def same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return type(one) is type(other) and one == other


PLAIN = """
010 0o10 0x1f +0x1F -0o7 0b11 1_000 1.5_0 1e3 1E5 1e-3 1. .5 0. +.5e3 .5e+3 0_1 08 -08 12e03 off on yes no y ~ Null null
NULL nULL true TRUE tRue False +1 -0 .inf -.INF +.Inf .NaN .nan nan 1:30 190:20:30 0x 0o8 1e400 _1 .e3 -. 1e 0b2
99999999999999999999
"""


@pytest.mark.parametrize("plain", PLAIN.split())
def test_a_plain_value_is_what_dvc_reads(plain: str) -> None:
    assert same(parse_yaml(f"a: {plain}", "f")["a"], by_dvc(f"a: {plain}")["a"])


@given(st.text(st.sampled_from("0123456789_+-.eExobainfNF~tru"), min_size=1, max_size=8))
@example("0o17_")
def test_any_plain_value_is_what_dvc_reads_or_refused_by_both(plain: str) -> None:
    try:
        theirs = by_dvc(f"a: {plain}")["a"]
    except (YAMLError, ValueError, IndexError):
        theirs = InputError
    if not isinstance(theirs, int | float | str | bool | type(None) | type):
        return  # a date: a text here
    try:
        ours = parse_yaml(f"a: {plain}", "f")["a"]
    except InputError:
        assert theirs is InputError
        return
    assert theirs is InputError or same(ours, theirs), (plain, ours, theirs)


@pytest.mark.parametrize("name", ["params.yaml", "dvc.yaml", "dvc.lock", "scales/tiny.yaml", "scales/h200.yaml"])
def test_the_projects_files_mean_what_dvc_reads(name: str) -> None:
    assert read_yaml(ROOT / name) == by_dvc((ROOT / name).read_text())


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(min_size=1), VALUES, max_size=4))
@settings(max_examples=50)
def test_what_is_written_is_read_back(values: dict[str, Any]) -> None:
    text = io.StringIO()
    YAML().dump(values, text)
    assert parse_yaml(text.getvalue(), "f") == by_dvc(text.getvalue())


def test_keys_that_stand_twice_are_named_with_both_lines() -> None:
    text = "a:\n  b: 1\n  c: [{d: 1, d: 2}]\n  b: 2\ne: &x {f: 1}\ng: *x\n"
    with pytest.raises(InputError) as caught:
        parse_yaml(text, "f.yaml")
    assert "f.yaml: `a.b` stands twice, on lines 2 and 4" in str(caught.value)
    assert "`a.c.d` stands twice, on lines 3 and 3" in str(caught.value)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "f.yaml:6: more than 200,000 values"),
        ("a:\n  b: &x [*x]", r"f.yaml:2: `\*x` stands within `&x`"),
        ("[" * 100_000, "f.yaml:1: more than 64 lists"),
        ("{a: " * 100_000, "f.yaml:1: more than 64 lists"),
        ("- " * 50_000 + "x", "f.yaml:1: more than 64 lists"),
        ("a: 1\n? [b]\n: 2", "f.yaml:2: a key must be a text"),
        ("a:\n  b: *no", "f.yaml:2: not valid YAML: found undefined alias"),
        ("a: !!int x", "f.yaml:1: not valid YAML: invalid literal"),
        ("a: 1\nb: " + "9" * 5000, "f.yaml:2: not valid YAML"),
        ("a: !!python/object/apply:os.system [ls]", "f.yaml:1: not valid YAML: could not determine a constructor"),
        ("a: [1", "f.yaml:2: not valid YAML"),
        ("a: \x07", "f.yaml: not valid YAML"),
        ("a: 1\n---\nb: 2", "f.yaml:2: not valid YAML"),
        ("\ta: 1", "f.yaml:1: not valid YAML"),
    ],
)
def test_what_is_no_file_of_ours_is_one_line(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        parse_yaml(text, "f.yaml")
    assert "\n" not in str(caught.value)


def test_latin_1_is_named_with_line_and_remedy(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_bytes("a: 1\nname: Größe\n".encode("latin-1"))
    with pytest.raises(ParamError, match=r"p\.yaml:2: not UTF-8 \(byte 0xf6, as in Latin-1\); save it as UTF-8"):
        read_yaml(tmp_path / "p.yaml", ParamError)
    (tmp_path / "b.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_yaml(tmp_path / "b.yaml") == {"a": 1}
