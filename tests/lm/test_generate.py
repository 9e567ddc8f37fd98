import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.base.errors import InputError
from stages.lm.build import build_model
from stages.lm.generate import generate, pick
from stages.lm.scoring import sequence_logprobs, token_logprobs
from tests.lm.conftest import shaken, tiny

PROMPTS = [[5, 6, 7], [1], [90, 91, 92, 93, 94, 95, 96], [3, 3], [127, 0, 64, 32, 16]]


def greedy_without_cache(model: torch.nn.Module, prompt: list[int], count: int, stops: list[int]) -> list[int]:
    ids = list(prompt)
    for _ in range(count):
        token = int(model(torch.tensor([ids]))[0, -1].argmax())
        if token in stops or len(ids) == 48:
            break
        ids.append(token)
    return ids[len(prompt) :]


@pytest.mark.parametrize("arch", ["transformer", "lstm"])
def test_cached_ragged_decoding_equals_decoding_without_a_cache(arch: str) -> None:
    model = shaken(build_model(tiny(arch), 3)).eval()
    stops = [11, 12, 13, 14, 15, 16]
    got = generate(model, PROMPTS, max_new_tokens=25, temperature=0, top_p=1, seed=0, stop_ids=stops, batch_size=3)
    assert got == [greedy_without_cache(model, prompt, 25, stops) for prompt in PROMPTS]


def test_the_cache_takes_the_dtype_of_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """On CUDA the weights are float32 and the keys bfloat16; the same happens under a CPU's autocast."""
    model = shaken(build_model(tiny(), 3)).eval()
    tokens = torch.tensor([[5, 6, 7, 8, 9, 10]])
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        cache = model.new_cache(1, 6)
        model.hidden(tokens[:, :5], cache)
        last = model.hidden(tokens[:, 5:], cache, torch.tensor([[5]]))
        whole = model.hidden(tokens)[:, 5:]
    assert cache.keys.dtype == cache.values.dtype == torch.bfloat16
    torch.testing.assert_close(last, whole, atol=0.05, rtol=0.05)

    monkeypatch.setattr("stages.lm.generate.autocast", lambda: torch.autocast("cpu", dtype=torch.bfloat16))
    answers = generate(model, PROMPTS, max_new_tokens=8, temperature=0, top_p=1, seed=0, stop_ids=[], batch_size=3)
    assert [len(answer) for answer in answers] == [8] * len(PROMPTS)


@pytest.mark.parametrize("arch", ["transformer", "lstm"])
def test_a_sampled_answer_does_not_depend_on_its_batch(arch: str) -> None:
    model = shaken(build_model(tiny(arch), 3)).eval()
    options = {"max_new_tokens": 12, "temperature": 0.9, "top_p": 0.9, "seed": 4, "stop_ids": [11, 12, 13]}
    together = generate(model, PROMPTS, **options)
    assert together == [generate(model, [prompt], **options)[0] for prompt in PROMPTS]
    assert together == generate(model, PROMPTS[::-1], **options, batch_size=2)[::-1]
    assert together != generate(model, PROMPTS, **(options | {"seed": 5}))
    twice = generate(model, [PROMPTS[0]] * 2, **options, seeds=[1, 2])
    assert twice[0] != twice[1]


def test_decoding_stops_at_the_models_length() -> None:
    model = build_model(tiny(), 0).eval()
    out = generate(model, [[1] * 40, [2]], max_new_tokens=60, temperature=0, top_p=1, seed=0, stop_ids=[])
    assert [len(answer) for answer in out] == [8, 47]
    with pytest.raises(InputError, match="max_seq_len"):
        generate(model, [[1] * 48], max_new_tokens=1, temperature=0, top_p=1, seed=0, stop_ids=[])


def test_sampling_follows_the_distribution_and_top_p_cuts_its_tail() -> None:
    logits = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05])).repeat(20000, 1)
    uniform = (torch.arange(20000, dtype=torch.float64) + 0.5) / 20000
    counts = torch.bincount(pick(logits, 1.0, 1.0, uniform), minlength=4) / 20000
    torch.testing.assert_close(counts, torch.tensor([0.5, 0.3, 0.15, 0.05]), atol=2e-4, rtol=0)
    counts = torch.bincount(pick(logits, 1.0, 0.7, uniform), minlength=4) / 20000
    torch.testing.assert_close(counts, torch.tensor([0.625, 0.375, 0.0, 0.0]), atol=2e-4, rtol=0)


@pytest.mark.parametrize("arch", ["transformer", "lstm"])
def test_batched_scores_equal_one_by_one(arch: str) -> None:
    model = shaken(build_model(tiny(arch), 3)).eval()
    sequences = [([1, 2, 3, 4], 2), ([9] * 20, 1), ([7, 8], 1), ([5, 6, 7], 3)]
    scores = sequence_logprobs(model, sequences, batch_tokens=25)
    for (ids, start), score in zip(sequences, scores, strict=True):
        table = model(torch.tensor([ids])).log_softmax(-1)[0]
        assert score == pytest.approx(sum(table[t - 1, ids[t]].item() for t in range(start, len(ids))), abs=1e-3)
    assert [len(values) for values in token_logprobs(model, sequences)] == [2, 19, 1, 0]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.lists(st.integers(0, 127), min_size=1, max_size=12), min_size=1, max_size=6))
def test_any_ragged_batch_equals_its_prompts_alone(prompts: list[list[int]]) -> None:
    model = shaken(build_model(tiny(n_layer=1), 3)).eval()
    options = {"max_new_tokens": 5, "temperature": 0.0, "top_p": 1.0, "seed": 0, "stop_ids": [1]}
    assert generate(model, prompts, **options) == [generate(model, [p], **options)[0] for p in prompts]
