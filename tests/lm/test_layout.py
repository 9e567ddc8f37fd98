"""Sequences end to end in one row: the same hidden states and gradients as each of them by itself."""

import pytest
import torch

from stages.lm.build import LanguageModel, build_model
from stages.lm.config import ModelConfig
from stages.lm.layout import Layout, Segment


def small(arch: str) -> LanguageModel:
    config = ModelConfig(
        arch=arch,
        vocab_size=64,
        n_layer=2,
        d_model=32,
        n_head=4,
        n_kv_head=2,
        d_ff=64,
        max_seq_len=150,
        rope_theta=10000.0,
        tie_embeddings=False,
        qk_norm=True,
        norm_eps=1e-6,
    )
    model = build_model(config, seed=1)
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


PREFIX, FIRST, SECOND, OTHER = (
    torch.randint(0, 64, (n,), generator=torch.Generator().manual_seed(n)) for n in (70, 5, 77, 9)
)


@pytest.mark.parametrize("arch", ["transformer", "lstm"])
@pytest.mark.parametrize("learning", [True, False])
def test_segments_are_the_sequences_by_themselves(arch: str, learning: bool) -> None:
    model = small(arch)
    layout = Layout.of([Segment(0, 9), Segment(9, 79), Segment(79, 84, 9, 79), Segment(84, 161, 9, 79)])
    row = torch.cat([OTHER, PREFIX, FIRST, SECOND])[None]
    whole = [torch.cat(parts)[None] for parts in ([OTHER], [PREFIX, FIRST], [PREFIX, SECOND])]
    assert layout.longest == 147
    with torch.set_grad_enabled(learning):
        packed, (other, first, second) = model.hidden(row, layout=layout)[0], [model.hidden(one)[0] for one in whole]
        expected = torch.cat([other, first[:70], first[70:], second[70:]])
        torch.testing.assert_close(packed, expected, atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(first[:70], second[:70], atol=2e-5, rtol=1e-4)
    if learning:
        weights = torch.randn(packed.shape, generator=torch.Generator().manual_seed(3))
        parameters = [one for one in model.parameters() if one.requires_grad]
        ours = torch.autograd.grad((packed * weights).sum(), parameters, allow_unused=True)
        theirs = torch.autograd.grad((expected * weights).sum(), parameters, allow_unused=True)
        for mine, other_way in zip(ours, theirs, strict=True):
            if mine is not None:
                torch.testing.assert_close(mine, other_way, atol=1e-3, rtol=1e-4)


def test_the_longest_sequence_is_bounded_not_the_row() -> None:
    model = small("transformer")
    row = torch.randint(0, 64, (1, 300))
    model.hidden(row, layout=Layout.of([Segment(0, 150), Segment(150, 300)]))
    with pytest.raises(Exception, match="151 tokens is longer"):
        model.hidden(row, layout=Layout.of([Segment(0, 150), Segment(150, 151, 0, 150), Segment(151, 300)]))
