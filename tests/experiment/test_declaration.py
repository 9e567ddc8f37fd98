"""Declarations and their rules: what is read, what is refused, and in which words."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.base.errors import ParamError
from stages.experiment.declaration import Declaration, declare, nested, read_declaration, read_suite
from stages.experiment.rule import RESERVED, parse_rule

FIVE_LINES = """\
claim: A higher learning rate of DPO gives more right answers.
metric: dpo/right
arms: {baseline: {}, faster: {alignment.dpo.lr: 3.0e-4}}
seeds: 3
rule: faster > baseline
"""
CLAIM: dict[str, Any] = {
    "claim": "b is better",
    "metric": "dpo/right",
    "arms": {"a": {}, "b": {"alignment.dpo.lr": 0.001}},
    "seeds": 3,
    "rule": "b > a",
}


def write(folder: Path, text: str = FIVE_LINES, name: str = "faster.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def refused(**changes: Any) -> str:
    with pytest.raises(ParamError) as caught:
        declare({key: value for key, value in {**CLAIM, **changes}.items() if value is not ...})
    return str(caught.value)


def test_five_lines_are_a_claim(tmp_path: Path) -> None:
    claim = read_declaration(write(tmp_path))
    assert claim.name == "faster" and claim.baseline == "baseline"
    assert claim.arm["faster"].overlay == {"alignment": {"dpo": {"lr": 3e-4}}}
    assert claim.arm["baseline"].overlay == {} and claim.arm["faster"].revision is None
    assert claim.seed_values() == [{"run.seed": 1}, {"run.seed": 2}, {"run.seed": 3}]
    assert claim.parsed.analysis == "difference" and claim.parsed.arms == ("faster", "baseline")


def test_seeds_of_several_axes_go_side_by_side() -> None:
    claim = declare({**CLAIM, "seeds": {"run.seed": [4, 9], "corpus.seed": 2}})
    assert claim.seed_values() == [{"run.seed": 4, "corpus.seed": 1}, {"run.seed": 9, "corpus.seed": 2}]


def test_the_first_arm_is_the_baseline_unless_one_is_named_so() -> None:
    assert declare(CLAIM).baseline == "a"
    assert declare({**CLAIM, "arms": {"b": {"x": 1}, "baseline": None}, "rule": "b > baseline"}).baseline == "baseline"


def test_an_arm_may_run_another_revision() -> None:
    arm = declare({**CLAIM, "arms": {"a": {}, "b": {"revision": "v1.2", "run.shards": 1}}}).arm["b"]
    assert arm.revision == "v1.2" and arm.overlay == {"run": {"shards": 1}}


def test_comments_layout_and_dots_do_not_change_the_digest(tmp_path: Path) -> None:
    other = """\
# the same
rule: faster > baseline
seeds: 3
arms:
  baseline: {}
  faster:
    alignment:
      dpo: {lr: 0.0003}
