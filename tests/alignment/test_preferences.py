"""From answers to preferences to a reward model and DPO, on planted rules."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from stages.alignment.annotate import label, measure, pair_up
from stages.alignment.data.records import Instruction, Preference
from stages.alignment.dpo import ComparedPair, DpoParams, batch_loss, fine_tune, preferred
from stages.alignment.learning.batches import Exchange, encode_exchange
from stages.alignment.learning.pairs import Pair, accuracy, encode_pairs, hold_out
from stages.alignment.learning.tuning import Tuning
from stages.alignment.preferences import from_file
from stages.alignment.reference import logprobs_of, read_reference
from stages.alignment.reward import RewardParams, fit, margins_of
from stages.alignment.rewards.scalar import Ensemble, Pooling, ScalarModel, load_scalar, rewards_of, save_scalar
from stages.annotators.truth import Truth
from stages.annotators.votes import Vote, tally
from stages.base.errors import InputError
from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer
from stages.lm.scoring import sequence_logprobs

TRUTH = Truth({"province": ["Anthar", "Belmor"]}, {"Ost": {"province": "Anthar"}})
TUNING: dict[str, Any] = {"batch_size": 16, "weight_decay": 0.0, "warmup": 0.1, "clip": 1.0, "max_drop": 0.0}

ONE: dict[str, Any] = {"members": 1, "combine": "mean", "uncertainty": 0.0}


def row(name: str, entity: str = "Ost") -> Instruction:
    return Instruction(name, "preference", "atlas", entity, ["province"], f"{name}?", "")


def test_pairs_are_counted_to_the_last() -> None:
    texts = [["a", "a", "b", "c"], ["x", "x", "x", "x"], ["a", "b", "a", " "], ["a", "long", "b", "a"]]
    rows = [row(name) for name in "pqrs"]
    chosen, drops = pair_up(rows, texts, 2, 1, lambda prompt, text: text != "long")
    assert len(chosen) + sum(drops.values()) == 4 * 6
    assert [candidate.row for candidate in chosen] == [0, 0, 2, 3]
    assert drops["identical"] == 1 + 6 + 1 + 1 and drops["repeated"] >= 2 and drops["too_long"] == drops["empty"] == 3
    assert all(candidate.pair.output_a != candidate.pair.output_b for candidate in chosen)


def test_answers_that_differ_in_white_space_at_their_ends_are_no_pair() -> None:
    chosen, drops = pair_up([row("p")], [["a", " a", "b", "b\n"]], "all", 1)
    assert len(chosen) == 1 and drops == {"identical": 2, "repeated": 3}


def test_labels_and_what_they_are_measured_by() -> None:
    rows = [row(name) for name in "pqrst"] + [row("unknown", entity="Elsewhere")]
    chosen, _ = pair_up(rows, [["Anthar", "Belmor indeed"]] * 6, pairs="all", seed=1)
    votes = [Vote(n, "simulated-0", said) for n, said in enumerate([1.2, 1.9, 1.5, float("nan"), 1.0, 1.9])]
    found, drops = label(rows, chosen, tally(votes, 6), TRUTH)
    assert dict(drops) == {"tie": 1, "no_preference": 1}
    assert [one.chosen for one in found] == ["Anthar", "Belmor indeed", "Anthar", "Belmor indeed"]
    assert [one.chosen_score for one in found] == [1, -1, 1, None]
    numbers = measure(found)
    assert numbers["score_agreement"] == pytest.approx(2 / 3)
    assert numbers["chose_longer"] == 0.5
    assert measure(found[3:])["score_agreement"] is None


def test_own_pairs_are_read_or_named(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    good = {"prompt": "p", "chosen": "yes", "rejected": "no"}
    path.write_text(json.dumps(good) + "\n" + json.dumps(good | {"id": "i", "rejected": "never"}) + "\n")
    first, second = from_file(path, "own")
    assert (first.id, first.chosen, first.chosen_score, first.annotator) == ("own-1", "yes", None, "own")
    assert second.id == "i"
    for bad, word in (
        ({"prompt": "p", "chosen": "yes"}, "rejected"),
        (good | {"rejected": "yes"}, "same"),
        (good | {"rejected": "yes \n"}, "same"),
        (good | {"score": 1}, "score"),
        (good | {"id": "own-1", "prompt": "q"}, "another prompt"),
        (good | {"chosen": ["yes"]}, "chosen"),
    ):
        path.write_text(json.dumps(good) + "\n" + json.dumps(bad) + "\n")
        with pytest.raises(InputError, match=rf"pairs\.jsonl:2: .*{word}"):
            from_file(path, "own")


def planted(count: int, seed: int) -> list[Preference]:
    """Preferences that follow one rule: the answer that says "yes" wins."""
    rng = np.random.default_rng(seed)
    letters = [chr(97 + k) for k in rng.integers(0, 26, size=2 * count)]
    return [
        Preference(f"i{n}", f"{a}{b}?", f"{b} yes {a}", f"{b} not {a}", 1.0, None, None, "planted")
        for n, (a, b) in enumerate(zip(letters[::2], letters[1::2], strict=True))
    ]


def test_held_out_is_by_prompt_and_near_its_share() -> None:
    prompts = [f"{n % 500}?" for n in range(1000)]
    kept, away = hold_out(prompts, 0.2, 7)
    assert sorted(kept + away) == list(range(1000)) and 150 < len(away) < 250
    assert not {prompts[n] for n in kept} & {prompts[n] for n in away}
    assert [999 - n for n in hold_out(prompts[::-1], 0.2, 7)[1]] == away[::-1]
    for share in (0.001, 0.999):
        assert all(hold_out(prompts[:2], share, 7))
    with pytest.raises(InputError, match="1 prompt"):
        hold_out(prompts[:1], 0.2, 7)


@pytest.mark.parametrize("pooling", ["last", "mean", "likelihood"])
def test_reward_model_learns_a_planted_rule(
    pooling: Pooling, tokenizer: ChatTokenizer, make_model: Callable[..., LanguageModel], tmp_path: Path
) -> None:
    model = ScalarModel(make_model(), pooling)
    params = RewardParams(pooling=pooling, epochs=4, lr=3e-3, centring=0.01, held_out=0.2, **ONE, **TUNING)
    unseen = encode_pairs(tokenizer, planted(60, seed=1), 64)
    before = margins_of(Ensemble([model]), unseen)
    if pooling == "likelihood":
        sure = [[mean_logprob(model.decoder, side) for side in pair.sides] for pair in unseen]
        assert before == pytest.approx([chosen - rejected for chosen, rejected in sure], abs=1e-5)
    else:
        assert set(before) == {0.0}  # a zero head: all rewards are equal
    training = encode_pairs(tokenizer, planted(160, seed=0), 64)
    fit(model, training, Tuning(params, 3, 2, "test"))
    assert accuracy(margins_of(Ensemble([model]), unseen)) > 0.95
    save_scalar(tmp_path / "reward", model, tokenizer)
    exchanges = [pair.chosen for pair in unseen]
    assert rewards_of(load_scalar(tmp_path / "reward"), exchanges) == rewards_of(model, exchanges)


def mean_logprob(model: LanguageModel, exchange: Exchange) -> float:
    """Of an answer's tokens, in nats, by one softmax over the vocabulary a position."""
    with torch.no_grad():
        logits = model(torch.tensor([exchange.ids]))[0].double()
    picked = logits.log_softmax(dim=-1)[:-1].gather(1, torch.tensor(exchange.ids)[1:, None])[:, 0]
    return float(picked[exchange.start - 1 :].mean())


