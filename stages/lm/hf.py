"""Names and config of `Qwen3ForCausalLM`, so that a decoder loads in transformers with no code of its own."""

from typing import Any

from torch import Tensor

from stages.base.errors import ParamError
from stages.lm.config import ModelConfig
from stages.lm.transformer import Decoder


def hf_config(config: ModelConfig, *, bos_token_id: int, eos_token_id: int, pad_token_id: int) -> dict[str, Any]:
    """`config.json` of a Hugging Face folder. `ParamError` for what Qwen3 can't express (an LSTM, no QK-norm)."""
    if config.arch != "transformer" or not config.qk_norm:
        raise ParamError("only a transformer with qk_norm: true exports as Qwen3; train one, or export nothing")
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ff,
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.n_kv_head,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": config.max_seq_len,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "tie_word_embeddings": config.tie_embeddings,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "use_sliding_window": False,
        "initializer_range": 0.02,
        "bos_token_id": bos_token_id,
        "eos_token_id": eos_token_id,
        "pad_token_id": pad_token_id,
        "dtype": "float32",
        "torch_dtype": "float32",
        "use_cache": True,
    }


def to_hf_state_dict(model: Decoder) -> dict[str, Tensor]:
    """The weights under the names of `Qwen3ForCausalLM`, fused matrices split; a tied head is left out."""
    config = model.config
    query, keys = config.n_head * config.head_dim, config.n_kv_head * config.head_dim
    out: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        value = value.detach().float().cpu()
        if name.endswith("qkv_proj.weight"):
            for part, block in zip("qkv", value.split((query, keys, keys)), strict=True):
                out[f"model.{name.replace('qkv_proj', f'{part}_proj')}"] = block.contiguous()
        elif name.endswith("gate_up_proj.weight"):
            for part, block in zip(("gate", "up"), value.split(config.d_ff), strict=True):
                out[f"model.{name.replace('gate_up_proj', f'{part}_proj')}"] = block.contiguous()
        elif name.endswith(("q_norm", "k_norm")):
            out[f"model.{name}.weight"] = value
        elif name.startswith("lm_head"):
            out[name] = value
        else:
            out[f"model.{name}"] = value
    return dict(sorted(out.items()))
