"""Decoding with a key/value cache: ragged batches, greedy or seeded sampling, the same answer alone or in a batch."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.base.errors import InputError
from stages.base.progress import Progress
from stages.base.seeds import derive
from stages.lm.build import LanguageModel
from stages.lm.device import autocast


@torch.inference_mode()
def generate(
    model: LanguageModel,
    prompts: list[list[int]],
    *,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
    stop_ids: list[int],
    seeds: list[int] | None = None,
    batch_size: int = 64,
    label: str | None = None,
) -> list[list[int]]:
    """New tokens of each prompt, without the stop token that ended it.

    temperature 0 is greedy; else tokens are drawn from softmax(logits / temperature) cut to the smallest set with mass
    >= top_p (Holtzman et al. 2020). Prompt i draws from a stream of its own, seeded by seeds[i] or else by (seed, the
    prompt itself), so that its answer depends neither on its neighbours nor on the batch size (up to rounding of the
    logits). To sample a prompt several times, repeat it with different `seeds`. A row stops at `max_seq_len` too.
    `InputError` for an empty or too long prompt.
    """
    limit = model.config.max_seq_len
    for index, prompt in enumerate(prompts):
        if not 0 < len(prompt) < limit:
            raise InputError(
                f"prompt {index} has {len(prompt)} tokens; it must have 1 to {limit - 1} (max_seq_len {limit})"
            )
    streams = seeds or [derive(seed, *prompt) for prompt in prompts]
    outputs: list[list[int]] = [[] for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
    with Progress(len(prompts), label or "generating", unit="prompts") as bar:
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            draws = None
            if temperature > 0:
                draws = np.stack([np.random.default_rng(streams[i]).random(max_new_tokens) for i in chosen])
            answers = _decode_batch(
                model, [prompts[i] for i in chosen], max_new_tokens, temperature, top_p, draws, frozenset(stop_ids)
            )
            for i, answer in zip(chosen, answers, strict=True):
                outputs[i] = answer
            bar.advance(len(chosen))
    return outputs


def _decode_batch(
    model: LanguageModel,
    prompts: list[list[int]],
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    draws: np.ndarray | None,
    stops: frozenset[int],
) -> list[list[int]]:
    home = model.head_weight.device
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=home)
    longest = int(lengths.max())
    tokens = torch.zeros((len(prompts), longest), dtype=torch.int64, device=home)
    for row, prompt in enumerate(prompts):
        tokens[row, : len(prompt)] = torch.tensor(prompt, device=home)
    cache: Any = model.new_cache(len(prompts), min(longest + max_new_tokens, model.config.max_seq_len))
    columns = torch.arange(longest, device=home).expand(len(prompts), -1)
    with autocast():
        hidden = model.hidden(tokens, cache, torch.where(columns < lengths[:, None], columns, -1))
    last = hidden[torch.arange(len(prompts), device=home), lengths - 1]
    answers: list[list[int]] = [[] for _ in prompts]
    live = list(range(len(prompts)))
    for turn in range(max_new_tokens):
        with autocast():
            logits = model.logits(last).float()
        uniform = None if draws is None else torch.from_numpy(draws[live, turn]).to(home)
        chosen = pick(logits, temperature, top_p, uniform)
        kept = []
        for place, token in enumerate(chosen.tolist()):
            row = live[place]
            if token in stops:
                continue
            answers[row].append(token)
            if len(prompts[row]) + len(answers[row]) < model.config.max_seq_len:
                kept.append(place)
        if not kept or turn + 1 == max_new_tokens:
            break
        if len(kept) < len(live):
            index = torch.tensor(kept, device=home)
            cache.select(index)
            chosen, lengths = chosen[index], lengths[index]
            live = [live[place] for place in kept]
        with autocast():
            last = model.hidden(chosen[:, None], cache, lengths[:, None])[:, 0]
        lengths = lengths + 1
    return answers


def pick(logits: Tensor, temperature: float, top_p: float, uniform: Tensor | None) -> Tensor:
    """Next token of each row of logits [B, V]: the argmax, or the inverse of the cumulative distribution at uniform
    [B].
    """
    if temperature == 0 or uniform is None:
        return logits.argmax(dim=-1)
    probabilities = torch.softmax(logits.double() / temperature, dim=-1)
    if top_p >= 1.0:
        cumulative = probabilities.cumsum(dim=-1)
        place = torch.searchsorted(cumulative, (uniform * cumulative[:, -1])[:, None], right=True)
        return place.clamp_(max=logits.shape[-1] - 1).squeeze(1)
    ranked, order = probabilities.sort(dim=-1, descending=True, stable=True)
    cumulative = ranked.cumsum(dim=-1)  # a token stays when the mass before it is still below top_p
    cumulative = torch.where(cumulative - ranked < top_p, ranked, 0.0).cumsum(dim=-1)
    place = torch.searchsorted(cumulative, (uniform * cumulative[:, -1])[:, None], right=True)
    return order.gather(1, place.clamp_(max=logits.shape[-1] - 1)).squeeze(1)