@pytest.mark.parametrize("pooling", ["last", "mean", "likelihood"])
def test_reward_does_not_depend_on_the_batch(
    pooling: Pooling, tokenizer: ChatTokenizer, make_model: Callable[..., LanguageModel]
) -> None:
    model = ScalarModel(make_model(), pooling)
    torch.nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(0))
    exchanges = [encode_exchange(tokenizer, "p", "a" * length, 64) for length in (9, 1, 30)]
    exchanges.append(Exchange(exchanges[0].ids[:-1], exchanges[0].start))  # cut off: no <|end|>
    together = rewards_of(model, exchanges)
    if pooling == "likelihood":
        alone = [model.head.weight.item() * mean_logprob(model.decoder, exchange) for exchange in exchanges]
    else:
        with torch.no_grad():
            answers = [model(torch.tensor([exchange.ids]))[0, exchange.start :] for exchange in exchanges]
        alone = [float(values[-1] if pooling == "last" else values.mean()) for values in answers]
    assert together == pytest.approx(alone, rel=1e-4, abs=1e-5)


def compare_pairs(reference: LanguageModel, pairs: list[Pair]) -> list[ComparedPair]:
    return [ComparedPair(*both) for both in zip(pairs, logprobs_of(reference, pairs), strict=True)]


def dpo_params(**changes: Any) -> DpoParams:
    values = TUNING | {"betas": [0.1], "epochs": 3, "lr": 1e-3, "nll_weight": 0.0, "held_out": 0.1}
    values |= {"loss": "sigmoid", "length_normalised": False}
    return DpoParams(**(values | {"validations": 1, "max_new_tokens": 8, "max_kl": None} | changes))


