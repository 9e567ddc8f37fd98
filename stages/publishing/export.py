"""publishing.export@checkpoint: a Hugging Face folder for transformers, lm-evaluation-harness and vLLM."""

import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

from stages.base.errors import ParamError
from stages.base.files import write_json
from stages.base.params import Section
from stages.base.record import stage
from stages.lm.chat import BOS, END, PAD, TEMPLATE, load_tokenizer, special_ids
from stages.lm.checkpoint import load_model
from stages.lm.hf import hf_config, to_hf_state_dict
from stages.lm.transformer import Decoder

TOKENIZER = "data/tokens/tokenizer"


class ExportParams(Section):
    max_new_tokens: int  # of generation_config.json
    temperature: float  # 0 is greedy
    top_p: float


class ExportedCheckpoint(Section):
    path: str  # a model folder


PARAMS: dict[str, type[Section]] = {
    "publishing.export": ExportParams,
    "publishing.checkpoints.*": ExportedCheckpoint,
}


def tokenizer_config(tokenizer: Tokenizer, max_length: int) -> dict[str, Any]:
    """`tokenizer_config.json`: specials and the chat template, so that `apply_chat_template` gives our chat format."""
    added = sorted(tokenizer.get_added_tokens_decoder().items())
    specials = [token.content for _, token in added if token.special]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": END,
        "pad_token": PAD,
        "additional_special_tokens": [token for token in specials if token not in (BOS, END, PAD)],
        "chat_template": TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "model_max_length": max_length,
        "padding_side": "left",
    }


def generation_config(params: ExportParams, ids: dict[str, int]) -> dict[str, Any]:
    sampling = {"do_sample": True, "temperature": params.temperature, "top_p": params.top_p}
    return {
        "bos_token_id": ids[BOS],
        "eos_token_id": [ids[END], ids[BOS]],  # a base model ends a document with the next one's beginning
        "pad_token_id": ids[PAD],
        "max_new_tokens": params.max_new_tokens,
        **(sampling if params.temperature > 0 else {"do_sample": False}),
    }


def to_bytes_identical(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Contiguous fp32 copies in name order: safetensors writes them in the same place every time."""
    return {name: tensors[name].contiguous().clone() for name in sorted(tensors)}


def write_folder(folder: Path, model: Decoder, tokenizer: Path, params: ExportParams) -> None:
    """What transformers, lm-evaluation-harness and vLLM load, written into `folder`; `tokenizer` has tokenizer.json."""
    made = load_tokenizer(tokenizer)
    ids = special_ids(made)
    config = hf_config(model.config, bos_token_id=ids[BOS], eos_token_id=ids[END], pad_token_id=ids[PAD])
    folder.mkdir(parents=True, exist_ok=True)
    save_file(to_bytes_identical(to_hf_state_dict(model)), folder / "model.safetensors", metadata={"format": "pt"})
    write_json(folder / "config.json", config)
    write_json(folder / "generation_config.json", generation_config(params, ids))
    write_json(folder / "tokenizer_config.json", tokenizer_config(made, model.config.max_seq_len))
    (folder / "tokenizer.json").write_bytes((tokenizer / "tokenizer.json").read_bytes())


def main(key: str) -> None:
    with stage("publishing.export", ExportParams, item=key) as run:
        source = run.section(f"publishing.checkpoints.{key}", ExportedCheckpoint).path
        run.input(source)
        model = load_model(source)
        if not isinstance(model, Decoder):
            raise ParamError(
                f"publishing.checkpoints.{key}: {source} is no Transformer; only a decoder exports as Qwen3"
            )
        write_folder(run.output("config.json").parent, model, run.input(TOKENIZER), run.params)
        run.note("parameters", sum(tensor.numel() for tensor in to_hf_state_dict(model).values()))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m stages.publishing.export <key of publishing.checkpoints>")
    main(sys.argv[1])
