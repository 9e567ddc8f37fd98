"""A model as Hugging Face's folders hold it: config and weights of `Qwen3ForCausalLM` and of `LlamaForCausalLM`, which
is the same without norms of queries and keys. transformers loads what is written here, and what it writes is read.
"""

from contextlib import ExitStack
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from stages.base.errors import InputError, ParamError
from stages.base.files import atomic_path, read_json
from stages.lm.chat import ChatTokenizer
from stages.lm.config import ModelConfig
from stages.lm.lstm import LSTMLanguageModel
from stages.lm.transformer import Decoder

LSTM = "trainyard_lstm"  # the model_type of a folder that only we read
DTYPES = ("F64", "F32", "F16", "BF16")
INDEX = "model.safetensors.index.json"
WEIGHTS = "model.safetensors"
# Fields that change what a decoder computes, and the values at which it is ours.
PLAIN: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "attention_bias": (False, None),
    "mlp_bias": (False, None),
    "use_sliding_window": (False, None),
    "rope_scaling": (None,),
    "partial_rotary_factor": (1.0, None),
    "quantization_config": (None,),
}


def hf_config(config: ModelConfig, tokenizer: ChatTokenizer | None = None, dtype: str = "float32") -> dict[str, Any]:
    """`config.json` of a model folder; token ids are null without a tokenizer."""
    ids = {
        "bos_token_id": tokenizer and tokenizer.bos_id,
        "eos_token_id": tokenizer and tokenizer.eos_id,
        "pad_token_id": tokenizer and tokenizer.pad_id,
    }
    if config.arch == "lstm":
        return asdict(config) | ids | {"model_type": LSTM, "architectures": ["LSTMLanguageModel"], "dtype": dtype}
    family = "qwen3" if config.qk_norm else "llama"
    return {
        "architectures": ["Qwen3ForCausalLM" if config.qk_norm else "LlamaForCausalLM"],
        "model_type": family,
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
        **({"use_sliding_window": False} if config.qk_norm else {"mlp_bias": False}),
        "initializer_range": 0.02,
        "dtype": dtype,
        "torch_dtype": dtype,
        "use_cache": True,
        **ids,
    }


def read_config(folder: Path) -> ModelConfig:
    """The shape of a model folder's model. InputError for a `config.json` that is missing, of another family, or of a
    member of these families that computes something else.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise InputError(f"{folder}: no model folder (it has no config.json); name one that transformers loads")
    values = read_json(path)
    try:
        return _config(values)
    except (KeyError, TypeError, ValueError, AttributeError, ParamError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:300]
        raise InputError(f"{path}: {reason}; of other models, serve one and name its server as an `endpoint`") from None


def _config(values: dict[str, Any]) -> ModelConfig:
    family = values["model_type"]
    if family == LSTM:
        return ModelConfig.from_dict({field.name: values[field.name] for field in fields(ModelConfig)})
    if family not in ("qwen3", "llama"):
        named = ", ".join(map(str, values.get("architectures") or [])) or "no architecture named"
        raise ValueError(f"model_type {family!r} ({named}) is none of qwen3, llama")
    for name, plain in PLAIN.items():
        if values.get(name, plain[0]) not in plain:
            raise ValueError(f"{name} {values[name]!r} is not read, only {plain[0]!r}")
    rope = values.get("rope_parameters") or {}
    if rope.get("rope_type", "default") != "default" or set(values.get("layer_types") or []) - {"full_attention"}:
        raise ValueError("scaled positions and sliding windows are not read")
    heads, width = values["num_attention_heads"], values["hidden_size"]
    return ModelConfig(
        arch="transformer",
        vocab_size=values["vocab_size"],
        n_layer=values["num_hidden_layers"],
        d_model=width,
        n_head=heads,
        n_kv_head=values.get("num_key_value_heads") or heads,
        d_ff=values["intermediate_size"],
        max_seq_len=values["max_position_embeddings"],
        rope_theta=float(rope.get("rope_theta") or values.get("rope_theta") or 10000.0),
        tie_embeddings=values.get("tie_word_embeddings", False),
        qk_norm=family == "qwen3",
        norm_eps=values["rms_norm_eps"],
        head_dim=values.get("head_dim") or (128 if family == "qwen3" else width // heads),
    )


def generation_config(config: ModelConfig, tokenizer: ChatTokenizer) -> dict[str, Any]:
    """`generation_config.json`: greedy, and ending where an answer does."""
    return {
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.stop_ids,
        "pad_token_id": tokenizer.pad_id,
        "max_new_tokens": min(256, config.max_seq_len // 2),
        "do_sample": False,
    }


def write_weights(folder: Path, tensors: dict[str, Tensor]) -> None:
    """`model.safetensors`, in name order: the same tensors are the same bytes."""
    with atomic_path(folder / WEIGHTS) as temporary:
        save_file({name: tensors[name].contiguous() for name in sorted(tensors)}, temporary, metadata={"format": "pt"})


def to_hf_state_dict(state: dict[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """A model's weights under their names in a folder, in name order; fused matrices split, as views."""
    out: dict[str, Tensor] = {}
    for name, value in state.items():
        names, rows = _parts(name, config)
        out |= dict(zip(names, value.split(rows) if rows else (value,), strict=True))
    return dict(sorted(out.items()))


