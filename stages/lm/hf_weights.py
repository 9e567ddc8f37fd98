"""The weights of a model folder, one file or several: written, checked and read under the names that transformers gives
them.
"""

import os
import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from stages.base.errors import InputError
from stages.base.files import atomic_path, read_json
from stages.lm.config import ModelConfig
from stages.lm.lstm import LSTMLanguageModel
from stages.lm.transformer import Decoder

DTYPES = ("F64", "F32", "F16", "BF16")
INDEX = "model.safetensors.index.json"
WEIGHTS = "model.safetensors"
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
UNUSED = re.compile(r"rotary_emb\.inv_freq$")  # of what a file may hold beside a model's weights
LOOKED_AT = 2 << 30  # bytes of weights whose values are looked at before any work


def write_weights(folder: Path, tensors: dict[str, Tensor]) -> None:
    """`model.safetensors`, in name order: the same tensors are the same bytes."""
    with atomic_path(folder / WEIGHTS) as temporary:
        save_file({name: tensors[name].contiguous() for name in sorted(tensors)}, temporary, metadata={"format": "pt"})
        temporary.chmod(0o666 & ~_umask())  # safetensors leaves it to its owner alone


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


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
    if "qkv_proj." in name:
        return [f"model.{name.replace('qkv', part)}" for part in "qkv"], [query, keys, keys]
    if "gate_up_proj." in name:
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
        _check_finite(folder, name, value)
    return tensors


def check_weights(folder: Path, config: ModelConfig) -> None:
    """Look at a folder of somebody else's before any work, a tensor at a time.

    InputError for a file that is missing, cut short or no safetensors; for a tensor that is missing, of another shape
    or quantised; for one that the config has no place for, in any file of the folder: without it it is another model;
    and for NaN or infinity, looked for in the first LOOKED_AT bytes of the weights: of larger models `read_weights`
    says the rest.
    """
    with ExitStack() as stack:
        opened = _opened(folder, config, stack)
        for path in sorted(folder.glob("*.safetensors")):
            _refuse_others(path, opened)
        looked_at = 0
        for name, file in opened.items():
            if looked_at > LOOKED_AT:
                break
            value = file.get_tensor(name)
            looked_at += value.nbytes
            _check_finite(folder, name, value)


def _check_finite(folder: Path, name: str, value: Tensor) -> None:
    if bool(torch.isfinite(value.sum())):
        return  # a sum of numbers alone; looking at each takes ten times as long, and is left for sums that overflow
    if not bool(torch.isfinite(value).all()):
        raise InputError(f"{folder}: {name} holds NaN or infinity; train the model again, or bring another copy")


def _refuse_others(path: Path, opened: dict[str, Any]) -> None:
    """InputError for a tensor of a file that the model, whose tensors are `opened`, has no place for."""
    try:
        with safe_open(path, framework="pt") as file:
            for name in sorted(set(file.keys()) - set(opened)):
                if not UNUSED.search(name) and not (name == HEAD and _is_embedding(file.get_tensor(HEAD), opened)):
                    raise InputError(f"{path}: config.json has no place for {name}; without it this is another model")
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: unreadable or cut short ({reason}); write it again, or remove it") from None


def _is_embedding(head: Tensor, opened: dict[str, Any]) -> bool:
    """Whether a head that the config doesn't have is the embedding once more."""
    embedding = opened[EMBEDDING].get_tensor(EMBEDDING) if EMBEDDING in opened else None
    return embedding is not None and head.shape == embedding.shape and bool((head == embedding).all())


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
    # Nor is it worth making a model whose sizes aren't those of the weights: they may be larger than any memory.
    if config.arch == "transformer":
        _same_shape(folder, where, EMBEDDING, [config.vocab_size, config.d_model])
        query = [config.n_head * config.head_dim, config.d_model]
        _same_shape(folder, where, "model.layers.0.self_attn.q_proj.weight", query)
        _same_shape(folder, where, "model.layers.0.mlp.up_proj.weight", [config.d_ff, config.d_model])
    wanted = to_hf_state_dict(_empty(config).state_dict(), config)
    for name, value in wanted.items():
        found = _same_shape(folder, where, name, list(value.shape))
        if found.get_dtype() not in DTYPES:
            raise _misfit(folder, f"{name} is {found.get_dtype()}, none of {', '.join(DTYPES)}")
    return {name: where[name] for name in wanted}


def _same_shape(folder: Path, where: dict[str, Any], name: str, shape: list[int]) -> Any:
    """The tensor's header. InputError where there is none, or one of another shape."""
    if name not in where:
        raise _misfit(folder, f"{name} is missing")
    found = where[name].get_slice(name)
    if found.get_shape() != shape:
        raise _misfit(folder, f"{name} is {found.get_shape()}, not {shape}")
    return found


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
