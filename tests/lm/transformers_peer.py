"""Run by the peers' Python, with transformers: `make <folder>` writes tiny random models, `families <folder>` one for
each family and variant, `ask <folder> …` prints what transformers says of model folders (JSON on standard output;
`{"ids": …, "texts": …, "turns": …}` on standard input), `again <folder> <other>` reads one and writes it to another.
"""

import json
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    Qwen3ForCausalLM,
    SmolLM3Config,
)

TEXT = "Velmora lies in the province of Anthar, said the almanac. The heron listens to the miller's song. "
# Qwen3's format, with its empty thinking part, a system message and the newline behind an answer's end.
CHATML = (
    "{{ '<|im_start|>system\\nYou help.<|im_end|>\\n' }}{% for message in messages %}\n"
    "{% if message.role == 'assistant' %}{{ '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' + message.content }}"
    "{% else %}{{ '<|im_start|>' + message.role + '\\n' + message.content | trim }}{% endif %}\n"
    "{{ '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}"
    "{% endif %}"
)


def tokenizer_of(template: str | None) -> PreTrainedTokenizerFast:
    """Byte-level BPE as Qwen's: no beginning of a text, an end of a text and of a turn."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    made.train_from_iterator(
        [TEXT] * 20, trainers.BpeTrainer(vocab_size=371, initial_alphabet=alphabet, special_tokens=specials)
    )
    made.add_tokens(["<think>", "</think>"])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<|im_end|>" if template else "<|endoftext|>", pad_token=None
    )
    tokenizer.chat_template = template
    return tokenizer


def make(root: Path) -> None:
    shape = {
        "hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 128, "head_dim": 12, "rope_theta": 50000.0,
        "initializer_range": 0.3,
    }  # fmt: skip
    kinds = {
        "qwen_tied": (Qwen3ForCausalLM, Qwen3Config(vocab_size=391, tie_word_embeddings=True, **shape), CHATML),
        "qwen_sharded": (Qwen3ForCausalLM, Qwen3Config(vocab_size=448, tie_word_embeddings=False, **shape), None),
        "llama": (LlamaForCausalLM, LlamaConfig(vocab_size=377, **shape), CHATML),
    }
    for name, (kind, config, template) in kinds.items():
        torch.manual_seed(len(name))
        model = kind(config)
        for parameter in model.parameters():
            if parameter.ndim == 1:  # norms begin at one, where a swapped name would go unseen
                parameter.data.uniform_(0.5, 1.5)
        dtype = {"qwen_tied": torch.bfloat16, "llama": torch.float16}.get(name, torch.float32)
        model.to(dtype).save_pretrained(root / name, max_shard_size="60KB" if name == "qwen_sharded" else "1GB")
        tokenizer_of(template).save_pretrained(root / name)


LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
SHARP = {**YARN, "beta_fast": 16, "beta_slow": 2, "attention_factor": 1.2}
SCALED = {**YARN, "mscale": 0.7, "mscale_all_dim": 1.3}
FAMILIES = {
    "llama": (LlamaConfig, {}, None),
    "llama_biases": (LlamaConfig, {"attention_bias": True, "mlp_bias": True, "head_dim": 16}, None),
    "llama_tied_gelu": (LlamaConfig, {"hidden_act": "gelu", "tie_word_embeddings": True}, None),
    "llama_tanh": (LlamaConfig, {"hidden_act": "gelu_pytorch_tanh"}, None),
    "llama_llama3": (LlamaConfig, {"head_dim": 16}, LLAMA3),
    "llama_linear": (LlamaConfig, {}, {"rope_type": "linear", "factor": 2.5}),
    "llama_yarn": (LlamaConfig, {"head_dim": 16}, YARN),
    "qwen2": (Qwen2Config, {}, None),
    "qwen2_tied": (Qwen2Config, {"tie_word_embeddings": True}, None),
    "qwen2_yarn": (Qwen2Config, {}, SHARP),
    "qwen3": (Qwen3Config, {"head_dim": 12}, None),
    "qwen3_biases": (Qwen3Config, {"head_dim": 16, "attention_bias": True}, None),
    "qwen3_yarn": (Qwen3Config, {"head_dim": 16}, SCALED),
    "mistral": (MistralConfig, {"sliding_window": None}, None),
    "mistral_window": (MistralConfig, {"sliding_window": 48, "head_dim": 16}, None),
    "smollm3": (SmolLM3Config, {"no_rope_layers": [1, 0, 1], "tie_word_embeddings": True}, None),
    "smollm3_interval": (SmolLM3Config, {"no_rope_layer_interval": 3, "tie_word_embeddings": False}, YARN),
}


def families(root: Path) -> None:
    """Each as transformers 5 writes it, and with the config as 4 did (`<name>_v4`)."""
    shape = {
        "hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 128, "initializer_range": 0.3, "vocab_size": 391,
        "bos_token_id": None, "eos_token_id": 0, "pad_token_id": None,
    }  # fmt: skip
    for place, (name, (kind, values, scaling)) in enumerate(FAMILIES.items()):
        rope = {"rope_theta": 5000.0, **(scaling or {"rope_type": "default"})}
        torch.manual_seed(place)
        model = AutoModelForCausalLM.from_config(kind(**shape, **values, rope_parameters=rope), dtype=torch.float32)
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.data.uniform_(0.5, 1.5)
        for version in ("", "_v4"):
            folder = root / f"{name}{version}"
            model.save_pretrained(folder)
            tokenizer_of(CHATML).save_pretrained(folder)
        config = json.loads((folder / "config.json").read_text())
        said = config.pop("rope_parameters")
        config |= {"rope_theta": said.pop("rope_theta"), "torch_dtype": config.pop("dtype")}
        config["rope_scaling"] = said if scaling else None
        config.pop("layer_types", None)
        (folder / "config.json").write_text(json.dumps(config))


def again(folder: Path, other: Path) -> None:
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(other)
    AutoTokenizer.from_pretrained(folder).save_pretrained(other)


def ask(folder: Path, said: dict) -> dict:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def chat(turns: list[tuple[str, str]], prompt: bool) -> list[int] | None:
        messages = [{"role": role, "content": text} for role, text in turns]
        return tokenizer.apply_chat_template(
            messages, add_generation_prompt=prompt, enable_thinking=False, tokenize=True, return_dict=False
        )

    ids = torch.tensor([said["ids"]])
    with torch.no_grad():
        logits = model(ids).logits[0].tolist()
        greedy = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False)
    encoded = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in said["texts"]]
    return {
        "kind": type(model).__name__,
        "logits": logits,
        "greedy": greedy[0, len(said["ids"]) :].tolist(),
        "chats": [chat(turns, prompt) for turns, prompt in said["turns"]] if tokenizer.chat_template else None,
        "texts": encoded,
        "back": [tokenizer.decode(ids) for ids in encoded],
        "specials": [tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token],
        "all_special": tokenizer.all_special_tokens,
        "plain": tokenizer("Velmora")["input_ids"],
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]))
    elif sys.argv[1] == "families":
        families(Path(sys.argv[2]))
    elif sys.argv[1] == "again":
        again(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        asked = json.load(sys.stdin)
        print(json.dumps({folder: ask(Path(folder), asked) for folder in sys.argv[2:]}))
