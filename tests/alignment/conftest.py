"""A tokenizer of single bytes, tiny models and what the stages read, for the alignment tests."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from stages.alignment import instructions, leakage, preferences, reference, self_instruct, sft
from stages.alignment.rewards.scalar import ScalarModel, save_scalar
from stages.lm.build import LanguageModel, build_model
from stages.lm.chat import (
    BOS,
    END,
    PAD,
    SPECIALS,
    TEMPLATE,
    ChatTokenizer,
    load_tokenizer,
    padded_vocab_size,
    write_tokenizer,
)
from stages.lm.checkpoint import save_model
from stages.lm.config import ModelConfig

ROOT = Path(__file__).parents[2]


def byte_tokenizer(folder: Path) -> ChatTokenizer:
    """One token a byte, with the chat's special tokens at the end."""
    vocabulary = {symbol: index for index, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIALS])
    write_tokenizer(folder, tokenizer, TEMPLATE, {"bos_token": BOS, "eos_token": END, "pad_token": PAD})
    return load_tokenizer(folder)


def tiny_model(tokenizer: ChatTokenizer, seed: int = 0, tie: bool = True) -> LanguageModel:
    """A two-layer decoder whose residual writers are random, not zero, so that context matters from the first step."""
    config = ModelConfig(
        arch="transformer",
        vocab_size=padded_vocab_size(tokenizer.tokenizer),
        n_layer=2,
        d_model=32,
        n_head=2,
        n_kv_head=2,
        d_ff=64,
        max_seq_len=64,
        rope_theta=10000.0,
        tie_embeddings=tie,
        qk_norm=True,
        norm_eps=1e-6,
    )
    model = build_model(config, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(0.0, 0.1, generator=generator)
    return model


SMALL: dict[str, dict[str, Any]] = {
    "self_instruct": {"candidates": 2, "rounds": 1, "max_new_tokens": 8},
    "sft": {
        "epochs": 5, "batch_size": 4, "lr": 0.01, "adam_lr": 0.01, "optimizer": "muon", "validations": 3,
        "max_new_tokens": 6,
    },
    "reward": {"epochs": 3, "batch_size": 4, "members": 2},
    "dpo": {"epochs": 2, "batch_size": 4, "lr": 0.01, "betas": [0.1, 0.5], "validations": 2, "max_new_tokens": 6},
    "ppo": {
        "iterations": 4, "rollouts": 4, "epochs": 2, "minibatch_size": 2, "validations": 4, "max_new_tokens": 6,
        "lr": 1e-3, "kl_target": 0.01, "kl_gain": 1.0,
    },
    "grpo": {
        "iterations": 4, "prompts": 4, "samples": 3, "epochs": 2, "minibatch_size": 2, "validations": 2,
        "max_new_tokens": 6, "lr": 1e-3,
    },
    "rft": {"samples": 4, "epochs": 5, "batch_size": 4, "lr": 0.01, "validations": 2, "max_new_tokens": 6},
}  # fmt: skip


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> ChatTokenizer:
    return byte_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def make_model(tokenizer: ChatTokenizer) -> Callable[..., LanguageModel]:
    """make_model(seed=0, tie=True) → a tiny model."""
    return lambda seed=0, tie=True: tiny_model(tokenizer, seed, tie)


@pytest.fixture(autouse=True)
def in_scratch_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training writes its timings below the working folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def prepared(tokenizer: ChatTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the stages read: instructions, pairs, the models they begin with, and a reward model."""
    folder = tmp_path_factory.mktemp("prepared")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("TRAINYARD_TRACK", "off")
        patch.setenv("TRAINYARD_WORKERS", "1")
        params = yaml.safe_load((ROOT / "params.yaml").read_text())
        for name, changes in SMALL.items():
            params["alignment"][name] |= changes
        shares = {"preference": 0.3, "validation": 0.2, "test": 0.1}
        sources = {"kind": "jsonl", "path": "own.jsonl", "splits": shares}
        params["alignment"]["base"] = "tiny"
        params["alignment"]["instructions"]["sources"] = {"own": sources}
        params["alignment"]["preferences"]["sources"] = {"own": {"kind": "jsonl", "path": "pairs.jsonl"}}
        Path("params.yaml").write_text(yaml.safe_dump(params))
        lines = {
            "own": [{"prompt": f"What is {n} and 1?", "response": str(n + 1)} for n in range(30)],
            "pairs": [{"prompt": f"Is {n} odd?", "chosen": "yes", "rejected": "no"} for n in range(14)],
        }
        for name, rows in lines.items():
            Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        for name, items in (
            ("alignment/instructions", '["own"]'),
            ("alignment/preferences", '["own"]'),
            ("evaluation/task", "[]"),
        ):
            Path("data", name).mkdir(parents=True)
            Path("data", name, "items.json").write_text(items)
        for name in ("seed_tasks", "edits"):
            Path("lists", name).mkdir(parents=True)
        instructions.main("own")
        leakage.main()
        preferences.main("own")
        save_model("data/models/tiny", tiny_model(tokenizer), tokenizer)
        self_instruct.main()
        sft.main()
        shutil.rmtree("data/alignment/sft")
        judge = ScalarModel(tiny_model(tokenizer, seed=1), "mean")
        torch.nn.init.normal_(judge.head.weight, generator=torch.Generator().manual_seed(0))
        Path("data/alignment/reward").mkdir()
        save_scalar(Path("data/alignment/reward"), judge, tokenizer)
        reference.main()
    return folder
