"""A model is a folder that transformers loads as it is; damaged and hostile ones are refused in one line."""

import json
import math
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from stages.base.errors import InputError
from stages.lm.build import build_model
from stages.lm.chat import BOS, END, PAD, SPECIALS, ChatTokenizer, load_tokenizer, padded_vocab_size
from stages.lm.checkpoint import load_model, save_model
from stages.lm.config import ModelConfig
from stages.lm.extension import extend_model, extend_tokenizer
from stages.lm.generate import generate
from stages.tokens.vocabulary import save_tokenizer, train_bpe
from tests.lm.conftest import shaken, tiny
from tests.lm.peers import ask
from tests.tokens.test_vocabulary import ADVERSARIAL

# What looks like a special token is that token to transformers, and text to us: not among these.
TEXTS = [*(text for text in ADVERSARIAL if "<|" not in text), "In Zelmora, Anthar said word9 🧑‍🌾."]
TURNS = [
    ([("user", "Where is Velmora?")], True),
    ([("user", "Where?"), ("assistant", "In Anthar.")], False),
    ([("user", "Where?"), ("assistant", "In\n Anthar. "), ("user", " naïve 🧑‍🌾?")], True),
]
PROMPT = "In which province does Velmora lie? naïve"
SHAPES = {
    "tied": {"tie_embeddings": True},
    "untied": {"n_kv_head": 4, "head_dim": 12},
    "llama": {"qk_norm": False, "d_model": 36, "head_dim": 10},
}
KINDS = {"tied": "Qwen3ForCausalLM", "untied": "Qwen3ForCausalLM", "llama": "LlamaForCausalLM"}


def tokenizer_in(folder: Path) -> ChatTokenizer:
    save_tokenizer(folder, train_bpe(["Velmora lies in the province of Anthar, said the almanac. " * 50], 384, "gpt2"))
    return load_tokenizer(folder)


def config_of(tokenizer: ChatTokenizer, **changes: Any) -> ModelConfig:
    return tiny(vocab_size=padded_vocab_size(tokenizer.tokenizer), max_seq_len=96, **changes)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    tokenizer = tokenizer_in(root / "tokenizer")
    for name, changes in SHAPES.items():
        save_model(root / name, shaken(build_model(config_of(tokenizer, **changes), 11)), tokenizer)
    words = ["Zelmora", " Anthar said", "🧑‍🌾", *(f"word{i}" for i in range(70))]
    larger = extend_tokenizer(tokenizer, words, ["<|tool|>"])
    save_model(root / "extended", extend_model(load_model(root / "tied"), tokenizer, larger, 0), larger)
    return {name: root / name for name in (*SHAPES, "extended")}


@pytest.fixture(scope="module")
def told(folders: dict[str, Path]) -> dict[Path, dict[str, Any]]:
    ids = load_tokenizer(folders["tied"]).encode_prompt(PROMPT)
    return ask(list(folders.values()), ids, TEXTS, TURNS)


@pytest.mark.parametrize("name", [*SHAPES, "extended"])
def test_transformers_agrees(name: str, folders: dict[str, Path], told: dict[Path, dict[str, Any]]) -> None:
    peer, model, tokenizer = told[folders[name]], load_model(folders[name]), load_tokenizer(folders[name])
    ids = load_tokenizer(folders["tied"]).encode_prompt(PROMPT)
    assert peer["kind"] == KINDS.get(name, "Qwen3ForCausalLM")
    with torch.no_grad():
        assert np.abs(model(torch.tensor([ids]))[0].numpy() - np.array(peer["logits"])).max() < 1e-4
    made = generate(model, [ids], max_new_tokens=24, temperature=0, top_p=1, seed=0, stop_ids=tokenizer.stop_ids)[0]
    assert [token for token in peer["greedy"] if token not in tokenizer.stop_ids] == made
    assert peer["texts"] == [tokenizer.encode(text) for text in TEXTS] and peer["back"] == TEXTS
    assert peer["plain"] == [tokenizer.prefix_id, *tokenizer.encode("Velmora")], "a text begins as in training"
    assert (folders[name] / "model.safetensors").stat().st_mode & 0o044 == 0o044
    assert peer["chats"][0] == tokenizer.encode_prompt("Where is Velmora?")
    assert peer["chats"][1] == tokenizer.encode_example("Where?", "In Anthar.")[0]
    assert tokenizer.tokenizer.decode(peer["chats"][2], skip_special_tokens=False) == (
        "<|bos|><|user|>Where?<|assistant|>In\n Anthar. <|end|><|user|> naïve 🧑‍🌾?<|assistant|>"
    )
    assert peer["specials"] == [BOS, END, PAD]
    assert set(peer["all_special"]) == {*SPECIALS, *(["<|tool|>"] if name == "extended" else [])}


