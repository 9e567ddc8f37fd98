from functools import cache
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stages.base.errors import InputError
from stages.lm.build import LanguageModel, build_model
from stages.lm.generate import fill_gaps, generate, pick
from stages.lm.incremental import IncrementalDecoder, incremental
from stages.lm.scoring import sequence_logprobs, token_logprobs
from tests.lm.conftest import shaken, tiny

PROMPTS = [[5, 6, 7], [1], [90, 91, 92, 93, 94, 95, 96], [3, 3], [127, 0, 64, 32, 16]]


MODELS = {
    "grouped": tiny(),
    "one key head, tied": tiny(n_kv_head=1, tie_embeddings=True),
    "as many key heads, no QK-norm": tiny(n_kv_head=4, qk_norm=False),
    "one layer": tiny(n_layer=1),
    "wide heads, odd vocabulary": tiny(head_dim=12, vocab_size=139),
    "lstm": tiny("lstm"),
}


@cache
def model_of(name: str) -> LanguageModel:
    return shaken(build_model(MODELS[name], 3)).eval()


def without_cache(
    model: LanguageModel, prompt: list[int], count: int, stops: list[int], temperature: float, top_p: float, seed: int
) -> list[int]:
    """The whole sequence through the model at each token."""
    ids, draws = list(prompt), np.random.default_rng(seed).random(count)
    for turn in range(count):
        with torch.no_grad():
            logits = model(torch.tensor([ids]))[0, -1]
        if temperature == 0:
            token = int(logits.argmax())
        else:
            probabilities = torch.softmax(logits.double() / temperature, dim=0).tolist()
            ranked = sorted(range(len(probabilities)), key=lambda i: (-probabilities[i], i)) if top_p < 1 else None
            token = inverse_of(probabilities, ranked or list(range(len(probabilities))), top_p, draws[turn])
        if token in stops or len(ids) == 48:
            break
        ids.append(token)
    return ids[len(prompt) :]


def inverse_of(probabilities: list[float], order: list[int], top_p: float, uniform: float) -> int:
    """Holtzman et al. 2020, word by word: the smallest set in this order with mass >= top_p, then a draw from it."""
    kept, mass = [], 0.0
    for token in order:
        if mass >= top_p and top_p < 1:
            break
        kept.append(token)
        mass += probabilities[token]
    below = 0.0
    for token in kept:
        below += probabilities[token]
        if uniform * mass < below:
            return token
    return kept[-1]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("temperature", "top_p"), [(0.0, 1.0), (0.8, 1.0), (1.1, 0.85)])
def test_cached_ragged_decoding_equals_decoding_without_a_cache(name: str, temperature: float, top_p: float) -> None:
    model, seeds = model_of(name), [7, 8, 9, 10, 11]

    def slowly(stops: list[int]) -> list[list[int]]:
        pairs = zip(PROMPTS, seeds, strict=True)
        return [without_cache(model, prompt, 44, stops, temperature, top_p, seed) for prompt, seed in pairs]

    endless = slowly([])
    stops = [endless[0][8], endless[3][20]]
    wanted = slowly(stops)
    assert len(wanted[0]) <= 8 and max(map(len, endless)) == 44
    options = {"max_new_tokens": 44, "temperature": temperature, "top_p": top_p, "seed": 0, "seeds": seeds}
    assert generate(model, PROMPTS, stop_ids=[], batch_size=3, **options) == endless
    assert generate(model, PROMPTS, stop_ids=stops, batch_size=4, **options) == wanted


