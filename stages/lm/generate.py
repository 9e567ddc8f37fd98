"""Decoding with a key/value cache: ragged batches, greedy or seeded sampling, the same answer alone or in a batch."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.base.errors import InputError
from stages.base.progress import Progress
from stages.base.seeds import derive
from stages.lm.build import LanguageModel
from stages.lm.forks import in_forks
from stages.lm.incremental import IncrementalDecoder, IncrementalModel, incremental

NUCLEUS = 256  # most likely tokens that are ranked before all are


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
    finished: Callable[[list[int]], bool] | None = None,
    shared: int = 0,
) -> list[list[int]]:
    """New tokens of each prompt, without the stop token that ended it.

    temperature 0 is greedy; else tokens are drawn from softmax(logits / temperature) cut to the smallest set with mass
    >= top_p (Holtzman et al. 2020). Prompt i draws from a stream of its own, seeded by seeds[i] or else by (seed, the
    prompt itself), so that its answer depends neither on its neighbours nor on the batch size: bitwise so for a decoder
    on a CPU, else up to rounding of the logits. To sample a prompt several times, repeat it with different `seeds`. A
    row stops at `max_seq_len` too, and where `finished` says so of the answer so far. `shared`: tokens that all prompts
    begin with, fewer than any has; a decoder reads them once. On a CPU as many processes as there are workers share the
    batches, with the same result. `InputError` for an empty or too long prompt, and for logits that are no numbers.
    """
    limit = model.config.max_seq_len
    for index, prompt in enumerate(prompts):
        if not 0 < len(prompt) < limit:
            raise InputError(
                f"prompt {index} has {len(prompt)} tokens; it must have 1 to {limit - 1} (max_seq_len {limit})"
            )
    streams = seeds or [derive(seed, *prompt) for prompt in prompts]
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), prompts[i], i))  # equal ones are read once
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    reader, stops = incremental(model), frozenset(stop_ids)

    trunk = reader if shared and isinstance(reader, IncrementalDecoder) else None
    if trunk is not None:
        trunk.read([prompts[0][:shared]])

    def decode(number: int) -> list[list[int]]:
        chosen, draws = batches[number], None
        if temperature > 0:
            draws = np.stack([np.random.default_rng(streams[i]).random(max_new_tokens) for i in chosen])
        own = [prompts[i] for i in chosen]
        decoder: IncrementalModel = reader
        if trunk is None:
            hidden = reader.read(own)
        else:
            decoder = branch = trunk.fork(torch.zeros(len(own), dtype=torch.int64, device=trunk.positions.device))
            hidden = branch.read_ragged([prompt[shared:] for prompt in own])
        return _decode_batch(decoder, hidden, own, max_new_tokens, limit, temperature, top_p, draws, stops, finished)

    outputs: list[list[int]] = [[] for _ in prompts]
    with Progress(len(prompts), label or "generating", unit="prompts") as bar:
        for number, answers in in_forks(decode, len(batches)):
            for i, answer in zip(batches[number], answers, strict=True):
                outputs[i] = answer
            bar.advance(len(answers))
    return outputs


def _decode_batch(
    model: IncrementalModel,
    hidden: Tensor,
    prompts: list[list[int]],
    max_new_tokens: int,
    limit: int,
    temperature: float,
    top_p: float,
    draws: np.ndarray | None,
    stops: frozenset[int],
    finished: Callable[[list[int]], bool] | None,
) -> list[list[int]]:
    answers: list[list[int]] = [[] for _ in prompts]
    live = list(range(len(prompts)))  # which prompt each row of the batch belongs to
    for turn in range(max_new_tokens):
        uniform = None if draws is None else torch.from_numpy(draws[live, turn]).to(hidden.device)
        logits = model.logits(hidden)
        if not bool(torch.isfinite(logits.amax())):  # the largest of numbers with NaN is NaN
            raise InputError("the model's logits hold NaN or infinity; check its weights")
        chosen = pick(logits, temperature, top_p, uniform)
        going = []
        for row, token in enumerate(chosen.tolist()):
            answer = answers[live[row]]
            if token in stops:
                continue
            answer.append(token)
            if len(prompts[live[row]]) + len(answer) < limit and not (finished and finished(answer)):
                going.append(row)
        if not going or turn + 1 == max_new_tokens:
            break
        if len(going) < len(live):
            rows = fill_gaps(going)
            model.select(rows)
            chosen, live = chosen[torch.tensor(rows, device=chosen.device)], [live[row] for row in rows]
        hidden = model.step(chosen)
    return answers


def fill_gaps(rows: list[int]) -> list[int]:
    """The same ascending rows, in an order in which as many as possible stay where they are: moving one costs a copy
    of its cache.
    """
    kept = set(rows)
    movers = iter([row for row in rows if row >= len(rows)])
    return [place if place in kept else next(movers) for place in range(len(rows))]


def pick(logits: Tensor, temperature: float, top_p: float, uniform: Tensor | None) -> Tensor:
    """Next token of each row of logits [B, V]: the argmax (of equals the first), or the inverse of the cumulative
    distribution at uniform [B].
    """
    if temperature == 0 or uniform is None:
        return _argmax(logits)
    probabilities = torch.softmax(logits.double() / temperature, dim=-1)
    if top_p < 1.0:
        return _nucleus(probabilities, top_p, uniform)
    return _invert(probabilities, uniform)


def _argmax(logits: Tensor) -> Tensor:
    """The first of each row's largest values: the block that holds it, then its place there.

    The maximum of a block is vectorized, `argmax` is not: 5x faster at 8,192 columns.
    """
    if logits.shape[1] % 64:  # of a model that isn't ours
        logits = F.pad(logits, (0, -logits.shape[1] % 64), value=float("-inf"))
    blocks = logits.unflatten(1, (-1, 64))
    block = blocks.amax(dim=-1).argmax(dim=-1)
    return block * 64 + blocks[torch.arange(len(logits), device=logits.device), block].argmax(dim=-1)


def _nucleus(probabilities: Tensor, top_p: float, uniform: Tensor) -> Tensor:
    """A draw from the smallest set of most likely tokens with mass >= top_p; of equals the first come first."""
    size = min(NUCLEUS, probabilities.shape[1])
    ranked, order = probabilities.topk(size, dim=-1)
    # What is left out, and what ties with it, is needed only where the rest falls short of top_p.
    above = torch.where(ranked > ranked[:, -1:], ranked, 0.0).sum(dim=-1)
    if size < probabilities.shape[1] and bool((above < top_p).any()):
        ranked, order = probabilities.sort(dim=-1, descending=True, stable=True)
    else:
        order = order.sort(dim=-1).values
        ranked, places = probabilities.gather(1, order).sort(dim=-1, descending=True, stable=True)
        order = order.gather(1, places)
    cumulative = ranked.cumsum(dim=-1)  # a token stays when the mass before it is still below top_p
    place = _invert(torch.where(cumulative - ranked < top_p, ranked, 0.0), uniform)
    return order.gather(1, place[:, None]).squeeze(1)


def _invert(mass: Tensor, uniform: Tensor) -> Tensor:
    """Where the cumulative mass [B, V] first exceeds the share uniform [B] of all of it."""
    cumulative = mass.cumsum(dim=-1)
    place = torch.searchsorted(cumulative, (uniform * cumulative[:, -1])[:, None], right=True)
    return place.clamp_(max=mass.shape[1] - 1).squeeze(1)