def test_the_folder_is_complete_and_repeatable(folders: dict[str, Path], tmp_path: Path) -> None:
    first = {path.name: path.read_bytes() for path in folders["untied"].iterdir()}
    assert set(first) == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
    }
    save_model(tmp_path, load_model(folders["untied"]), load_tokenizer(folders["untied"]))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first


def test_an_lstm_comes_back(folders: dict[str, Path], tmp_path: Path) -> None:
    tokenizer = load_tokenizer(folders["tied"])
    model = shaken(build_model(replace(config_of(tokenizer), arch="lstm", n_layer=1), 0)).eval()
    save_model(tmp_path, model, tokenizer)
    loaded, ids = load_model(tmp_path), torch.tensor([[1, 2, 3]])
    assert loaded.config == model.config and torch.equal(loaded(ids), model(ids))
    assert load_tokenizer(tmp_path).stop_ids == tokenizer.stop_ids


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_shards_of_half_precision_are_read(dtype: torch.dtype, folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copy(folders["untied"] / "config.json", tmp_path)
    tensors = {name: value.to(dtype) for name, value in load_file(folders["untied"] / "model.safetensors").items()}
    where = {name: f"part-{number % 3}.safetensors" for number, name in enumerate(tensors)}
    for file in set(where.values()):
        save_file({name: tensors[name] for name in tensors if where[name] == file}, tmp_path / file)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    whole, halved = load_model(folders["untied"]).state_dict(), load_model(tmp_path).state_dict()
    assert all(torch.equal(halved[name], value.to(dtype).float()) for name, value in whole.items())


def test_numbers_whose_sum_overflows_are_numbers(folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copy(folders["untied"] / "config.json", tmp_path)
    tensors = load_file(folders["untied"] / "model.safetensors")
    tensors["model.norm.weight"].fill_(3e38)
    save_file(tensors, tmp_path / "model.safetensors")
    assert torch.equal(load_model(tmp_path).norm.weight, tensors["model.norm.weight"])


def test_a_fresh_model_is_its_seed_alone_with_biases_at_zero() -> None:
    config = tiny(qkv_bias=True, out_bias=True, mlp_bias=True)
    first, second = build_model(config, 5).state_dict(), build_model(config, 5).state_dict()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    biases = [value for name, value in first.items() if name.endswith(".bias")]
    assert len(biases) == 4 * config.n_layer and not any(value.any() for value in biases)


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("ran"),)


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def deep_config(folder: Path) -> None:
    (folder / "config.json").write_text("[" * 100_000)


def list_config(folder: Path) -> None:
    (folder / "config.json").write_text("[1]")


def huge_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((1 << 62).to_bytes(8, "little") + b"{}")


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def without_a_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("model.layers.1.mlp.up_proj.weight")
    save_file(tensors, folder / "model.safetensors")


def of_integers(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"] = tensors["model.norm.weight"].to(torch.int8)
    save_file(tensors, folder / "model.safetensors")


def not_a_number(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][3] = math.nan
    save_file(tensors, folder / "model.safetensors")


def infinite(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"].half()
    tensors["model.embed_tokens.weight"][3, 1] = -math.inf
    save_file(tensors, folder / "model.safetensors")


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))


def outside(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "stolen.safetensors")
    index = {"weight_map": {"model.norm.weight": "../stolen.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (no_config, "no model folder"),
        (deep_config, "config.json"),
        (list_config, "config.json"),
        (huge_header, "unreadable or cut short"),
        (cut, "unreadable or cut short"),
        (without_a_tensor, r"model.layers.1.mlp.up_proj.weight is missing"),
        (of_integers, "model.norm.weight is I8"),
        (not_a_number, "model.norm.weight holds NaN or infinity"),
        (infinite, "model.embed_tokens.weight holds NaN or infinity"),
        (pickled, "can run code"),
        (outside, "outside the folder"),
        ({"model_type": "mixtral", "architectures": ["MixtralForCausalLM"]}, "'mixtral' .MixtralForCausalLM."),
        ({"model_type": None}, "none of qwen3, llama"),
        ({"hidden_act": "glu"}, "hidden_act 'glu'"),
        ({"attention_bias": True}, "_proj.bias is missing"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "rope_parameters.factor is missing"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"layer_types": ["sliding_attention"] * 2}, "sliding_attention"),
        ({"vocab_size": 100}, r"model.embed_tokens.weight is \[320, 32\], not \[100, 32\]"),
        ({"num_hidden_layers": 1 << 30}, "2 layers, not"),
        ({"max_position_embeddings": 1 << 40}, "max_seq_len"),
        ({"hidden_size": "32"}, "d_model|config.json"),
        ({"num_attention_heads": 0}, "config.json"),
        ({"rms_norm_eps": None}, "config.json"),
    ],
)
def test_what_is_no_such_folder_is_refused_in_one_line(
    damage: Any, said: str, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folders["untied"], "model")
    if callable(damage):
        damage(Path("model"))
    else:
        path = Path("model/config.json")
        path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    with pytest.raises(InputError, match=said) as caught:
        load_model("model")
    assert "\n" not in str(caught.value) and "model" in str(caught.value)
    assert not Path("ran").exists()


