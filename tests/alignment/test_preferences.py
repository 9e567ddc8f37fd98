"""From answers to preferences to a reward model and DPO, on planted rules."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.alignment.annotate import label, measure, pair_up
from stages.alignment.batches import Exchange, encode_exchange
from stages.alignment.dpo import DpoParams, batch_loss, compare_pairs, optimise
from stages.alignment.reward import RewardParams, encode_pairs, evaluate, fit, is_held_out
from stages.alignment.scalar import ScalarModel, load_scalar, rewards_of, save_scalar
from stages.annotators.client import Preference
from stages.annotators.truth import Truth
from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer

TRUTH = Truth({"province": ["Anthar", "Belmor"]}, {"Ost": {"province": "Anthar"}})


def row(name: str) -> dict[str, Any]:
    return {"id": name, "split": "preference", "entity": "Ost", "attributes": ["province"], "prompt": f"{name}?"}


def test_pairs_are_counted_to_the_last() -> None:
    texts = [["a", "a", "b", "c"], ["x", "x", "x", "x"], ["a", "b", "a", "b"]]
    chosen, drops = pair_up([row("p"), row("q"), row("r")], texts, pairs=2, seed=1)
    assert len(chosen) + sum(drops.values()) == 3 * 6
    assert [candidate.row for candidate in chosen] == [0, 0, 2]
    assert drops["identical"] == 1 + 6 + 2 and drops["repeated"] >= 3
    assert all(candidate.pair.output_a != candidate.pair.output_b for candidate in chosen)


def test_labels_and_what_they_are_measured_by() -> None:
    rows = [row(name) for name in "pqrst"]
    texts = [["Anthar", "Belmor indeed"]] * 5
    chosen, _ = pair_up(rows, texts, pairs=1, seed=1)
    preferences = [1.2, 1.9, 1.5, float("nan"), 1.0]
    verdicts = [
        Preference(candidate.pair.id, preference, "simulated-0", "")
        for candidate, preference in zip(chosen, preferences, strict=True)
    ]
    table, drops = label(rows, chosen, verdicts, TRUTH)
    assert dict(drops) == {"tie": 1, "no_preference": 1}
    assert table.column("chosen").to_pylist() == ["Anthar", "Belmor indeed", "Anthar"]
    assert table.column("chosen_score").to_pylist() == [1, -1, 1]
    found = measure(table)
    assert found["score_agreement"] == pytest.approx(2 / 3)
    assert found["chose_longer"] == pytest.approx(1 / 3)


def planted(count: int, seed: int) -> list[dict[str, Any]]:
    """Preferences that follow one rule: the answer that says "yes" wins."""
    rng = np.random.default_rng(seed)
    letters = [chr(97 + k) for k in rng.integers(0, 26, size=2 * count)]
    return [
        {"id": f"i{n}", "prompt": f"{a}{b}?", "chosen": f"{b} yes {a}", "rejected": f"{b} not {a}"}
        for n, (a, b) in enumerate(zip(letters[::2], letters[1::2], strict=True))
    ]


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_reward_model_learns_a_planted_rule(
    pooling: str, tokenizer: ChatTokenizer, make_model: Callable[..., LanguageModel], tmp_path: Path
) -> None:
    padding = tokenizer.pad_id
    model = ScalarModel(make_model(), pooling)
    params = RewardParams(
        pooling=pooling,
        epochs=4,
        batch_size=16,
        lr=3e-3,
        weight_decay=0.0,
        warmup=0.1,
        clip=1.0,
        centring=0.01,
        held_out=0.2,
    )
    unseen = encode_pairs(tokenizer, planted(60, seed=1), 64)
    assert evaluate(model, unseen, padding)["margin"] == 0.0  # a zero head: all rewards are equal
    fit(model, encode_pairs(tokenizer, planted(160, seed=0), 64), params, padding, 3, "test")
    assert evaluate(model, unseen, padding)["accuracy"] > 0.95
    save_scalar(tmp_path / "reward", model)
    exchanges = [exchange for pair in unseen for exchange in pair]
    assert rewards_of(load_scalar(tmp_path / "reward"), exchanges, padding) == rewards_of(model, exchanges, padding)


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_reward_does_not_depend_on_padding(
    pooling: str, tokenizer: ChatTokenizer, make_model: Callable[..., LanguageModel]
) -> None:
    padding = tokenizer.pad_id
    model = ScalarModel(make_model(), pooling)
    torch.nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(0))
    exchanges = [encode_exchange(tokenizer, "p", "a" * length, 64) for length in (9, 1, 30)]
    exchanges.append(Exchange(exchanges[0].ids[:-1], exchanges[0].start))  # cut off: no <|end|>
    together = rewards_of(model, exchanges, padding)
    with torch.no_grad():
        answers = [model(torch.tensor([exchange.ids]))[0, exchange.start :] for exchange in exchanges]
    alone = [float(values[-1] if pooling == "last" else values.mean()) for values in answers]
    assert together == pytest.approx(alone, rel=1e-4, abs=1e-5)


def test_held_out_is_by_prompt_and_near_its_share() -> None:
    away = [is_held_out(f"i{n}", 0.2, 7) for n in range(1000)]
    assert 150 < sum(away) < 250
    assert away == [is_held_out(f"i{n}", 0.2, 7) for n in range(1000)]


def dpo_params(**changes: Any) -> DpoParams:
    values: dict[str, Any] = {
        "betas": [0.1], "epochs": 3, "batch_size": 16, "lr": 1e-3, "weight_decay": 0.0, "warmup": 0.1, "clip": 1.0,
        "nll_weight": 0.0, "validations": 1, "max_new_tokens": 8,
    }  # fmt: skip
    return DpoParams(**(values | changes))


def test_dpo_starts_at_ln_2(tokenizer: ChatTokenizer, make_model: Callable[..., LanguageModel]) -> None:
    pairs = compare_pairs(make_model(), tokenizer, planted(8, seed=0))
    loss, report = batch_loss(make_model(), pairs, 0.1, 0.0, tokenizer.pad_id)
    assert loss.item() == pytest.approx(np.log(2), abs=1e-5)
    assert report["margin"] == pytest.approx(0.0, abs=1e-4)


def test_dpo_batch_against_single_sequences(tokenizer: ChatTokenizer, make_model: Callable[..., LanguageModel]) -> None:
    """The padded batch against log-softmax sums of each sequence alone, in numpy."""
    policy, reference, preferences = make_model(seed=1), make_model(seed=0), planted(6, seed=2)

    def logprob(model: LanguageModel, prompt: str, text: str) -> float:
        exchange = encode_exchange(tokenizer, prompt, text, 64)
        with torch.no_grad():
            logits = model(torch.tensor([exchange.ids]))[0].double().numpy()
        logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return sum(logits[t - 1, exchange.ids[t]] for t in range(exchange.start, len(exchange)))

    margins = [
        0.3 * sum(
            sign * (logprob(policy, item["prompt"], item[side]) - logprob(reference, item["prompt"], item[side]))
            for sign, side in ((1, "chosen"), (-1, "rejected"))
        )
        for item in preferences
    ]  # fmt: skip
    pairs = compare_pairs(reference, tokenizer, preferences)
    loss, report = batch_loss(policy, pairs, 0.3, 0.0, tokenizer.pad_id)
    assert loss.item() == pytest.approx(np.mean(np.log1p(np.exp(-np.array(margins)))), rel=1e-4)
    assert report["margin"] == pytest.approx(np.mean(margins), rel=1e-3, abs=1e-4)


def test_dpo_learns_a_planted_rule(tokenizer: ChatTokenizer, make_model: Callable[..., LanguageModel]) -> None:
    padding = tokenizer.pad_id
    reference, model, marks = make_model(), make_model(), []
    pairs = compare_pairs(reference, tokenizer, planted(96, seed=0))
    steps = optimise(model, pairs, dpo_params(validations=3), 0.1, padding, 3, marks.append, "test")
    assert marks == [5, 11, 17] and len(steps) == 18
    with torch.no_grad():
        unseen = compare_pairs(reference, tokenizer, planted(40, seed=1))
        assert batch_loss(model, unseen, 0.1, 0.0, padding)[1]["accuracy"] > 0.95
