"""The coordinate check (Yang et al. 2022, "Tensor Programs V", appendix D.1): one step changes activations by as much
at every width, or the rates that suit one width don't suit another.
"""

from types import SimpleNamespace

import pytest
import torch

from stages.lm.build import build_model
from stages.lm.loss import next_token_loss
from stages.lm.optim import build_optimizer
from stages.lm.rates import Kind, Rates, transferred
from tests.lm.conftest import tiny

WIDTHS = (64, 128, 256)
SHARES = {
    "muon": SimpleNamespace(embedding=20.0, head=0.4, rest=0.5),
    "adamw": SimpleNamespace(embedding=10.0, head=1.0, rest=1.0),
}
LR: dict[Kind, float] = {"muon": 0.01, "adamw": 0.002}


def changes(rates: Rates, kind: Kind, width: int) -> dict[str, float]:
    """Root mean square by which four steps change the stream after each block, and the logits."""
    config = tiny(d_model=width, d_ff=2 * width, vocab_size=64, tie_embeddings=False, max_seq_len=32)
    model = build_model(config, 0)
    rows = torch.randint(0, 64, (8, 33), generator=torch.Generator().manual_seed(0))
    seen: dict[str, torch.Tensor] = {}
    for index, block in enumerate(model.layers):  # type: ignore[arg-type]
        block.register_forward_hook(lambda module, args, out, name=f"block {index}": seen.update({name: out.detach()}))

    def activations() -> dict[str, torch.Tensor]:
        seen["logits"] = model(rows[:, :-1]).detach()
        return dict(seen)

    before = activations()
    optimizer = build_optimizer(model, rates, kind=kind)
    for _ in range(4):
        next_token_loss(model, rows, None)[0].backward()
        optimizer.step()
        optimizer.zero_grad()
    after = activations()
    return {name: (after[name] - before[name]).square().mean().sqrt().item() for name in before}


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_a_step_changes_activations_as_much_at_every_width(kind: Kind) -> None:
    found = [changes(transferred(LR[kind], SHARES[kind], kind, width, False), kind, width) for width in WIDTHS]
    for name in found[0]:
        values = [change[name] for change in found]
        assert max(values) < 1.5 * min(values), (name, values)


def test_without_the_rule_the_logits_change_more_the_wider_the_model() -> None:
    kind: Kind = "adamw"
    same = transferred(LR[kind], SHARES[kind], kind, 128, False)
    narrow, wide = (changes(same, kind, width)["logits"] for width in (WIDTHS[0], WIDTHS[-1]))
    assert wide > 2.5 * narrow


def test_rates_are_as_stated_at_width_128_and_follow_the_rule_elsewhere() -> None:
    shares = SHARES["muon"]
    assert transferred(0.01, shares, "muon", 128, False) == Rates(0.01, 0.2, 0.004, 0.005)
    assert transferred(0.01, shares, "muon", 256, False) == Rates(0.01, 0.2, 0.002, 0.005)
    assert transferred(0.01, shares, "adamw", 256, False) == Rates(0.005, 0.2, 0.002, 0.005)
    assert transferred(0.01, shares, "muon", 256, True).embedding == 0.1


def test_every_weight_is_in_the_group_of_its_rate() -> None:
    model = build_model(tiny(tie_embeddings=False), 0)
    groups = build_optimizer(model, Rates(1.0, 2.0, 3.0, 4.0)).param_groups
    by_rate = {group["peak_lr"]: {id(parameter) for parameter in group["params"]} for group in groups}
    assert by_rate[2.0] == {id(model.embed_tokens.weight)} and by_rate[3.0] == {id(model.lm_head.weight)}  # type: ignore[union-attr]
    norms = [p for name, p in model.named_parameters() if p.ndim == 1]
    assert by_rate[4.0] == set(map(id, norms))
    assert sum(map(len, by_rate.values())) == len(list(model.parameters()))
    tied = build_optimizer(build_model(tiny(tie_embeddings=True), 0), Rates(1.0, 2.0, 3.0, 4.0))
    assert [group["peak_lr"] for group in tied.param_groups] == [1.0, 2.0, 4.0]
