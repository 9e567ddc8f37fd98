"""A model of somebody else's as a folder of `data/models/`: `python -m stages.pretraining.imported <key>`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.base.errors import InputError
from stages.base.files import read_json, write_json
from stages.base.params import Section
from stages.base.record import stage

if TYPE_CHECKING:
    from stages.lm.chat import ChatTokenizer
    from stages.lm.config import ModelConfig


class ImportedParams(Section):
    path: str
    """Hugging Face folder on this machine: config.json, safetensors, tokenizer.json, tokenizer_config.json."""


PARAMS: dict[str, type[Section]] = {"models.import.*": ImportedParams}


def check_source(source: Path) -> None:
    """Raises the InputError that `bring_in` would; of large models, values of the weights are looked at there alone."""
    from stages.lm.hf import sampling_of
    from stages.lm.hf_weights import check_weights

    config, _ = _read(source)
    sampling_of(source)
    check_weights(source, config)


def _read(source: Path) -> tuple["ModelConfig", "ChatTokenizer"]:
    """Config and tokenizer. InputError for what can't be read, and a tokenizer that has more tokens than the model."""
    from stages.lm.chat import load_tokenizer
    from stages.lm.hf import read_config

    config = read_config(source)
    if "auto_map" in read_json(source / "config.json"):
        raise InputError(
            f"{source}/config.json: `auto_map` names code of its own, which is never run; remove it if unused"
        )
    template = source / "tokenizer_config.json"
    said = read_json(template) if template.is_file() else {}
    if not isinstance(said, dict):
        raise InputError(f"{template}: not a JSON object; save the tokenizer again")
    named = said.get("chat_template")
    texts = (
        [one.get("template") if isinstance(one, dict) else None for one in named]
        if isinstance(named, list)
        else [named]
    )
    if named is not None and not all(isinstance(text, str) for text in texts):
        raise InputError(f"{template}: `chat_template` is no text; mend it, or remove it for a plain one")
    tokenizer = load_tokenizer(source)
    tokenizer.check_template()
    if tokenizer.vocab_size > config.vocab_size:
        raise InputError(
            f"{source}: the tokenizer has {tokenizer.vocab_size} tokens, the model {config.vocab_size} rows for them; "
            "bring the tokenizer that it was trained with"
        )
    return config, tokenizer


def bring_in(source: Path, folder: Path) -> dict[str, Any]:
    """Write the model of `source` into `folder`, and say what it is.

    Weights stay in their dtype, in one file; config and tokenizer are written anew from what was understood of them, so
    that nothing else comes along. InputError for what can't be read (`hf`, `hf_weights`, `chat`) and a tokenizer that
    has more tokens than the model.
    """
    from stages.lm.chat import PLAIN
    from stages.lm.hf import generation_config, hf_config, sampling_of
    from stages.lm.hf_weights import check_weights, read_weights, write_weights

    config, tokenizer = _read(source)
    sampling = sampling_of(source)
    check_weights(source, config)
    weights = read_weights(source, config)
    dtype = str(next(iter(weights.values())).dtype).removeprefix("torch.")
    write_weights(folder, weights)
    write_json(folder / "config.json", hf_config(config, tokenizer, dtype))
    tokenizer.save(folder, config.max_seq_len)
    write_json(folder / "generation_config.json", generation_config(config, tokenizer) | sampling)
    return {
        "n_params": config.param_count(),
        "vocab_size": config.vocab_size,
        "max_seq_len": config.max_seq_len,
        "dtype": dtype,
        "chat_template": "plain" if tokenizer.template.source == PLAIN else "own",
    }


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python -m stages.pretraining.imported <key of models.import>")
    key = sys.argv[1]
    with stage("pretraining.imported", ImportedParams, item=key, section=f"models.import.{key}") as run:
        run.write_json("metrics.json", bring_in(run.input(run.params.path), run.model_folder(key)))


if __name__ == "__main__":
    main()
