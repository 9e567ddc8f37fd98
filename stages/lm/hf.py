"""A model's config as Hugging Face's folders hold it, of the families in `FAMILIES`; weights are in `hf_weights`.
transformers loads what is written here, and what it writes is read. Whatever a config says is honoured, or refused by
name.
"""

from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from stages.base.errors import InputError, ParamError
from stages.base.files import read_json
from stages.lm.chat import ChatTokenizer
from stages.lm.config import ModelConfig
from stages.lm.rotary import scaling_of

MOST_LAYERS = 1 << 14
MAY_BE_ZERO = ("mscale", "mscale_all_dim")  # of YaRN: 0 is as if they weren't there
LSTM = "trainyard_lstm"  # the model_type of a folder that only we read
# What is kept of a foreign config of generation, and the values that it may have.
SAMPLING: dict[str, Callable[[Any], bool]] = {
    "do_sample": lambda value: type(value) is bool,
    "temperature": lambda value: _number(value) and 0 <= value < 3e38,
    "top_p": lambda value: _number(value) and 0 < value <= 1,
    "top_k": lambda value: type(value) is int and value >= 0,
}
FAMILIES = {
    "qwen3": "Qwen3ForCausalLM",
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "mistral": "MistralForCausalLM",
    "smollm3": "SmolLM3ForCausalLM",
}
ACTIVATIONS = {  # theirs → ours
    "silu": "silu", "swish": "silu", "gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}  # fmt: skip
READ = {
    "model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "hidden_act", "max_position_embeddings", "rms_norm_eps", "rope_theta",
    "rope_scaling", "rope_parameters", "tie_word_embeddings", "attention_bias", "mlp_bias", "use_sliding_window",
    "sliding_window", "layer_types", "max_window_layers", "no_rope_layers", "no_rope_layer_interval",
}  # fmt: skip
# Of what else a config may say: nothing of it changes what the model computes.
HARMLESS = {
    "architectures", "auto_map", "bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "sep_token_id",
    "decoder_start_token_id", "dtype", "torch_dtype", "transformers_version", "use_cache", "initializer_range",
    "attention_dropout", "hidden_dropout", "resid_pdrop", "embd_pdrop", "pretraining_tp",
    "name_or_path", "is_llama_config", "transformers.js_config", "torchscript",
    "return_dict", "output_hidden_states", "output_attentions", "use_bfloat16", "chunk_size_feed_forward",
    "is_encoder_decoder", "is_decoder", "id2label", "label2id", "num_labels", "problem_type", "tokenizer_class",
    "gradient_checkpointing", "task_specific_params", "model_max_length", "tokenizer_model_max_length",
    "max_new_tokens", "max_length", "temperature", "top_p", "top_k", "do_sample", "num_return_sequences",
}  # fmt: skip
# Of others the values at which a decoder is ours.
PLAIN: dict[str, tuple[Any, ...]] = {
    "partial_rotary_factor": (1.0, None),
    "rope_interleaved": (False, None),
    "quantization_config": (None,),
    "tie_encoder_decoder": (False, None),
    "add_cross_attention": (False, None),
    "cross_attention_hidden_size": (None,),
    "pruned_heads": ({}, None),
    "use_mrope": (False, None),
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
    family = config.family or ("qwen3" if config.qk_norm else "llama")
    theirs = {ours: name for name, ours in reversed(ACTIVATIONS.items())}
    scaling = {"rope_type": "default"}
    if config.rope_scaling is not None:
        scaling = {"rope_type" if key == "type" else key: value for key, value in config.rope_scaling.items()}
    own: dict[str, Any] = {"attention_bias": config.out_bias} if family in ("qwen3", "llama", "smollm3") else {}
    if family in ("llama", "smollm3"):
        own["mlp_bias"] = config.mlp_bias
    if family in ("qwen3", "qwen2", "smollm3"):
        own["use_sliding_window"] = False
    if family == "mistral":
        own["sliding_window"] = None
    if family == "smollm3":
        own["no_rope_layers"] = [int(layer not in config.unrotated) for layer in range(config.n_layer)]
    return {
        "architectures": [FAMILIES[family]],
        "model_type": family,
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ff,
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.n_kv_head,
        "head_dim": config.head_dim,
        "hidden_act": theirs[config.activation],
        "max_position_embeddings": config.max_seq_len,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_parameters": {**scaling, "rope_theta": config.rope_theta},
        **({"rope_scaling": scaling} if config.rope_scaling is not None else {}),
        "tie_word_embeddings": config.tie_embeddings,
        "attention_dropout": 0.0,
        **own,
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
    if not isinstance(values, dict):
        raise InputError(f"{path}: not a JSON object; name a folder that transformers loads")
    try:
        return _config(values)
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, ParamError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:300]
        raise InputError(f"{path}: {reason}; of other models, serve one and name its server as an `endpoint`") from None


def _config(values: dict[str, Any]) -> ModelConfig:
    family = values["model_type"]
    if family == LSTM:
        return ModelConfig.from_dict({field.name: values[field.name] for field in fields(ModelConfig)})
    if family not in FAMILIES:
        named = ", ".join(map(str, values.get("architectures") or [])) or "no architecture named"
        raise ValueError(f"model_type {family!r} ({named}) is none of {', '.join(FAMILIES)}")
    for name, value in values.items():
        if name in PLAIN and value not in PLAIN[name]:
            raise ValueError(f"{name} {value!r} is not read, only {PLAIN[name][0]!r}")
        if name not in {*PLAIN, *READ, *HARMLESS} and not name.startswith("_"):  # those are transformers' own notes
            raise ValueError(f"{name} is not understood, and may change what the model computes")
    for name in ("num_attention_heads", "hidden_size", "num_hidden_layers", "max_position_embeddings"):
        if type(values[name]) is not int or values[name] < 1:
            raise ValueError(f"{name} {values[name]!r:.40} is no positive integer")
    if not _positive(values["rms_norm_eps"]):
        raise ValueError(f"rms_norm_eps {values['rms_norm_eps']!r:.40} is no positive number")
    heads, width, longest = values["num_attention_heads"], values["hidden_size"], values["max_position_embeddings"]
    groups, tied = values.get("num_key_value_heads"), values.get("tie_word_embeddings", family == "smollm3")
    if tied is not None and type(tied) is not bool:
        raise ValueError(f"tie_word_embeddings {tied!r:.40} is neither true nor false")
    activation = values.get("hidden_act", "silu")
    if activation not in ACTIVATIONS:
        raise ValueError(f"hidden_act {activation!r} is not read, only {', '.join(ACTIVATIONS)}")
    theta, scaling = _rope(values, longest)
    window = _window(values, family)
    biased = _flag(values, "attention_bias", family in ("qwen3", "llama", "smollm3"))
    return ModelConfig(
        arch="transformer",
        vocab_size=values["vocab_size"],
        n_layer=values["num_hidden_layers"],
        d_model=width,
        n_head=heads,
        n_kv_head=heads if groups is None else groups,
        d_ff=values["intermediate_size"],
        # Up to its window's length, attention within a window is plain attention: that is the context here.
        max_seq_len=longest if window is None else min(longest, window),
        rope_theta=theta,
        tie_embeddings=bool(tied),
        qk_norm=family == "qwen3",
        norm_eps=values["rms_norm_eps"],
        head_dim=values.get("head_dim") or (128 if family == "qwen3" else width // heads),
        activation=ACTIVATIONS[activation],
        family="" if family in ("qwen3", "llama") else family,
        qkv_bias=biased or family == "qwen2",
        out_bias=biased,
        mlp_bias=_flag(values, "mlp_bias", family in ("llama", "smollm3")),
        rope_scaling=scaling,
        unrotated=_unrotated(values) if family == "smollm3" else (),
    )


def _flag(values: dict[str, Any], name: str, known: bool) -> bool:
    """A switch that the family has or, not `known`, must not have on."""
    value = values.get(name) or False
    if value is not False and not (known and value is True):
        raise ValueError(f"{name} {value!r} is not read for model_type {values['model_type']!r}")
    return value


def _rope(values: dict[str, Any], longest: int) -> tuple[float, dict[str, Any] | None]:
    """Base and scaling of the rotary positions, as transformers 4 (`rope_theta`, `rope_scaling`) or 5 writes them."""
    said = values.get("rope_scaling") or values.get("rope_parameters") or {}
    if any(isinstance(value, dict) for value in said.values()):
        raise ValueError("rope_parameters for each kind of layer are not read")
    both = values.get("rope_parameters") or {}
    named = (both.get("rope_theta"), values.get("rope_theta"), 10000.0)
    theta = next(value for value in named if value is not None)
    if not _positive(theta) or theta <= 1:
        raise ValueError(f"rope_theta {theta!r:.40} is no number above 1")
    scaling = scaling_of(said, longest)
    for key, value in (scaling or {}).items():
        if key not in ("type", "truncate") and not _positive(value) and not (key in MAY_BE_ZERO and value == 0):
            raise ValueError(f"rope_parameters.{key} {value!r:.40} is no positive number")
    if (
        scaling is not None
        and scaling["type"] == "llama3"
        and scaling["high_freq_factor"] <= scaling["low_freq_factor"]
    ):
        raise ValueError("rope_parameters.high_freq_factor must be above low_freq_factor")
    if values.get("rope_scaling") and both and scaling != scaling_of(both, longest):
        raise ValueError("rope_scaling and rope_parameters say different things")
    return float(theta), scaling


def _positive(value: Any) -> bool:
    """Whether it is a number that float32 holds, above 0; true and NaN are none."""
    return _number(value) and 0 < value < 3e38


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and type(value) is not bool


def _window(values: dict[str, Any], family: str) -> int | None:
    """The sliding window of some layer; None where all see everything."""
    kinds, layers = values.get("layer_types"), values["num_hidden_layers"]
    if kinds is not None and (not isinstance(kinds, list) or len(kinds) != layers):
        raise ValueError(f"layer_types must be a list of {layers} names, as many as num_hidden_layers")
    if unknown := set(kinds or []) - {"full_attention", "sliding_attention"}:
        raise ValueError(f"layer_types {sorted(unknown)[0]!r} is not read")
    slides = values.get("use_sliding_window", False) if family != "mistral" else True
    if family == "llama" and kinds is None:
        slides = False
    window = values.get("sliding_window", 4096 if family == "mistral" else None)
    if not slides or (kinds is not None and "sliding_attention" not in kinds) or window is None:
        if kinds is not None and "sliding_attention" in kinds:
            raise ValueError("layer_types name sliding_attention, but there is no sliding_window in use")
        return None
    if type(window) is not int or window < 1:
        raise ValueError(f"sliding_window {window!r} is not read")
    return window


def _unrotated(values: dict[str, Any]) -> tuple[int, ...]:
    """SmolLM3's layers without positions: those with a 0 in `no_rope_layers`, else every fourth, or as it says."""
    layers, marks = values["num_hidden_layers"], values.get("no_rope_layers")
    if layers > MOST_LAYERS:
        raise ValueError(f"num_hidden_layers {layers} is more than {MOST_LAYERS}")
    if marks is None:
        every = values.get("no_rope_layer_interval", 4)
        if type(every) is not int or every < 1:
            raise ValueError(f"no_rope_layer_interval {every!r:.40} is no positive integer")
        return tuple(layer for layer in range(layers) if (layer + 1) % every == 0)
    if not isinstance(marks, list) or len(marks) != layers or not all(mark in (0, 1) for mark in marks):
        raise ValueError(f"no_rope_layers must be {layers} of 0 and 1")
    return tuple(layer for layer, mark in enumerate(marks) if not mark)


def generation_config(config: ModelConfig, tokenizer: ChatTokenizer) -> dict[str, Any]:
    """`generation_config.json`: greedy, and ending where an answer does.

    No `max_new_tokens`: in transformers 5 it would outrank the length that a caller such as lm-eval asks for.
    """
    return {
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.stop_ids,
        "pad_token_id": tokenizer.pad_id,
        "do_sample": False,
    }


def sampling_of(folder: Path) -> dict[str, Any]:
    """How a foreign folder's model is to be sampled from: what its `generation_config.json` says under SAMPLING.

    InputError for a file that can't be read, and for a value that nothing can be sampled by."""
    path = folder / "generation_config.json"
    values = read_json(path) if path.is_file() else {}
    if not isinstance(values, dict):
        raise InputError(f"{path}: not a JSON object; mend it, or remove it")
    said = {name: values[name] for name in SAMPLING if values.get(name) is not None}
    for name, value in said.items():
        if not SAMPLING[name](value):
            raise InputError(f"{path}: {name} {value!r:.40} is no value that can be sampled by; mend it, or remove it")
    return said