def from_hf_state_dict(tensors: dict[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Undo `to_hf_state_dict`: our names, with the matrices fused again."""
    out = {}
    for name in _empty(config).state_dict():
        parts = [tensors[part] for part in _parts(name, config)[0]]
        out[name] = torch.cat(parts) if len(parts) > 1 else parts[0]
    return out


def _parts(name: str, config: ModelConfig) -> tuple[list[str], list[int]]:
    """The names under which a weight of ours stands in a folder; of a fused matrix, the rows of each."""
    if config.arch == "lstm" or name.startswith("lm_head"):
        return [name], []
    query, keys = config.n_head * config.head_dim, config.n_kv_head * config.head_dim
    if name.endswith("qkv_proj.weight"):
        return [f"model.{name.replace('qkv', part)}" for part in "qkv"], [query, keys, keys]
    if name.endswith("gate_up_proj.weight"):
        return [f"model.{name.replace('gate_up', part)}" for part in ("gate", "up")], [config.d_ff, config.d_ff]
    return [f"model.{name}.weight" if name.endswith(("q_norm", "k_norm")) else f"model.{name}"], []


def _empty(config: ModelConfig) -> Decoder | LSTMLanguageModel:
    """A model that takes no memory."""
    with torch.device("meta"):
        return Decoder(config) if config.arch == "transformer" else LSTMLanguageModel(config)


def read_weights(folder: Path, config: ModelConfig) -> dict[str, Tensor]:
    """The model's tensors as they are stored, by their names in the folder; others are left out.

    All names and shapes are checked before memory is taken for any. InputError for what `check_weights` refuses, and
    for NaN or infinity, with which a model scores like chance.
    """
    with ExitStack() as stack:
        tensors = {name: file.get_tensor(name) for name, file in _opened(folder, config, stack).items()}
    for name, value in tensors.items():
        if not bool(torch.isfinite(value).all()):
            raise InputError(f"{folder}: {name} holds NaN or infinity; train the model again, or bring another copy")
    return tensors


def check_weights(folder: Path, config: ModelConfig) -> None:
    """Read the headers alone. InputError for a file that is missing, cut short or no safetensors, and for a tensor that
    is missing, of another shape or quantised.
    """
    with ExitStack() as stack:
        _opened(folder, config, stack)


def _opened(folder: Path, config: ModelConfig, stack: ExitStack) -> dict[str, Any]:
    """The open file that holds each tensor of the model, by its name in the folder."""
    where: dict[str, Any] = {}
    for path in _files(folder):
        try:
            opened = stack.enter_context(safe_open(path, framework="pt"))
        except (SafetensorError, OSError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{path}: unreadable or cut short ({reason}); write it again") from None
        where |= dict.fromkeys(opened.keys(), opened)
    # As many layers as the config says, or it isn't worth making their names.
    layers = {name.split(".")[2] for name in where if name.startswith("model.layers.")}
    if config.arch == "transformer" and config.n_layer > len(layers):
        raise _misfit(folder, f"{len(layers)} layers, not {config.n_layer}")
    wanted = to_hf_state_dict(_empty(config).state_dict(), config)
    for name, value in wanted.items():
        if name not in where:
            raise _misfit(folder, f"{name} is missing")
        found = where[name].get_slice(name)
        if found.get_shape() != list(value.shape):
            raise _misfit(folder, f"{name} is {found.get_shape()}, not {list(value.shape)}")
        if found.get_dtype() not in DTYPES:
            raise _misfit(folder, f"{name} is {found.get_dtype()}, none of {', '.join(DTYPES)}")
    return {name: where[name] for name in wanted}


def _misfit(folder: Path, reason: str) -> InputError:
    return InputError(f"{folder}: the weights do not fit config.json: {reason}; write the folder again")


def _files(folder: Path) -> list[Path]:
    """The files with the weights: one, or the shards that an index names."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if not (folder / INDEX).is_file():
        pickles = "; pickled weights (.bin) can run code and are not read: save it as safetensors"
        raise InputError(
            f"{folder / WEIGHTS}: not found{pickles if list(folder.glob('*.bin')) else '; write it again'}"
        )
    try:
        names = sorted(set(read_json(folder / INDEX)["weight_map"].values()))
        if not all(Path(name).name == name for name in names):
            raise ValueError("a file outside the folder")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{folder / INDEX}: no index of weights ({error}); write it again") from None
    return [folder / name for name in names]
