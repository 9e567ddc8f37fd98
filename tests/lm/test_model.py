import math

import pytest
import torch
from torch import Tensor

from stages.base.errors import InputError, ParamError
from stages.lm.build import build_model
from stages.lm.config import ModelConfig
from stages.lm.hf_weights import to_hf_state_dict
from stages.lm.loss import document_ids
from stages.lm.transformer import Decoder
from tests.lm.conftest import shaken, tiny


def naive_decoder(model: Decoder, tokens: list[int]) -> Tensor:
    """Logits by the equations, one position and one head at a time, from the weights under their Hugging Face names."""
    config, weights = model.config, to_hf_state_dict(model.state_dict(), model.config)
    size, group = config.head_dim, config.n_head // config.n_kv_head

    def norm(x: Tensor, name: str) -> Tensor:
        return x / (x.pow(2).mean() + config.norm_eps).sqrt() * weights[name]

    def rotate(x: Tensor, position: int) -> Tensor:
        out = x.clone()
        for i in range(size // 2):
            angle = position * config.rope_theta ** (-2 * i / size)
            a, b = x[i], x[i + size // 2]
            out[i] = a * math.cos(angle) - b * math.sin(angle)
            out[i + size // 2] = b * math.cos(angle) + a * math.sin(angle)
        return out

    stream = [weights["model.embed_tokens.weight"][token].clone() for token in tokens]
    for layer in range(config.n_layer):
        prefix = f"model.layers.{layer}."
        keys: list[list[Tensor]] = []
        values: list[list[Tensor]] = []
        for position, x in enumerate(stream):
            x = norm(x, prefix + "input_layernorm.weight")
            projected = {p: weights[f"{prefix}self_attn.{p}_proj.weight"] @ x for p in "qkv"}
            keys.append(
                [rotate(norm(k, prefix + "self_attn.k_norm.weight"), position) for k in projected["k"].split(size)]
            )
            values.append(list(projected["v"].split(size)))
            heads = []
            for head, query in enumerate(projected["q"].split(size)):
                query = rotate(norm(query, prefix + "self_attn.q_norm.weight"), position)
                scores = torch.stack([query @ past[head // group] for past in keys]) / math.sqrt(size)
                share = torch.softmax(scores, dim=0)
                heads.append(sum(s * past[head // group] for s, past in zip(share, values, strict=True)))
            stream[position] = stream[position] + weights[prefix + "self_attn.o_proj.weight"] @ torch.cat(heads)
        for position, x in enumerate(stream):
            x = norm(x, prefix + "post_attention_layernorm.weight")
            gate, up = (weights[f"{prefix}mlp.{p}_proj.weight"] @ x for p in ("gate", "up"))
            stream[position] = stream[position] + weights[prefix + "mlp.down_proj.weight"] @ (
                gate * torch.sigmoid(gate) * up
            )
    head = weights.get("lm_head.weight", weights["model.embed_tokens.weight"])
    return torch.stack([head @ norm(x, "model.norm.weight") for x in stream])


@pytest.mark.parametrize(("tied", "n_kv_head"), [(False, 2), (True, 4)])
def test_decoder_equals_the_equations(tied: bool, n_kv_head: int) -> None:
    model = shaken(build_model(tiny(tie_embeddings=tied, n_kv_head=n_kv_head), 1))
    tokens = [3, 17, 99, 4, 4, 120]
    with torch.no_grad():
        expected, got = naive_decoder(model, tokens), model(torch.tensor([tokens]))[0]
    torch.testing.assert_close(got, expected, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("arch", ["transformer", "lstm"])
@pytest.mark.parametrize("tied", [False, True])
def test_counts_match_the_built_model(arch: str, tied: bool) -> None:
    config = tiny(arch, tie_embeddings=tied)
    model = build_model(config, 0)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert config.param_count() == count
    outside = sum(p.numel() for n, p in model.named_parameters() if "embed_tokens" in n or "lm_head" in n)
    assert config.non_embedding_count() == count - outside


def test_palm_flops_of_a_known_shape() -> None:
    """GPT-2 small's matrices at T = 1024: 6·N + 12·L·d·T, with SwiGLU widened so that N is 12·L·d² + V·d."""
    config = tiny(vocab_size=50304, n_layer=12, d_model=768, n_head=12, n_kv_head=12, d_ff=2048, max_seq_len=1024)
    assert config.matmul_count() == 12 * 12 * 768**2 + 50304 * 768
    assert config.flops_per_token(1024) == 6 * config.matmul_count() + 12 * 12 * 768 * 1024


@pytest.mark.parametrize("arch", ["transformer", "lstm"])
def test_a_fresh_untied_model_is_uniform_and_a_pure_function_of_its_seed(arch: str) -> None:
    one, same, other = (build_model(tiny(arch), seed) for seed in (5, 5, 6))
    logits = one(torch.tensor([[1, 2, 3]]))
    assert logits.abs().max() == 0
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.embed_tokens.weight, other.embed_tokens.weight)


@pytest.mark.parametrize("arch", ["transformer", "lstm"])
def test_no_position_sees_the_future(arch: str) -> None:
    model = shaken(build_model(tiny(arch), 0)).eval()
    tokens = torch.randint(0, 128, (1, 20))
    changed = tokens.clone()
    changed[0, 12:] = (changed[0, 12:] + 1) % 128
    with torch.no_grad():
        before, after = model(tokens), model(changed)
    torch.testing.assert_close(before[:, :12], after[:, :12])
    assert not torch.allclose(before[:, 12:], after[:, 12:])


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"n_head": 5}, "n_head"),
        ({"n_kv_head": 3}, "n_kv_head"),
        ({"vocab_size": 0}, "vocab_size"),
        ({"arch": "mamba"}, "arch"),
        ({"n_layer": 0}, "n_layer"),
        ({"d_model": 33, "n_head": 1}, "even"),
    ],
)
def test_bad_shapes_are_named(change: dict[str, object], word: str) -> None:
    with pytest.raises(ParamError, match=word):
        tiny(**change)


def test_config_round_trip_and_unknown_keys() -> None:
    config = tiny()
    assert ModelConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ParamError, match="n_expert"):
        ModelConfig.from_dict(config.to_dict() | {"n_expert": 4})


def test_too_long_a_sequence_is_refused() -> None:
    with pytest.raises(InputError, match="max_seq_len"):
        build_model(tiny(), 0).hidden(torch.zeros((1, 49), dtype=torch.int64))


def test_a_masked_document_is_read_as_if_it_stood_alone() -> None:
    bos = 1
    model = shaken(build_model(tiny(), 0)).eval()
    documents = [[bos, 5, 9, 7], [bos, 8, 8], [bos, 20, 21, 22, 23]]
    row = torch.tensor([[token for document in documents for token in document]])
    packed = model.hidden(row, documents=document_ids(row, bos))[0]
    alone = torch.cat([model.hidden(torch.tensor([document]))[0] for document in documents])
    torch.testing.assert_close(packed, alone, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(model.hidden(row)[0], alone, atol=1e-2), "unmasked, documents see each other"


def test_an_lstm_has_no_document_mask() -> None:
    row = torch.tensor([[1, 5, 1, 6]])
    with pytest.raises(ParamError, match="document_mask"):
        build_model(tiny("lstm"), 0).hidden(row, documents=document_ids(row, 1))
