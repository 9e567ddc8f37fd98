"""Exchanges end to end in one row, shared prompts read once: against each exchange by itself."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.alignment.learning.batches import Exchange, answer_logprobs, lay_out
from stages.lm.build import LanguageModel

CPU = torch.device("cpu")
ids = st.lists(st.integers(0, 255), min_size=1, max_size=12)


@st.composite
def exchanges(draw: st.DrawFn) -> Exchange:
    prompt, answer = draw(ids), draw(ids)
    return Exchange((257, *prompt, *answer), 1 + len(prompt))


@st.composite
def groups(draw: st.DrawFn) -> list[list[Exchange]]:
    """Of one exchange, or of two whose prompts are the same or nearly."""
    found = []
    for _ in range(draw(st.integers(1, 3))):
        first = draw(exchanges())
        same = [Exchange(first.ids[: first.start] + tuple(draw(ids)), first.start), draw(exchanges())]
        found.append(draw(st.sampled_from([[first], [first, same[0]], [first, same[1]], [first, first]])))
    return found


@settings(deadline=None, max_examples=40)
@given(groups(), st.booleans())
def test_what_is_scored_and_where_it_stands(found: list[list[Exchange]], ends: bool) -> None:
    rows = lay_out(found, CPU, ends=ends)
    row, flat = rows.tokens[0].tolist(), [exchange for group in found for exchange in group]
    assert rows.exchanges == len(flat)
    for number, exchange in enumerate(flat):
        own = rows.owners == number
        assert rows.targets[own].tolist() == list(exchange.ids[exchange.start :])
        assert [row[at] for at in rows.before[own]] == list(exchange.ids[exchange.start - 1 : -1])
        assert rows.layout.positions[rows.before[own]].tolist() == list(range(exchange.start - 1, len(exchange) - 1))
        standing = rows.places[own].tolist()
        assert [row[at] for at in standing if at >= 0] == list(exchange.ids[exchange.start : None if ends else -1])
    assert sum(one.end - one.start for one in rows.layout.segments) == len(row)
    assert len(row) <= sum(len(exchange) for exchange in flat) - (0 if ends else len(flat))


@pytest.mark.parametrize("seed", range(3))
def test_a_shared_prompt_changes_no_number_and_no_gradient(make_model: Callable[..., LanguageModel], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)

    def drawn(size: int) -> tuple[int, ...]:
        return tuple(torch.randint(0, 256, (size,), generator=generator).tolist())

    pairs = []
    for prompt, chosen, rejected in ((30, 5, 20), (1, 30, 2), (11, 1, 1)):
        start = (257, *drawn(prompt))
        pairs.append([Exchange(start + drawn(size), len(start)) for size in (chosen, rejected)])
    alone = [[exchange] for pair in pairs for exchange in pair]
    shared, plain = lay_out(pairs, CPU), lay_out(alone, CPU)
    assert shared.tokens.numel() == plain.tokens.numel() - sum(pair[0].start for pair in pairs)
    weights = torch.randn(6, generator=generator)
    found = []
    for rows in (shared, plain):
        model = make_model(seed=seed)
        sums = answer_logprobs(model, rows)
        (sums * weights).sum().backward()
        found.append((sums.detach(), [parameter.grad for parameter in model.parameters()]))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))
