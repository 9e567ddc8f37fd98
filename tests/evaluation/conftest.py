from pathlib import Path

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from stages.lm.build import LanguageModel, build_model
from stages.lm.chat import BOS, END, PAD, SPECIALS, TEMPLATE, ChatTokenizer, load_tokenizer, write_tokenizer
from stages.lm.config import ModelConfig

TEXT = [
    "The following are multiple choice questions (with answers) about  rivers.",
    "Question: In which province does Velmora lie?\nAnswer: Anthar\n\n",
    "Velmora lies in the province of Anthar. Its people trade in copper, salt and glass.",
    "Returns the value of the given array along the axis, as a new array of the same shape.",
]


def make_tokenizer(folder: Path, vocab_size: int = 400) -> ChatTokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size - len(SPECIALS), initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXT * 4, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIALS])
    write_tokenizer(folder, tokenizer, TEMPLATE, {"bos_token": BOS, "eos_token": END, "pad_token": PAD})
    return load_tokenizer(folder)


def make_model(arch: str = "transformer", seed: int = 0, max_seq_len: int = 160) -> LanguageModel:
    """Random weights everywhere: a fresh model's zeroed projections would hide mistakes."""
    config = ModelConfig(
        arch=arch,
        vocab_size=448,
        n_layer=2,
        d_model=32,
        n_head=4,
        n_kv_head=2,
        d_ff=48,
        max_seq_len=max_seq_len,
        rope_theta=10000.0,
        tie_embeddings=False,
        qk_norm=True,
        norm_eps=1e-6,
    )
    model = build_model(config, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(0.0, 0.3, generator=generator)
    return model.eval()


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> ChatTokenizer:
    return make_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="session")
def model() -> LanguageModel:
    return make_model()


@pytest.fixture(scope="session")
def lstm() -> LanguageModel:
    return make_model("lstm")


@pytest.fixture(scope="session")
def questions() -> list[dict]:
    """Two subjects, several lengths of question and choice, three or four choices; two development examples each."""
    rows = []
    for subject, noun in (("rivers", "river"), ("town_halls", "town hall")):
        for i in range(8):
            choices = ["Anthar", "Belmont on the sea", "Copper", "Dun"][: 3 + i % 2]
            rows.append(
                {
                    "id": f"{subject}{i}",
                    "set": "made_up",
                    "subject": subject,
                    "split": "development" if i < 2 else "test",
                    "question": f"Which {noun} is {'very ' * i}old?",
                    "choices": choices,
                    "answer": i % 3,
                }
            )
    return rows
