"""SFT: batches lose nothing, padding costs nothing, the loss is the answer's own, the best checkpoint is kept."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.alignment.batches import bucketed, encode_exchange, pad
from stages.alignment.sft import SftParams, completion_loss, fine_tune, mix
from stages.base.errors import InputError
from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer

EXCHANGES = [("Where is A?", "In Anthar."), ("B?", "No."), ("Which craft has C?", "C has the craft of pottery.")]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=200), st.integers(1, 9), st.integers(0, 3))
def test_every_example_once_an_epoch(lengths: list[int], batch_size: int, epoch: int) -> None:
    batches = list(bucketed(lengths, batch_size, 5, epoch))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert max(map(len, batches)) <= batch_size
    assert batches == list(bucketed(lengths, batch_size, 5, epoch))


def test_padded_batch_is_the_token_mean_of_single_examples(
    tokenizer: ChatTokenizer, make_model: Callable[..., LanguageModel]
) -> None:
    """Against plain full-vocabulary cross-entropy of each example alone; gradients too."""
    model, oracle = make_model(), make_model()
    exchanges = [encode_exchange(tokenizer, prompt, text, 64) for prompt, text in EXCHANGES]
    rows, mask = pad(exchanges, tokenizer.pad_id)
    loss, _ = completion_loss(model, rows, mask)
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


def test_prompts_are_not_learned(tokenizer: ChatTokenizer, make_model: Callable[..., LanguageModel]) -> None:
    """The prompt is context only: there are as many targets as the answer has tokens, `<|end|>` included."""
    exchange = encode_exchange(tokenizer, "abc", "de", 64)
    _, mask = pad([exchange], tokenizer.pad_id)
    assert int(mask.sum()) == 3
    assert exchange.start == 2 + 3 + 1


def test_too_long_is_refused_not_cut(tokenizer: ChatTokenizer) -> None:
    with pytest.raises(InputError, match="shorten"):
        encode_exchange(tokenizer, "x" * 60, "y", 64)


def test_training_learns_and_keeps_the_best_checkpoint(
    tokenizer: ChatTokenizer, make_model: Callable[..., LanguageModel]
) -> None:
    exchanges = [encode_exchange(tokenizer, prompt, text, 64) for prompt, text in EXCHANGES] * 4
    params = SftParams(
        epochs=8, batch_size=4, optimizer="adamw", lr=3e-3, adam_lr=3e-3, weight_decay=0.0, warmup=0.1, clip=1.0,
        validations=4, max_new_tokens=8, self_instruct_share=0.0,
    )  # fmt: skip
    rights, seen = iter([0.1, 0.7, 0.7, 0.2]), []

    def validate(model: LanguageModel) -> dict[str, float]:
        seen.append({key: value.clone() for key, value in model.state_dict().items()})
        return {"exact_right": next(rights)}

    model = make_model()
    steps, checkpoints = fine_tune(model, tokenizer, exchanges, params, 3, validate, "test")
    assert steps[-1]["loss"] < 0.6 * steps[0]["loss"]
    assert [row["exact_right"] for row in checkpoints] == [0.1, 0.7, 0.7, 0.2]
    assert checkpoints[-1]["step"] == len(steps) - 1
    for key, value in model.state_dict().items():
        assert torch.equal(value, seen[1][key])

    again = make_model()
    rights = iter([0.1, 0.7, 0.7, 0.2])
    assert fine_tune(again, tokenizer, exchanges, params, 3, validate, "test")[0] == steps


def test_machine_share() -> None:
    human, machine = [{"id": f"h{i}"} for i in range(10)], [{"id": f"m{i}"} for i in range(8)]
    assert mix(human, machine, 0.0, 1) == human
    assert len(mix(human, machine, 0.5, 1)) == 15
    assert len(mix(human, machine, 3.0, 1)) == 18
    assert mix(human, [], 1.0, 1) == human