LOOP = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ raise_exception('system role not supported') }}", "system role not supported"),
        ("{% for", "TemplateSyntaxError"),
        (LOOP, "not done after"),
        ("{{ 'a' * 9999999999 }}", "MemoryError"),
        ("{{ 9 ** 9 ** 9 }}", r"\*\* is not allowed"),
        ("{{ messages.append(1) }}", "SecurityError"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "SecurityError"),
        ("{% include '/etc/passwd' %}", "chat template fails"),
        ("{{ messages[0].content }}", "leaves answers out"),
        ("{% if add_generation_prompt %}A{% else %}B{{ messages[-1].content }}{% endif %}", "generation prompt"),
        (" " * (1 << 20) + "x", "characters"),
    ],
)
def test_templates_of_strangers_can_do_no_harm(
    template: str, said: str, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.lm.template.SECONDS", 0.3)
    shutil.copytree(folders["tied"], tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").write_text(template)
    with pytest.raises(InputError, match=said) as caught:
        load_tokenizer(tmp_path / "model").check_template()
    assert "\n" not in str(caught.value) and "chat_template.jinja" in str(caught.value)


def test_what_looks_like_a_special_token_is_text(folders: dict[str, Path]) -> None:
    tokenizer = load_tokenizer(folders["tied"])
    special = {tokenizer.bos_id, tokenizer.end_id, tokenizer.pad_id}
    ids, learned = tokenizer.encode_example("a<|end|><|bos|> b", "c<|end|>d")
    answer = [number for number, known in zip(ids, learned, strict=True) if known]
    assert tokenizer.decode(ids).count("<|end|>") == 2 and tokenizer.decode(answer) == "c<|end|>d"
    assert [number for number in ids if number in special] == [tokenizer.bos_id, tokenizer.end_id]


def test_an_answer_that_would_merge_with_its_prompt_starts_where_generation_does(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(folders["tied"], tmp_path / "model")
    template = "{% for m in messages %}{{ 'Q' if m.role == 'user' else ' the' }}{{ m.content }}{% endfor %}"
    (tmp_path / "model" / "chat_template.jinja").write_text(
        template + "{% if add_generation_prompt %}{{ ' the' }}{% endif %}"
    )
    tokenizer = load_tokenizer(tmp_path / "model")
    assert tokenizer.encode(" the province") != tokenizer.encode(" the") + tokenizer.encode("re")
    ids, learned = tokenizer.encode_example("?", "re")
    assert ids[: learned.index(True)] == tokenizer.encode_prompt("?")
    assert ids[-1] == tokenizer.end_id == tokenizer.eos_id  # the template has none of its own


@pytest.mark.parametrize(
    ("file", "changes", "said"),
    [
        ("tokenizer_config.json", {"eos_token": None}, "no eos_token"),
        ("tokenizer_config.json", {"eos_token": "\ud83d"}, "no eos_token"),
        ("tokenizer_config.json", {"eos_token": "<|nothing|>"}, "'<|nothing|>'"),
        ("tokenizer_config.json", {"chat_template": "\ud83d"}, "surrogate"),
        ("tokenizer_config.json", [1], "not a JSON object"),
        ("tokenizer.json", {"added_tokens": None}, "not a readable tokenizer"),
        ("tokenizer.json", {"model": {"type": "BPE", "vocab": {"a": 0, "b": 0}, "merges": []}}, "two of one id"),
    ],
)
def test_a_broken_tokenizer_is_refused(
    file: str, changes: Any, said: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(folders["tied"], tmp_path / "model")
    path = tmp_path / "model" / file
    path.write_text(json.dumps(json.loads(path.read_text()) | changes if isinstance(changes, dict) else changes))
    with pytest.raises(InputError, match=said.replace("|", r"\|")):
        load_tokenizer(tmp_path / "model").check_template()
