"""A Qwen3-compatible decoder: pre-norm RMSNorm, RoPE, grouped-query attention with QK-norm, SwiGLU, no biases; and the
same with what Llama, Qwen2, Mistral and SmolLM3 have otherwise (`ModelConfig`).

Query, key and value share one matrix, as gate and up do: fewer, wider GEMMs. `hf.py` splits them into the names of
`Qwen3ForCausalLM`. A fused matrix says in `splits` which row blocks are matrices of their own, for optimizers that
treat a matrix as an operator (Muon).
"""

import contextlib
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.base.errors import InputError
from stages.lm.attention import causal_attention
from stages.lm.config import ModelConfig
from stages.lm.device import stream_dtype
from stages.lm.layout import Layout, Segment
from stages.lm.rotary import tables

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
}


Segments = tuple[Segment, ...] | None


class Linear(nn.Linear):
    """Without numbers yet: every model is built from a seed or loaded, and of one of 135 million weights drawing
    numbers to throw away takes half as long as reading it."""

    def reset_parameters(self) -> None:
        pass

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_autocast_enabled(x.device.type):
            return super().forward(x)
        return F.linear(x, self.weight.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype))


class RMSNorm(nn.Module):
    """Zhang & Sennrich 2019, with a learned scale."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps)


class Attention(nn.Module):
    def __init__(self, config: ModelConfig, rotated: bool = True) -> None:
        super().__init__()
        self.rotated = rotated
        self.n_head, self.n_kv_head, self.head_dim = config.n_head, config.n_kv_head, config.head_dim
        query, keys = config.n_head * config.head_dim, config.n_kv_head * config.head_dim
        self.qkv_proj = Linear(config.d_model, query + 2 * keys, bias=config.qkv_bias)
        self.qkv_proj.weight.splits = (query, keys, keys)  # type: ignore[attr-defined]
        self.o_proj = Linear(query, config.d_model, bias=config.out_bias)
        if config.qk_norm:
            self.q_norm = nn.Parameter(torch.ones(config.head_dim))
            self.k_norm = nn.Parameter(torch.ones(config.head_dim))
        self.qk_norm, self.eps = config.qk_norm, config.norm_eps

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None, segments: Segments = None) -> Tensor:
        batch, length, _ = x.shape
        heads = self.qkv_proj(x).view(batch, length, self.n_head + 2 * self.n_kv_head, self.head_dim)
        rotated, values = heads.split((self.n_head + self.n_kv_head, self.n_kv_head), dim=2)
        if self.qk_norm:
            scale = torch.cat((self.q_norm.expand(self.n_head, -1), self.k_norm.expand(self.n_kv_head, -1)), dim=0)
            rotated = F.rms_norm(rotated, (self.head_dim,), None, self.eps) * scale
        if self.rotated:
            # The Hugging Face convention: dimension i is rotated with dimension i + head_dim / 2.
            first, second = rotated.chunk(2, dim=-1)
            rotated = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
        rotated = rotated.to(values.dtype)
        queries, keys = rotated.split((self.n_head, self.n_kv_head), dim=2)
        queries, keys, values = queries.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2)
        if mask is None:
            mixed = causal_attention(queries, keys, values, segments)
        else:
            grouped = self.n_head != self.n_kv_head
            mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, enable_gqa=grouped)
        return self.o_proj(mixed.transpose(1, 2).reshape(batch, length, -1))


class FeedForward(nn.Module):
    """SwiGLU, or another gated unit (Shazeer 2020)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_up_proj = Linear(config.d_model, 2 * config.d_ff, bias=config.mlp_bias)
        self.gate_up_proj.weight.splits = (config.d_ff, config.d_ff)  # type: ignore[attr-defined]
        self.down_proj = Linear(config.d_ff, config.d_model, bias=config.mlp_bias)
        self.activation = ACTIVATIONS[config.activation]

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
        return self.down_proj(self.activation(gate) * up)


class Block(nn.Module):
    def __init__(self, config: ModelConfig, rotated: bool = True) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.d_model, config.norm_eps)
        self.self_attn = Attention(config, rotated)
        self.post_attention_layernorm = RMSNorm(config.d_model, config.norm_eps)
        self.mlp = FeedForward(config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None, segments: Segments = None) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, mask, segments)
        return x + self.mlp(self.post_attention_layernorm(x))


def empty_embedding(config: ModelConfig) -> nn.Embedding:
    """Without numbers yet: on the device "meta", drawing them would load torch's compiler, which takes seconds."""
    return nn.Embedding.from_pretrained(torch.empty(config.vocab_size, config.d_model), freeze=False)


class Decoder(nn.Module):
    """Token ids [B, T] → hidden states [B, T, C] → logits [B, T, V]."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = empty_embedding(config)
        self.layers = nn.ModuleList(Block(config, n not in config.unrotated) for n in range(config.n_layer))
        self.norm = RMSNorm(config.d_model, config.norm_eps)
        if not config.tie_embeddings:
            self.lm_head = Linear(config.d_model, config.vocab_size, bias=False)
        cos, sin = tables(config)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    @property
    def head_weight(self) -> Tensor:
        """The output matrix [V, C]."""
        return self.embed_tokens.weight if self.config.tie_embeddings else self.lm_head.weight

    def hidden(self, tokens: Tensor, documents: Tensor | None = None, layout: Layout | None = None) -> Tensor:
        """Hidden states after the final norm, [B, T, C]; a row may be padded on the right, as padding comes after all
        that counts. `InputError` for more than `max_seq_len` tokens.

        `documents` [B, T] says which document each token belongs to, and a token sees its own only. Positions go on
        through a row all the same: rotary attention depends on distances alone.

        `layout`: a single row [1, T] holds sequences end to end; `max_seq_len` bounds each of them.
        """
        length = tokens.shape[1] if layout is None else layout.longest
        if length > self.config.max_seq_len:
            raise InputError(
                f"a sequence of {length} tokens is longer than the model's max_seq_len of {self.config.max_seq_len}; "
                "shorten it or train with a larger max_seq_len"
            )
        mask = None
        if documents is not None:
            same = documents[:, None, :, None] == documents[:, None, None, :]
            mask = same & torch.ones((length, length), dtype=torch.bool, device=tokens.device).tril()
        places = slice(length) if layout is None else layout.positions
        cos, sin = self.cos[places], self.sin[places]  # type: ignore[index]
        segments = None if layout is None else layout.segments
        dtype = stream_dtype(self.embed_tokens.weight)
        narrow = dtype != torch.float32
        with torch.autocast(tokens.device.type, enabled=False) if narrow else contextlib.nullcontext():
            x = self.embed_tokens(tokens).to(dtype)
            for block in self.layers:
                x = block(x, cos, sin, mask, segments)
            return self.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.head_weight)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.logits(self.hidden(tokens))
