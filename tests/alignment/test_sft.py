"""SFT and what all tuning shares: batches lose nothing, padding costs nothing, shards and processes change nothing, the
best checkpoint is kept."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.alignment.answering.answers import Measured, Sampling, Validation, answer
from stages.alignment.data.records import Instruction
from stages.alignment.learning.batches import bucketed, encode_exchange, encode_turns, lay_out
from stages.alignment.learning.selection import EXACT_RIGHT, PREFERENCE_ACCURACY, VALIDATION_LOSS, Selection, chosen_by
from stages.alignment.learning.tuning import Report, Tuning
from stages.alignment.sft import SftParams, choose, completion_loss, fine_tune, mix
from stages.annotators.truth import Truth
from stages.base.conversation import Message
from stages.base.errors import InputError
from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer
from stages.lm.scoring import sequence_logprobs

EXCHANGES = [("Where is A?", "In Anthar."), ("B?", "No."), ("Which craft has C?", "C has the craft of pottery.")]
PARAMS = SftParams(
    epochs=8, batch_size=4, optimizer="adamw", lr=3e-3, adam_lr=3e-3, weight_decay=0.0, warmup=0.1, clip=1.0,
    max_drop=0.0, validations=4, max_new_tokens=8, self_instruct_share=0.0, examples=None, lora=None,
)  # fmt: skip


def instruction(name: str, split: str = "sft", entity: str = "") -> Instruction:
    return Instruction(name, split, "own", entity, ["province"] if entity else [], f"{name}?", "In Anthar.")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=200), st.integers(1, 9), st.integers(0, 3))
def test_every_example_once_an_epoch(lengths: list[int], batch_size: int, epoch: int) -> None:
    batches = list(bucketed(lengths, batch_size, 5, epoch))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert max(map(len, batches)) <= batch_size
    assert batches == list(bucketed(lengths, batch_size, 5, epoch))


def test_a_batch_is_the_token_mean_of_single_examples(
    tokenizer: ChatTokenizer, make_model: Callable[..., LanguageModel]
) -> None:
    """Against plain full-vocabulary cross-entropy of each example alone; gradients too."""
    model, oracle = make_model(), make_model()
    exchanges = [encode_exchange(tokenizer, prompt, text, 64) for prompt, text in EXCHANGES]
    loss, _ = completion_loss(model, lay_out([[exchange] for exchange in exchanges], torch.device("cpu")))
    loss.backward()
    total, count = torch.zeros(()), 0
    for exchange in exchanges:
        ids = torch.tensor(exchange.ids)
        logits = oracle(ids[None, :-1])[0, exchange.start - 1 :]
        total = total + F.cross_entropy(logits, ids[exchange.start :], reduction="sum")
        count += len(ids) - exchange.start
    (total / count).backward()
    assert float(loss.detach()) == pytest.approx(float(total.detach()) / count, rel=1e-5)
    for ours, theirs in zip(model.parameters(), oracle.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-6)


def test_prompts_are_not_learned(tokenizer: ChatTokenizer) -> None:
    """The prompt is context only: there are as many targets as the answer has tokens, `<|end|>` included."""
    exchange = encode_exchange(tokenizer, "abc", "de", 64)
    rows = lay_out([[exchange]], torch.device("cpu"))
    assert rows.targets.tolist() == list(exchange.ids[exchange.start :]) and exchange.answer_length == 3
    assert exchange.start == 2 + 3 + 1


def test_too_long_is_refused_not_cut(tokenizer: ChatTokenizer) -> None:
    with pytest.raises(InputError, match="shorten"):
        encode_exchange(tokenizer, "x" * 60, "y", 64)


def tuned(
    tokenizer: ChatTokenizer, model: LanguageModel, shards: int, on_checkpoint: Callable[[int], None] = lambda _: None
) -> list[Report]:
    exchanges = [encode_exchange(tokenizer, prompt, text, 64) for prompt, text in EXCHANGES * 3]  # 4, 4 and 1 a step
    return fine_tune(model, exchanges, Tuning(PARAMS, 3, shards, "test"), PARAMS.validations, on_checkpoint)


def test_training_learns_and_keeps_the_best_checkpoint(
    tokenizer: ChatTokenizer, make_model: Callable[..., LanguageModel]
) -> None:
    model, seen = make_model(), []
    rights = iter([0.1, 0.7, 0.7, 0.2])

    def measure() -> Measured:
        assert not model.training
        seen.append({key: value.clone() for key, value in model.state_dict().items()})
        return {"exact_right": next(rights), "loss": None}

    selection = Selection(model, (EXACT_RIGHT,), measure)
    steps = tuned(tokenizer, model, 2, selection.visit)
    assert steps[-1]["loss"] < 0.6 * steps[0]["loss"]
    assert [checkpoint.step for checkpoint in selection.checkpoints] == [5, 11, 17, 23]
    assert selection.restore().step == 11
    for key, value in model.state_dict().items():
        assert torch.equal(value, seen[1][key])
    assert selection.found() == {
        "chosen_by": "exact_right", "best_step": 11, "validation_exact_right": 0.7, "validation_loss": None
    }  # fmt: skip
    rows = selection.joined(steps)
    assert len(rows) == 24 and [row["step"] for row in rows if "validation_loss" in row] == [5, 11, 17, 23]


@pytest.mark.parametrize(("truth", "best"), [(True, 3), (False, 0)])
def test_equals_by_truth_are_told_apart_by_the_loss(truth: bool, best: int) -> None:
    rows = [(0.1, 1.0), (0.7, 3.0), (0.6, 1.0), (0.7, 2.0), (0.7, 2.0)]
    found: list[Measured] = [{"exact_right": right if truth else None, "loss": loss} for right, loss in rows]
    selection = Selection(torch.nn.Linear(1, 1), chosen_by(VALIDATION_LOSS, truth), iter(found).__next__)
    for step in range(5):
        selection.visit(step)
    assert selection.best is not None and selection.best.step == best
    assert selection.chosen_by == ("exact_right" if truth else "loss")


def test_no_checkpoint_too_far_from_the_start_is_kept() -> None:
    model = torch.nn.Linear(1, 1)
    found: list[Measured] = [{"preference_accuracy": 1.0, "kl_to_sft": kl} for kl in (51.0, float("nan"), 2.5, 60.0)]
    selection = Selection(model, (PREFERENCE_ACCURACY,), iter(found).__next__, max_kl=50.0)
    for step in range(2):
        selection.visit(step)
        assert selection.best is None
    selection.visit(2)
    selection.visit(3)
    assert selection.restore().step == 2
    start = Selection(
        model, (PREFERENCE_ACCURACY,), lambda: {"preference_accuracy": 1.0, "kl_to_sft": 99.0}, max_kl=50.0
    )
    start.visit(0)
    start.keep(torch.nn.Linear(1, 1), {"preference_accuracy": 0.5, "kl_to_sft": 0.0})
    assert start.restore().step == -1


def test_processes_change_no_bit_and_shards_only_the_rounding(
    tokenizer: ChatTokenizer, make_model: Callable[..., LanguageModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    results = {}
    for shards, workers in ((1, 1), (4, 1), (4, 2), (4, 4)):
        monkeypatch.setenv("TRAINYARD_WORKERS", str(workers))
        model = make_model()
        results[shards, workers] = (tuned(tokenizer, model, shards), list(model.parameters()))
    steps, weights = results[4, 1]
    for workers in (2, 4):
        assert results[4, workers][0] == steps
        assert all(torch.equal(a, b) for a, b in zip(results[4, workers][1], weights, strict=True))
    for row, whole in zip(steps[:6], results[1, 1][0][:6], strict=True):  # later steps add up the rounding
        assert row == pytest.approx(whole, rel=1e-3)


def test_answers_are_the_same_in_any_number_of_processes(
    tokenizer: ChatTokenizer, make_model: Callable[..., LanguageModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    sampling = Sampling(temperature=1.0, top_p=0.9, max_new_tokens=8)
    prompts = [f"{n}?" for n in range(40)]
    found = []
    for workers in ("1", "2", "4"):
        monkeypatch.setenv("TRAINYARD_WORKERS", workers)
        found.append(answer(make_model(), tokenizer, prompts, sampling, seed=5, samples=3))
    assert found[0] == found[1] == found[2]
    assert [len(group) for group in found[0]] == [3] * 40
    assert len({given.ids for group in found[0] for given in group}) > 100


def test_an_answer_ends_with_the_context(tokenizer: ChatTokenizer, make_model: Callable[..., LanguageModel]) -> None:
    sampling = Sampling(temperature=0.0, top_p=1.0, max_new_tokens=30)
    ((given,),) = answer(make_model(), tokenizer, ["x" * 55], sampling)
    assert len(given.prompt_ids) + len(given.ids) == 64 and not given.ended
    with pytest.raises(InputError, match="no room"):
        answer(make_model(), tokenizer, ["x" * 61], sampling)


def test_validation_without_truth(tokenizer: ChatTokenizer, make_model: Callable[..., LanguageModel]) -> None:
    """The loss is that of single examples; exact scores are unknown."""
    rows = [instruction(name, "validation", entity="Ost") for name in ("a", "bcd")] + [instruction("e")]
    model = make_model()
    validation = Validation(tokenizer, Truth({}, {}), rows, 8, 64)
    assert not validation.knows_truth
    exchanges = [encode_exchange(tokenizer, row.prompt, row.response, 64) for row in rows[:2]]
    with torch.no_grad():
        losses = [
            float(completion_loss(model, lay_out([[exchange]], torch.device("cpu")))[0]) for exchange in exchanges
        ]
    assert validation.loss(model) == pytest.approx(sum(losses) / 2, rel=1e-5)  # equally many tokens
    found = validation.summary(validation.answers(model))
    assert found["exact_right"] is None and found["exact_score"] is None and found["tokens"] is not None
    known = Truth({"province": ["Anthar"]}, {"Ost": {"province": "Anthar"}})
    assert Validation(tokenizer, known, rows, 8, 64).knows_truth
    with pytest.raises(InputError, match="validation split"):
        Validation(tokenizer, known, rows[2:], 8, 64)


def test_the_loss_of_a_conversation_is_of_every_response_as_in_sft(
    tokenizer: ChatTokenizer, make_model: Callable[..., LanguageModel]
) -> None:
    said = [("user", "a?"), ("assistant", "No, b."), ("user", "c"), ("assistant", "d"), ("user", "e?")]
    messages: list[Message] = [{"role": role, "content": content} for role, content in said]
    talk = Instruction("t", "validation", "own", "", [], "e?", "In Anthar.", messages)
    single = instruction("f", "validation")
    model = make_model()

    def learned(rows: list[Instruction]) -> float:
        exchanges = [[encode_turns(tokenizer, row.asked, row.response)] for row in rows]
        with torch.no_grad():
            return float(completion_loss(model, lay_out(exchanges, torch.device("cpu")))[0])

    def validated(rows: list[Instruction]) -> float:
        return Validation(tokenizer, Truth({}, {}), rows, 8, 64).loss(model)

    for rows in ([talk], [single], [talk, single]):
        assert validated(rows) == pytest.approx(learned(rows), rel=1e-5)
    exchange = encode_exchange(tokenizer, single.asked, single.response, 64)
    assert validated([single]) == -sequence_logprobs(model, [exchange.scored])[0] / exchange.answer_length
    last = encode_exchange(tokenizer, talk.asked, talk.response, 64)
    alone = -sequence_logprobs(model, [last.scored])[0] / last.answer_length
    assert validated([talk]) != pytest.approx(alone, rel=1e-3), "the earlier responses count"


def test_machine_share() -> None:
    human, machine = [instruction(f"h{i}") for i in range(10)], [instruction(f"m{i}") for i in range(8)]
    assert mix(human, machine, 0.0, 1) == human
    assert len(mix(human, machine, 0.5, 1)) == 15
    assert len(mix(human, machine, 3.0, 1)) == 18
    assert mix(human, [], 1.0, 1) == human


def test_a_choice_of_examples_holds_the_smaller_ones() -> None:
    rows = [instruction(str(number)) for number in range(50)]
    chosen = [choose(rows, count, 3) for count in (5, 20, 50, 400)]
    assert [len(some) for some in chosen] == [5, 20, 50, 50]
    for fewer, more in pairwise(chosen):
        assert all(row in more for row in fewer) and more == sorted(more, key=rows.index)
    assert choose(rows, None, 3) == rows
    assert choose(rows, 20, 4) != chosen[1]