def test_more_tokens_of_ragged_rows_and_forks_are_read_as_the_whole_text_is() -> None:
    model = model_of("grouped")
    texts = [[5, 6, 7, 8, 9, 10], [5, 6, 90, 91], [5, 6, 3]]
    with torch.inference_mode():
        trunk = IncrementalDecoder(model)
        trunk.read([[5, 6]])
        branch = trunk.fork(torch.tensor([0, 0, 0]))
        rest = [text[2:] + [0] * (6 - len(text)) for text in texts]
        hidden = branch.read_on(torch.tensor(rest), torch.tensor([len(text) - 2 for text in texts]))
        last = branch.fork(torch.tensor([2, 0, 2])).read_on(torch.tensor([[1, 2], [3, 4], [1, 2]]))
        again = branch.step(torch.tensor([1, 1, 1]))  # the branch goes on as if nothing had left it
        for row, text in enumerate(texts):
            wanted = model.hidden(torch.tensor([[*text, 1]]))[0]
            torch.testing.assert_close(hidden[row, : len(text) - 2], wanted[2:-1], atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(again[row], wanted[-1], atol=1e-4, rtol=1e-4)
        for row, text in enumerate(([5, 6, 3, 1, 2], [*texts[0], 3, 4], [5, 6, 3, 1, 2])):
            torch.testing.assert_close(last[row], model.hidden(torch.tensor([text]))[0, -2:], atol=1e-4, rtol=1e-4)


def test_the_cache_takes_the_dtype_of_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """On CUDA the weights are float32 and the keys bfloat16; the same happens under a CPU's autocast."""
    model = shaken(build_model(tiny(), 3)).eval()
    monkeypatch.setattr("stages.lm.incremental.autocast", lambda: torch.autocast("cpu", dtype=torch.bfloat16))
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        reader = IncrementalDecoder(model)
        reader.read([[5, 6, 7, 8, 9]])
        last = reader.step(torch.tensor([10]))
        whole = model.hidden(torch.tensor([[5, 6, 7, 8, 9, 10]]))[:, 5]
    assert reader.cache.keys[0].dtype == reader.cache.values[0].dtype == torch.bfloat16
    torch.testing.assert_close(last, whole, atol=0.05, rtol=0.05)
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


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 127), min_size=1, max_size=30), min_size=1, max_size=9),
    st.integers(1, 9),
    st.randoms(use_true_random=False),
    st.sampled_from(["grouped", "one layer", "lstm"]),
    st.sampled_from([0.0, 1.0]),
)
def test_an_answer_depends_neither_on_the_batch_nor_on_the_order(
    prompts: list[list[int]], batch_size: int, order: Random, name: str, temperature: float
) -> None:
    prompts = prompts + prompts[:2]
    options = {"max_new_tokens": 8, "temperature": temperature, "top_p": 0.9, "seed": 0, "stop_ids": [*range(1, 9)]}
    alone = [generate(model_of(name), [prompt], **options)[0] for prompt in prompts]
    shuffled = order.sample(range(len(prompts)), len(prompts))
    answers = generate(model_of(name), [prompts[i] for i in shuffled], **options, batch_size=batch_size)
    assert answers == [alone[i] for i in shuffled]


@pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() != "AVX512", reason="a property of kernels, claimed for these only"
)
@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 127), min_size=1, max_size=30), min_size=1, max_size=9),
    st.sampled_from(["grouped", "one key head, tied", "as many key heads, no QK-norm"]),
    st.integers(1, 40),
)
def test_logits_are_bitwise_those_of_the_prompt_alone(prompts: list[list[int]], name: str, portion: int) -> None:
    """On a CPU. Rows leave and come to stand elsewhere, the cache grows, prompts repeat and are read in portions."""
    continuation = torch.arange(1, 18)

    @torch.inference_mode()
    def logits(batch: list[list[int]], leave: bool) -> dict[int, list[Tensor]]:
        model = incremental(model_of(name))
        hidden, rows = model.read(batch), list(range(len(batch)))
        seen: dict[int, list[Tensor]] = {row: [] for row in rows}
        for token in continuation:
            for row, values in zip(rows, model.logits(hidden), strict=True):
                seen[row].append(values)
            if leave and len(rows) > 1 and token % 3 == 0:
                kept = fill_gaps(list(range(1, len(rows))))
                model.select(kept)
                rows = [rows[place] for place in kept]
            hidden = model.step(token.repeat(len(rows)))
        return seen

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stages.lm.incremental.PREFILL_TOKENS", portion)
        together = logits(sorted(prompts + prompts[:2]), leave=True)
    for row, prompt in enumerate(sorted(prompts + prompts[:2])):
        alone = logits([prompt], leave=False)[0]
        assert all(torch.equal(one, other) for one, other in zip(together[row], alone, strict=False))


@given(st.lists(st.booleans(), min_size=1, max_size=12).filter(any))
def test_as_few_rows_as_possible_move(stays: list[bool]) -> None:
    rows = [row for row, kept in enumerate(stays) if kept]
    order = fill_gaps(rows)
    assert sorted(order) == rows
    assert sum(place != row for place, row in enumerate(order)) == sum(not kept for kept in stays[: len(rows)])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.floats(0.05, 0.999), st.sampled_from([0.2, 1.0, 6.0]), st.booleans())
def test_ranking_only_the_likeliest_draws_what_ranking_all_does(
    seed: int, top_p: float, spread: float, ties: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn((4, 1024), generator=generator) * spread
    if ties:
        logits = logits.round()
    uniform = torch.rand(4, generator=generator, dtype=torch.float64)
    ranked, order = torch.softmax(logits.double(), dim=-1).sort(dim=-1, descending=True, stable=True)
    kept = torch.where(ranked.cumsum(-1) - ranked < top_p, ranked, 0.0).cumsum(-1)
    place = (kept <= (uniform * kept[:, -1])[:, None]).sum(dim=-1)
    assert torch.equal(pick(logits, 1.0, top_p, uniform), order[torch.arange(4), place])


def test_the_first_of_equal_logits_is_chosen() -> None:
    logits = torch.zeros(3, 256)
    logits[1, [200, 70, 130]] = 2.0
    logits[2, [65, 64]] = 2.0
    assert pick(logits, 0.0, 1.0, None).tolist() == [0, 70, 64]