@pytest.mark.parametrize("batch_tokens", [1, 60, 4096])
def test_what_the_reference_finds_is_that_of_each_answer_alone(
    batch_tokens: int, tokenizer: ChatTokenizer, make_model: Callable[..., LanguageModel], monkeypatch: Any
) -> None:
    monkeypatch.setattr("stages.alignment.reference.BATCH_TOKENS", batch_tokens)
    model, pairs = make_model(), encode_pairs(tokenizer, planted(7, seed=3), 64)
    alone = [sequence_logprobs(model, [side.scored])[0] for pair in pairs for side in pair.sides]
    assert np.ravel(logprobs_of(model, pairs)) == pytest.approx(alone, rel=1e-5)
    assert logprobs_of(model, []) == []


def test_dpo_starts_at_ln_2(tokenizer: ChatTokenizer, make_model: Callable[..., LanguageModel]) -> None:
    pairs = compare_pairs(make_model(), encode_pairs(tokenizer, planted(8, seed=0), 64))
    loss, report = batch_loss(make_model(), pairs, 0.1, dpo_params())
    assert loss.item() == pytest.approx(np.log(2), abs=1e-5)
    assert report["margin"] == pytest.approx(0.0, abs=1e-4)
    assert preferred(make_model(), pairs) == pytest.approx(
        {"preference_accuracy": 0.5, "preference_loss": np.log(2)}, abs=1e-4
    )


def test_dpo_batch_against_single_sequences(tokenizer: ChatTokenizer, make_model: Callable[..., LanguageModel]) -> None:
    """The batch against log-softmax sums of each sequence alone, in numpy; with the chosen answers' loss."""
    policy, reference, preferences = make_model(seed=1), make_model(seed=0), planted(6, seed=2)

    def logprob(model: LanguageModel, prompt: str, text: str) -> float:
        exchange = encode_exchange(tokenizer, prompt, text, 64)
        with torch.no_grad():
            logits = model(torch.tensor([exchange.ids]))[0].double().numpy()
        logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return sum(logits[t - 1, exchange.ids[t]] for t in range(exchange.start, len(exchange)))

    chosen, rejected = (
        np.array([[logprob(model, one.prompt, text) for model in (policy, reference)] for one, text in sides])
        for sides in ([(one, one.chosen) for one in preferences], [(one, one.rejected) for one in preferences])
    )
    margins = 0.3 * ((chosen[:, 0] - chosen[:, 1]) - (rejected[:, 0] - rejected[:, 1]))
    pairs = compare_pairs(reference, encode_pairs(tokenizer, preferences, 64))
    nll = -np.mean([value / one.pair.chosen.answer_length for value, one in zip(chosen[:, 0], pairs, strict=True)])
    loss, report = batch_loss(policy, pairs, 0.3, dpo_params(nll_weight=0.5))
    assert loss.item() == pytest.approx(np.mean(np.log1p(np.exp(-margins))) + 0.5 * nll, rel=1e-4)
    assert report["margin"] == pytest.approx(np.mean(margins), rel=1e-3, abs=1e-4)


def test_dpo_learns_a_planted_rule(tokenizer: ChatTokenizer, make_model: Callable[..., LanguageModel]) -> None:
    reference, model = make_model(), make_model()
    marks: list[int] = []
    pairs = compare_pairs(reference, encode_pairs(tokenizer, planted(96, seed=0), 64))
    tuning = Tuning(dpo_params(validations=3), 3, 2, "test")
    steps = fine_tune(model, pairs, 0.1, tuning, marks.append)
    assert marks == [5, 11, 17] and len(steps) == 18
    unseen = compare_pairs(reference, encode_pairs(tokenizer, planted(40, seed=1), 64))
    assert preferred(model, unseen)["preference_accuracy"] > 0.95


def test_reference_log_probabilities_of_other_pairs_are_refused() -> None:
    rows = [Preference(name, "p", "a", "b", 1.0, None, None, "") for name in ("i", "j")]

    class Run:
        def __init__(self, *found: tuple[int, str]) -> None:
            self.found = [{"place": place, "id": name, "chosen": -1.0, "rejected": -2.0} for place, name in found]

        def read_table(self, path: str, schema: pa.Schema) -> pa.Table:
            return pa.Table.from_pylist(self.found, schema=schema)

    assert read_reference(Run((1, "j")), rows) == {1: (-1.0, -2.0)}  # type: ignore[arg-type]  # the first had no room
    for other in ((0, "j"), (2, "i")):
        with pytest.raises(InputError, match="not those of the preferences"):
            read_reference(Run(other), rows)  # type: ignore[arg-type]
