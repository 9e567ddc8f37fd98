"""What held-out margins say of a reward model, several models as one, and input that can't be learned from."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats
import statsmodels.api as sm
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from stages.alignment import reward
from stages.alignment.data.records import Preference
from stages.alignment.learning.batches import encode_exchange
from stages.alignment.learning.pairs import Pair
from stages.alignment.proxy_rewards import of_model, rewards_by_id
from stages.alignment.reward import disagreement, margins_of
from stages.alignment.rewards.margins import (
    accuracy_interval,
    calibration,
    details,
    judged,
    log_loss,
    longer_accuracy,
    score_accuracy,
    summary,
)
from stages.alignment.rewards.scalar import (
    ENSEMBLE,
    HEAD,
    Ensemble,
    Pooling,
    ScalarModel,
    load_ensemble,
    load_scalar,
    member_folder,
    read_value_function,
    rewards_of,
    save_scalar,
)
from stages.base.errors import InputError
from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer


def pair(
    number: int, chosen: str = "a", rejected: str = "b", scores: tuple[int | None, int | None] = (None, None)
) -> Preference:
    return Preference(f"i{number}", f"p{number}", chosen, rejected, 1.0, *scores, "")


def test_accuracy_has_the_interval_of_prompts_not_of_pairs() -> None:
    rng = np.random.default_rng(0)
    prompts = rng.integers(0, 40, size=240)
    difficulty = rng.normal(size=40)
    margins = difficulty[prompts] + 0.3 * rng.normal(size=240)
    rows = judged([pair(int(number)) for number in prompts], margins.tolist())
    found = accuracy_interval(rows)
    right = (margins > 0).astype(float)
    fitted = sm.OLS(right, np.ones(240)).fit(cov_type="cluster", cov_kwds={"groups": prompts}, use_t=True)
    naive = sm.OLS(right, np.ones(240)).fit()
    assert found.mean == pytest.approx(right.mean())
    width = found.high - found.low
    # statsmodels has n − 1 in its small-sample factor and one degree of freedom less than there are clusters.
    assert width == pytest.approx(np.diff(fitted.conf_int()[0])[0], rel=0.1)
    assert width > 1.3 * np.diff(naive.conf_int()[0])[0], "pairs of one prompt are not independent"
    alone = accuracy_interval(judged([pair(1), pair(1)], [1.0, -1.0]))
    assert alone.mean == 0.5 and np.isnan(alone.low)


def test_a_perfect_model_is_calibrated_and_a_sure_one_is_not() -> None:
    rng = np.random.default_rng(1)
    true = rng.normal(scale=1.5, size=4000)
    margins = np.where(rng.random(4000) < 1 / (1 + np.exp(-true)), true, -true)  # the sign of a margin is the label
    perfect, sure = calibration(margins.tolist()), calibration((4 * margins).tolist())
    assert perfect.ece < 2 * perfect.by_chance < 0.04
    assert sure.ece > 5 * sure.by_chance
    assert sum(row["n"] for row in perfect.bins) == 4000 and len(perfect.bins) == 10
    assert [row["confidence"] for row in perfect.bins] == sorted(row["confidence"] for row in perfect.bins)
    # By hand, without bins' edges: the distance of confidence and accuracy of each tenth.
    order = np.argsort(np.abs(margins))
    tenths = np.array_split(order, 10)
    by_hand = [
        abs((1 / (1 + np.exp(-np.abs(margins[own])))).mean() - (margins[own] > 0).mean()) * len(own) for own in tenths
    ]
    assert perfect.ece == pytest.approx(sum(by_hand) / 4000, abs=1e-6)


@given(st.lists(st.sampled_from([-2.0, -0.5, 0.0, 0.5, 1.0]), min_size=1, max_size=80))
def test_bins_hold_every_pair_once_and_never_cut_equal_margins(margins: list[float]) -> None:
    found = calibration(margins)
    assert sum(int(row["n"]) for row in found.bins) == len(margins)
    assert len({row["confidence"] for row in found.bins}) == len(found.bins)
    assert 0 <= found.ece <= 1 and 0 <= found.by_chance <= 1


def test_what_a_model_goes_by_is_seen_in_groups() -> None:
    rows = judged(
        [
            pair(1, "long answer", "short", (1, 0)),
            pair(2, "short", "long answer", (1, -1)),
            pair(3, "equal", "lengt", (0, 0)),
            pair(4, "long answer", "short", (-1, 0)),
        ],
        [1.0, -1.0, 0.0, 2.0],
    )
    found = summary(rows)
    assert found["accuracy"] == 0.625 and found["pairs"] == found["prompts"] == 4
    assert found["chosen_longer_accuracy"] == 1.0 and found["chosen_shorter_accuracy"] == 0.0
    assert found["chosen_longer_margin"] == 1.5 and found["equal_length_pairs"] == 1
    assert found["score_gap_1_accuracy"] == 1.0 and found["score_gap_2_or_more_accuracy"] == 0.0
    assert found["score_accuracy"] == pytest.approx(1 / 3), "the label of the last pair is wrong, and the model with it"
    assert longer_accuracy(rows) == 0.625
    assert score_accuracy(judged([pair(1)], [1.0])) is None
    told = details(rows)
    assert {row["group"]: row["pairs"] for row in told["by_length"]} == {
        "chosen_longer": 2, "chosen_shorter": 1, "equal_length": 1,
    }  # fmt: skip
    json.dumps(told, allow_nan=False)


def test_knowing_nothing_costs_ln_2_and_no_number_is_no_margin() -> None:
    assert log_loss([0.0, 0.0]) == pytest.approx(np.log(2))
    assert log_loss([900.0, -900.0]) == pytest.approx(450)
    with pytest.raises(InputError, match=r"2 of 3 pairs have no finite margin; lower `alignment\.reward\.lr`"):
        judged([pair(1)] * 3, [1.0, float("nan"), float("inf")])


def drawn(make_model: Callable[..., LanguageModel], seeds: range) -> list[ScalarModel]:
    return [ScalarModel(make_model(), "mean", head_seed=seed).eval() for seed in seeds]


def test_members_become_one_reward(
    make_model: Callable[..., LanguageModel], tokenizer: ChatTokenizer, tmp_path: Path
) -> None:
    models = drawn(make_model, range(3))
    exchanges = [encode_exchange(tokenizer, "p", text, 64) for text in ("a", "bb", "ccc", "no")]
    levels = [0.1, -0.2, 0.3]
    each = np.array([rewards_of(model, exchanges) for model in models]) - np.array(levels)[:, None]
    wanted = {
        "mean": each.mean(axis=0),
        "worst": each.min(axis=0),
        "uncertainty": each.mean(axis=0) - 0.7 * each.var(axis=0),
    }
    folder = tmp_path / "reward"
    for number, model in enumerate(models):
        save_scalar(member_folder(folder, number), model, tokenizer)
    assert load_ensemble(folder).rewards(exchanges) == pytest.approx(rewards_of(models[0], exchanges)), "one alone"
    for combine, values in wanted.items():
        facts = {"combine": combine, "uncertainty": 0.7, "levels": levels}
        (folder / ENSEMBLE).write_text(json.dumps(facts))
        assert load_ensemble(folder).rewards(exchanges) == pytest.approx(values.tolist(), rel=1e-5, abs=1e-6)
    for broken in ("[1]", "{}", "{", '{"combine": "mean", "uncertainty": "x", "levels": []}'):
        (folder / ENSEMBLE).write_text(broken)
        with pytest.raises(InputError, match=r"ensemble\.json: not an ensemble"):
            load_ensemble(folder)
    (folder / ENSEMBLE).write_text(json.dumps({"combine": "mean", "uncertainty": 0.0, "levels": [0.0] * 4}))
    with pytest.raises(InputError, match="member_3"):
        load_ensemble(folder)


def test_disagreement_of_members(make_model: Callable[..., LanguageModel], tokenizer: ChatTokenizer) -> None:
    pairs = [
        Pair(encode_exchange(tokenizer, "p", one, 64), encode_exchange(tokenizer, "p", other, 64))
        for one, other in (("a", "b"), ("cc", "d"), ("e", "ff"))
    ]
    one, other = drawn(make_model, range(2))
    alike = disagreement(Ensemble([one, one], "mean", 0.0, [0.0, 0.0]), pairs)
    assert alike["members_disagree"] == alike["member_deviation"] == 0.0
    mirrored = ScalarModel(make_model(), "mean")
    with torch.no_grad():
        mirrored.head.weight.copy_(-one.head.weight)
    against = disagreement(Ensemble([one, mirrored.eval()], "mean", 0.0, [0.0, 0.0]), pairs)
    assert against["members_disagree"] == 1.0 and against["member_accuracy"] == 0.5
    both = Ensemble([one, other], "mean", 0.0, [0.0, 0.0])
    apart = [margins_of(Ensemble([model]), pairs) for model in (one, other)]
    assert margins_of(both, pairs) == pytest.approx(np.mean(apart, axis=0).tolist(), abs=1e-6)


def test_a_reward_that_is_no_number_is_said(make_model: Callable[..., LanguageModel], tokenizer: ChatTokenizer) -> None:
    (model,) = drawn(make_model, range(1))
    with torch.no_grad():
        model.head.bias.fill_(float("nan"))
    with pytest.raises(InputError, match=r"gives 1 of 1 answers no finite reward; .* lower `lr`"):
        Ensemble([model]).rewards([encode_exchange(tokenizer, "p", "a", 64)])


def test_the_proxy_agrees_with_the_judge_where_both_say_which_is_better() -> None:
    baseline = {"a": 0.0, "b": 0.0, "c": 0.0, "d": 0.0, "e": 0.0}
    rewards = {"a": 1.0, "b": 1.0, "c": -1.0, "d": 0.0, "e": 2.0}
    preferences = {"a": 1.9, "b": 1.2, "c": 1.0, "d": 2.0, "e": 1.5, "f": 2.0, "g": float("nan")}
    found = of_model(rewards, baseline, preferences)
    assert found["agreement"] == pytest.approx(2 / 3) and found["compared"] == 3
    low, high = scipy.stats.t.interval(
        0.95, 4, np.mean(list(rewards.values())), scipy.stats.sem(list(rewards.values()))
    )
    assert (found["reward"], found["low"], found["high"]) == pytest.approx((0.6, low, high))
    alone = of_model({"a": 1.0}, {"a": 1.0}, {"a": 2.0})
    assert (alone["reward"], alone["low"], alone["agreement"]) == (1.0, None, None)
    assert of_model({}, {}, {})["reward"] is None


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"pooling": "first"}])
def test_a_head_that_does_not_say_its_pooling(
    metadata: dict[str, str] | None, make_model: Callable[..., LanguageModel], tokenizer: ChatTokenizer, tmp_path: Path
) -> None:
    save_scalar(tmp_path, ScalarModel(make_model(), "last"), tokenizer)
    assert load_scalar(tmp_path).pooling == "last"
    save_file(load_file(tmp_path / HEAD), tmp_path / HEAD, metadata=metadata)
    said = "first" if metadata and "pooling" in metadata else "none"
    with pytest.raises(InputError, match=rf"head\.safetensors: its metadata has to say `pooling`.* says {said}; run"):
        load_scalar(tmp_path)


@pytest.mark.parametrize("pooling", ["mean", "likelihood"])
def test_a_value_function_starts_from_the_reward_model(
    pooling: Pooling, make_model: Callable[..., LanguageModel], tokenizer: ChatTokenizer, tmp_path: Path
) -> None:
    model = ScalarModel(make_model(), pooling, head_seed=3)
    save_scalar(tmp_path, model, tokenizer)
    critic = read_value_function(SimpleNamespace(input=lambda _: tmp_path))  # type: ignore[arg-type]
    tokens = torch.tensor([encode_exchange(tokenizer, "p", "ab", 64).ids])
    with torch.no_grad():
        found = critic(tokens)
        wanted = torch.zeros(tokens.shape) if pooling == "likelihood" else model.eval()(tokens)
    assert torch.equal(found, wanted) and not critic.training
    pairs = zip(critic.decoder.parameters(), model.decoder.parameters(), strict=True)
    assert all(torch.equal(own, of) for own, of in pairs)


def test_answers_to_other_instructions_are_named(
    make_model: Callable[..., LanguageModel], tokenizer: ChatTokenizer
) -> None:
    ensemble = Ensemble(drawn(make_model, range(1)))
    answers = [{"id": key, "split": split, "output": "x"} for key, split in (("a", "test"), ("b", "validation"))]
    assert rewards_by_id(ensemble, tokenizer, {"a": "p"}, answers, "some/outputs.parquet").keys() == {"a"}
    with pytest.raises(InputError, match=r"some/outputs\.parquet: 1 of 1 answers .* 'a'; run `dvc repro`"):
        rewards_by_id(ensemble, tokenizer, {"b": "p"}, answers, "some/outputs.parquet")


@pytest.mark.parametrize("members", [1, 2])
def test_a_diverged_model_is_refused_and_a_bad_one_is_said(
    members: int, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(prepared, tmp_path / "run")
    monkeypatch.chdir(tmp_path / "run")
    monkeypatch.setenv("TRAINYARD_TRACK", "off")
    params = yaml.safe_load(Path("params.yaml").read_text())

    def run(lr: float) -> str:
        params["alignment"]["reward"] |= {"members": members, "lr": lr}
        Path("params.yaml").write_text(yaml.safe_dump(params))
        reward.main()
        return capsys.readouterr().err

    def found() -> float:
        return json.loads(Path("data/alignment/reward/metrics.json").read_text())["held_out_loss"]

    assert "worse than" not in run(1e-3) and found() < np.log(2)
    before = {path: path.read_bytes() for path in Path("data/alignment/reward").rglob("*") if path.is_file()}
    with pytest.raises(SystemExit, match="2"):
        run(1e3)
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "training diverged" in line and "lower `alignment.reward.lr` (1000 here)" in line
    assert before == {path: path.read_bytes() for path in Path("data/alignment/reward").rglob("*") if path.is_file()}
    # Held-out pairs the other way round: what was learned is wrong of them.
    hold_out = reward.margins_of
    monkeypatch.setattr(reward, "margins_of", lambda ensemble, pairs: [-margin for margin in hold_out(ensemble, pairs)])
    assert "the loss on held-out pairs is" in run(1e-3) and found() > np.log(2)
