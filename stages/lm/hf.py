"""Names and config of `Qwen3ForCausalLM`, so that a decoder loads in transformers with no code of its own."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from stages.base.errors import InputError, ParamError
from stages.base.files import read_json
from stages.lm.config import ModelConfig
from stages.lm.device import device
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


def from_hf_config(values: dict[str, Any]) -> ModelConfig:
    """Undo `hf_config`. Raises KeyError, TypeError, ValueError or ParamError for what isn't one of our exports."""
    if values["model_type"] != "qwen3" or values["attention_bias"] or values["use_sliding_window"]:
        raise ValueError("not a plain Qwen3")
    config = ModelConfig(
        arch="transformer",
        vocab_size=values["vocab_size"],
        n_layer=values["num_hidden_layers"],
        d_model=values["hidden_size"],
        n_head=values["num_attention_heads"],
        n_kv_head=values["num_key_value_heads"],
        d_ff=values["intermediate_size"],
        max_seq_len=values["max_position_embeddings"],
        rope_theta=float(values["rope_theta"]),
        tie_embeddings=values["tie_word_embeddings"],
        qk_norm=True,
        norm_eps=values["rms_norm_eps"],
    )
    if values["head_dim"] != config.head_dim:
        raise ValueError(f"head_dim {values['head_dim']} isn't hidden_size / num_attention_heads")
    return config


def from_hf_state_dict(tensors: dict[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Undo `to_hf_state_dict`: our names, with the matrices fused again. Raises KeyError for a missing weight."""
    out = {}
    for name in Decoder(config).state_dict():
        if name.endswith("qkv_proj.weight"):
            out[name] = torch.cat([tensors[f"model.{name.replace('qkv_proj', f'{part}_proj')}"] for part in "qkv"])
        elif name.endswith("gate_up_proj.weight"):
            parts = [tensors[f"model.{name.replace('gate_up_proj', f'{part}_proj')}"] for part in ("gate", "up")]
            out[name] = torch.cat(parts)
        elif name.endswith(("q_norm", "k_norm")):
            out[name] = tensors[f"model.{name}.weight"]
        else:
            out[name] = tensors[name if name.startswith("lm_head") else f"model.{name}"]
    return out


def load_hf_model(folder: Path) -> Decoder:
    """The model of a folder that `publishing.export` wrote, in eval mode, on the chosen device. `InputError` for a
    folder of another architecture: serve that one, and name its server.
    """
    try:
        config = from_hf_config(read_json(folder / "config.json"))
        model = Decoder(config)
        model.load_state_dict(from_hf_state_dict(load_file(folder / "model.safetensors"), config))
    except (KeyError, TypeError, ValueError, ParamError, RuntimeError, SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{folder}: not a folder that `publishing.export` wrote ({type(error).__name__}: {reason}); serve other "
            "models with vLLM, Ollama or llama.cpp, and name the server as an `endpoint`"
        ) from None
    return model.to(device()).eval()
