"""Models of other families, as transformers 4 and 5 write them: the same logits and tokens, or refused by name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from stages.base.errors import InputError
from stages.lm.chat import load_tokenizer
from stages.lm.checkpoint import load_model, save_model
from stages.lm.generate import generate
from stages.lm.hf import read_config
from stages.pretraining.imported import bring_in
from tests.lm.peers import ask, peer

NAMES = [
    "llama", "llama_biases", "llama_tied_gelu", "llama_tanh", "llama_llama3", "llama_linear", "llama_yarn", "qwen2",
    "qwen2_tied", "qwen2_yarn", "qwen3", "qwen3_biases", "qwen3_yarn", "mistral", "mistral_window", "smollm3",
    "smollm3_interval",
]  # fmt: skip
IDS = [(7 * place * place + 3) % 380 for place in range(40)]  # longer than the contexts that positions are scaled from


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("families")
    peer("families", str(root))
    return root


@pytest.fixture(scope="module")
def ours(theirs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each brought in, and the first also written anew by transformers."""
    root = tmp_path_factory.mktemp("ours")
    for name in NAMES:
        bring_in(theirs / name, root / name)
    return root


@pytest.fixture(scope="module")
def told(theirs: Path, ours: Path) -> dict[Path, dict[str, Any]]:
    folders = [theirs / f"{name}{version}" for name in NAMES for version in ("", "_v4")]
    return ask([*folders, *(ours / name for name in NAMES)], IDS, [], [])


def logits_of(folder: Path) -> np.ndarray:
    with torch.no_grad():
        return load_model(folder)(torch.tensor([IDS]))[0].numpy()


@pytest.mark.parametrize("name", NAMES)
def test_the_same_model_here_and_there(name: str, theirs: Path, ours: Path, told: dict[Path, dict[str, Any]]) -> None:
    """transformers of their folder against ours of theirs as 5 and as 4 writes it, and of the one brought in."""
    said = told[theirs / name]
    wanted = np.array(said["logits"])
    for folder in (theirs / name, theirs / f"{name}_v4", ours / name):
        assert np.abs(logits_of(folder) - wanted).max() < 1e-4
        assert np.abs(np.array(told[folder]["logits"]) - wanted).max() < 1e-4
    made = generate(load_model(theirs / name), [IDS], max_new_tokens=8, temperature=0, top_p=1, seed=0, stop_ids=[])[0]
    assert said["greedy"][:8] == made[: len(said["greedy"][:8])]
    weights = (load_file(folder / name / "model.safetensors") for folder in (theirs, ours))
    first, second = weights
    assert all(torch.equal(first[key], second[key]) for key in second)
    assert told[ours / name]["kind"] == said["kind"]


@pytest.mark.parametrize("name", ["llama_llama3", "qwen2_yarn", "smollm3"])
def test_a_model_that_was_tuned_here_is_of_the_same_family(name: str, theirs: Path, tmp_path: Path) -> None:
    """Written by us, read by transformers, written by it, read by us: the config says the same and no weight moves."""
    model, tokenizer = load_model(theirs / name), load_tokenizer(theirs / name)
    save_model(tmp_path / "ours", model, tokenizer)
    peer("again", str(tmp_path / "ours"), str(tmp_path / "again"))
    back = load_model(tmp_path / "again")
    assert back.config == model.config
    state = back.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert load_tokenizer(tmp_path / "again").encode_prompt("Where?") == tokenizer.encode_prompt("Where?")


def test_an_attention_window_is_the_context(theirs: Path) -> None:
    assert read_config(theirs / "mistral_window").max_seq_len == 48
    assert read_config(theirs / "mistral").max_seq_len == 128


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "rope_type 'dynamic'"),
        ("llama", {"rope_parameters": {"rope_type": "longrope", "factor": 2.0}}, "rope_type 'longrope'"),
        ("llama_v4", {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_type 'dynamic'"),
        ("llama", {"rope_parameters": {"rope_type": "yarn"}}, "rope_parameters.factor is missing"),
        ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "warp": 1.0}}, "rope_parameters.warp"),
        ("llama", {"rope_parameters": {"full_attention": {"rope_type": "default"}}}, "each kind of layer"),
        ("llama_yarn", {"rope_scaling": {"type": "linear", "factor": 2.0}}, "different things"),
        ("llama", {"attn_logit_softcapping": 30.0}, "attn_logit_softcapping is not understood"),
        ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5"),
        ("llama", {"hidden_act": "quick_gelu"}, "hidden_act 'quick_gelu'"),
        ("llama", {"quantization_config": {"bits": 4}}, "quantization_config"),
        ("mistral", {"attention_bias": True}, "attention_bias True"),
        ("qwen3", {"mlp_bias": True}, "mlp_bias True"),
        ("qwen3", {"layer_types": ["full_attention"] * 2 + ["chunked_attention"]}, "layer_types 'chunked_attention'"),
        ("qwen3", {"layer_types": ["full_attention"] * 2}, "layer_types must be a list of 3 names"),
        ("qwen2", {"layer_types": []}, "layer_types must be a list of 3 names"),
        ("qwen3", {"layer_types": "full_attention"}, "layer_types must be a list of 3 names"),
        ("smollm3", {"no_rope_layers": [1, 0]}, "no_rope_layers must be 3"),
        ("smollm3", {"no_rope_layers": None, "no_rope_layer_interval": 0}, "no_rope_layer_interval 0"),
        (
            "smollm3",
            {"no_rope_layers": None, "layer_types": None, "num_hidden_layers": 10**9},
            "num_hidden_layers 1000000",
        ),
        ("llama", {"num_attention_heads": 0, "head_dim": None}, "num_attention_heads 0"),
        ("llama", {"num_key_value_heads": 0}, "n_kv_head is 0"),
        ("llama", {"rms_norm_eps": "1e-6"}, "rms_norm_eps '1e-6'"),
        ("llama", {"rms_norm_eps": float("inf")}, "rms_norm_eps inf"),
        ("llama", {"tie_word_embeddings": "false"}, "tie_word_embeddings 'false'"),
        ("llama", {"rope_parameters": {"rope_theta": 10**400}}, "rope_theta 1000000"),
        ("llama", {"rope_parameters": {"rope_theta": 0}}, "rope_theta 0"),
        ("llama", {"rope_parameters": {"rope_type": "linear", "factor": float("nan")}}, "factor nan"),
        ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 0}}, "factor 0"),
        ("llama", {"rope_parameters": {"rope_type": "yarn", "factor": 4, "beta_fast": -1}}, "beta_fast -1"),
        ("llama", {"model_type": "gemma3"}, "model_type 'gemma3'"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(
    name: str, change: dict[str, Any], said: str, theirs: Path, tmp_path: Path
) -> None:
    values = json.loads((theirs / name / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | change))
    with pytest.raises(InputError, match=said):
        read_config(tmp_path)