metric: "dpo/right"
claim: A higher learning rate of DPO gives more right answers.
"""
    first = read_declaration(write(tmp_path)).digest
    assert read_declaration(write(tmp_path / "b", other)).digest == first
    assert read_declaration(write(tmp_path / "c", FIVE_LINES.replace("seeds: 3", "seeds: 4"))).digest != first


def test_the_order_of_arms_is_in_the_digest() -> None:
    swapped = {**CLAIM, "arms": dict(reversed(CLAIM["arms"].items()))}
    assert declare(swapped).digest != declare(CLAIM).digest


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rul": "b > a"}, "unknown key `rul`; did you mean `rule`?"),
        ({"rule": ...}, "`rule` is missing"),
        ({"seeds": [1, 2, 1]}, "run.seed 1 is used twice"),
        ({"seeds": {"run.seed": 3, "corpus.seed": 2}}, "run.seed has 3, corpus.seed has 2"),
        ({"seeds": 0}, "`seeds`: input should be greater than or equal to 1, got 0"),
        ({"seeds": "three"}, "`seeds`: must be a number of seeds"),
        ({"rule": "b > c"}, "unknown arm `c`"),
        ({"rule": "b > b"}, "compares `b` with itself"),
        ({"rule": "b >= a"}, "`rule`: `b >= a` has none of the forms"),
        ({"rule": "b = a ± 0"}, "can't hold"),
        ({"rule": "multiplier(a, b) > 0"}, "always holds"),
        ({"rule": "increasing"}, "a trend needs three arms or more"),
        ({"analysis": "trend"}, "`analysis` is trend, but the rule `b > a` asks for difference"),
        ({"levels": {"a": 1, "b": 2}}, "`levels` are for trends"),
        ({"arms": {"A": {}, "b": {"x": 1}}}, "the name `A`"),
        ({"arms": {"slope": {}, "b": {"x": 1}}}, "means something in rules"),
        ({"arms": {"a": {"x.y": 1, "x": {"y": 2}}, "b": {}}}, "`arms.a.x.y` is given twice"),
        ({"arms": {"a": {"run.seed": 3}, "b": {}}}, "`arms.a` sets `run.seed`, which `seeds` sets"),
        ({"arms": {"a": {}, "b": {"revision": "--upload-pack=x"}}}, "`arms.b.revision`: must be a git revision"),
        ({"alpha": 1.5}, "`alpha`: input should be less than"),
        ({"power": 0.1}, "`power`: input should be greater than"),
        ({"margin": 0}, "`margin`: input should be greater than 0"),
        ({"margin": float("nan")}, "`margin`"),
        ({"looks": {"at": [2, 2, 3]}}, "`looks.at` must rise"),
        ({"looks": {"at": [2, 5]}}, "end with the number of seeds, 3"),
        ({"looks": {"at": [2, 3], "spend": "pocock"}}, "unknown key `looks.spend`; did you mean `spending`?"),
        ({"budget": {"cpu": 1}}, "unknown key `budget.cpu`; did you mean `cpu_hours`?"),
        ({"pair": ["seed", "questions"]}, "`pair.1`"),
        ({"pair": ["seed", "seed"]}, "`pair` names a unit twice"),
        ({"metric": {"file": "data/a.json"}}, "a JSON file needs `key`"),
        ({"metric": {"file": "data/a.parquet", "value": "x"}}, "a table needs `value` and `item`"),
        ({"metric": {"file": "/etc/passwd", "key": "a"}}, "must lie below data/"),
        ({"metric": {"file": "data/../x.json", "key": "a"}}, "must lie below data/"),
        ({"metric": {"fil": "data/a.json"}}, "unknown key `metric.fil`; did you mean `file`?"),
        ({"metric": 3}, "`metric`: must be a name"),
    ],
)  # fmt: skip
def test_what_is_refused_is_named_with_its_remedy(changes: dict[str, Any], said: str) -> None:
    assert said in refused(**changes)


def test_every_problem_is_told_at_once() -> None:
    told = refused(rule="b > c", seeds=[1, 1], pair=["item", "item"])
    assert all(part in told for part in ("unknown arm `c`", "used twice", "a unit twice"))


def test_duplicate_keys_name_both_lines(tmp_path: Path) -> None:
    path = write(tmp_path, FIVE_LINES + "seeds: 5\n")
    with pytest.raises(ParamError, match=r"faster\.yaml: `seeds` stands twice, on lines 4 and 6"):
        read_declaration(path)


@pytest.mark.parametrize("text", ["- a\n", "", "claim: [\n", "\ta: 1\n"])
def test_a_file_that_is_no_mapping_is_refused_by_name(tmp_path: Path, text: str) -> None:
    with pytest.raises(ParamError, match=r"faster\.yaml:(\d+:)? "):
        read_declaration(write(tmp_path, text))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("set: &a {recipe: *a}\n", r"`\*a` stands within `&a`"),
        ("set: {recipe.lr: !!binary aGVsbG8=}\n", "`set.recipe.lr` is of YAML's type bytes"),
        ("set: {recipe.lr: !!set {a: null}}\n", "`set.recipe.lr` is of YAML's type set"),
        ("margin: !!int x\n", "not valid YAML"),
        ("margin: !!bool x\n", "not valid YAML"),
        (f"margin: {'9' * 5000}\n", "not valid YAML"),
        (f"set: {'{a: ' * 2000}1{'}' * 2000}\n", "more than 64 lists and mappings"),
        (f"set: {'{a: ' * 60}1{'}' * 60}\n", "is nested more than"),
        (
            "set:\n  a: &a [x,x,x,x,x,x,x,x,x,x]\n"
            + "".join(f"  {b}: &{b} [{','.join([f'*{a}'] * 10)}]\n" for a, b in pairwise("abcdefghij")),
            "more than 200,000 values",
        ),
    ],
)
def test_what_yaml_can_say_and_params_can_not_is_refused_by_name(tmp_path: Path, more: str, said: str) -> None:
    with pytest.raises(ParamError, match=rf"^{tmp_path}/faster\.yaml:(\d+:)? .*{said}") as caught:
        read_declaration(write(tmp_path, FIVE_LINES + more))
    assert len(str(caught.value)) < 500


def test_a_name_that_files_can_not_have_is_refused(tmp_path: Path) -> None:
    for name in ("two\nlines", "one\n", "a" * 101, "Upper"):
        with pytest.raises(ParamError, match="a claim's file is named in"):
            read_declaration(write(tmp_path, name=f"{name}.yaml"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seeds": 10**9}, "`seeds`: input should be less than or equal to 1000"),
        ({"seeds": list(range(20_000))}, "`seeds`: list should have at most 1000 items"),
        ({"rule": "b > a + 1e400"}, "can only come out one way"),
        ({"claim": " "}, "`claim` is blank"),
    ],
)
def test_absurd_sizes_are_refused_at_once(changes: dict[str, Any], said: str) -> None:
    assert said in refused(**changes) and len(refused(**changes)) < 500


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(ParamError, match=r"not found; did you mean `.*faster\.yaml`"):
        read_declaration(tmp_path / "fastr.yaml")


def test_a_suite_tells_of_bad_files_and_of_two_claims_of_one_name(tmp_path: Path) -> None:
    write(tmp_path / "one")
    write(tmp_path / "two")
    write(tmp_path / "two", "claim: x\n", "bad.yaml")
    suite, problems = read_suite([tmp_path / "one", tmp_path / "two"])
    assert [claim.name for claim in suite] == ["faster"]
    assert len(problems) == 2
    assert any("a claim named `faster` is in" in problem for problem in problems)
    assert any("`rule` is missing" in problem for problem in problems)


# ------------------------------------------------------------------------------------------------------ rules

arms = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).filter(lambda name: name not in RESERVED)
numbers = st.floats(min_value=0, max_value=1e6, allow_nan=False).map(lambda x: float(f"{x:.6g}"))
gaps = st.sampled_from(["", " ", "  "])


@given(st.lists(arms, min_size=2, max_size=5, unique=True), st.sampled_from("<>"), gaps)
def test_chains_of_arms_are_read_back(names: list[str], sign: str, gap: str) -> None:
    rule = parse_rule(f"{gap}{sign}{gap}".join(names))
    assert rule.arms == tuple(names) and rule.direction == (1 if sign == ">" else -1)
    assert rule.analysis == ("difference" if len(names) == 2 else "ordering")
    assert rule.pairs() == list(pairwise(names))


@given(st.lists(arms, min_size=2, max_size=2, unique=True), st.sampled_from("<>"), st.sampled_from("+-"), numbers)
def test_thresholds_keep_their_sign(names: list[str], sign: str, plus: str, number: float) -> None:
    rule = parse_rule(f"{names[0]} {sign} {names[1]} {plus} {number!r}")
    assert rule.threshold == float(f"{plus}{number!r}") and rule.analysis == "difference"


@given(st.lists(arms, min_size=2, max_size=2, unique=True), st.sampled_from(["±", "+-", "+/-"]), numbers)
def test_equivalence_by_any_of_its_signs(names: list[str], sign: str, number: float) -> None:
    rule = parse_rule(f"{names[0]} = {names[1]} {sign} {number!r}")
    assert (rule.analysis, rule.direction, rule.threshold) == ("equivalence", 0, number)


@given(st.text(max_size=30))
def test_any_text_is_a_rule_or_refused_with_the_forms(text: str) -> None:
    try:
        rule = parse_rule(text)
    except ParamError as error:
        assert "`rule`" in str(error)
    else:
        assert rule.text == text


@pytest.mark.parametrize(
    ("text", "analysis", "quantity", "names", "direction", "threshold"),
    [
        ("increasing", "trend", "value", (), 1, 0.0),
        ("decreasing", "trend", "value", (), -1, 0.0),
        ("multiplier(a, b) > 1.2", "scaling", "multiplier", ("a", "b"), 1, 1.2),
        ("slope(a) < slope(b)", "scaling", "slope", ("a", "b"), -1, 0.0),
        ("reached = predicted ± 0.05", "predicted", "reached", (), 0, 0.05),
        ("reached = predicted +- 5e-2", "predicted", "reached", (), 0, 0.05),
    ],
)
def test_rules_of_many_arms(
    text: str, analysis: str, quantity: str, names: tuple[str, ...], direction: int, threshold: float
) -> None:
    rule = parse_rule(text)
    assert (rule.analysis, rule.quantity, rule.arms) == (analysis, quantity, names)
    assert (rule.direction, rule.threshold) == (direction, threshold)


# ---------------------------------------------------------------------------------------------------- overlays

keys = st.sampled_from(["a", "b", "c"])
trees = st.recursive(st.integers(), lambda inner: st.dictionaries(keys, inner, min_size=1, max_size=3), max_leaves=8)


@given(st.dictionaries(keys, trees, min_size=1))
def test_dots_and_nesting_say_the_same(tree: dict[str, Any]) -> None:
    def dotted(values: Any, path: str = "") -> dict[str, Any]:
        if not isinstance(values, dict):
            return {path: values}
        return {k: v for key, one in values.items() for k, v in dotted(one, f"{path}.{key}".lstrip(".")).items()}

    assert nested(dotted(tree), "") == tree == nested(tree, "")


def test_a_declaration_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        declare(CLAIM).claim = "another"  # type: ignore[misc]
    assert isinstance(declare(CLAIM), Declaration)
