"""What the alignment stages read, registered file by file in their records, as dvc.yaml lists them."""

from typing import Any

from stages.annotators.truth import Truth, load_truth
from stages.base import schemas
from stages.base.record import StageRun
from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer, load_tokenizer
from stages.lm.checkpoint import load_model

BASE = "data/pretraining/anneal"
SFT = "data/alignment/sft"
MODEL_FILES = ("config.json", "model.safetensors")


def read_tokenizer(run: StageRun[Any]) -> ChatTokenizer:
    return load_tokenizer(run.input("data/tokens/tokenizer"))


def read_instructions(run: StageRun[Any]) -> list[dict[str, Any]]:
    return run.read_table("data/alignment/instructions/instructions.parquet", schemas.INSTRUCTION).to_pylist()


def read_preferences(run: StageRun[Any]) -> list[dict[str, Any]]:
    return run.read_table("data/alignment/annotate/preferences.parquet", schemas.PREFERENCE).to_pylist()


def read_truth(run: StageRun[Any]) -> Truth:
    return load_truth(run.input("data/corpus/atlas/truth.json"))


def read_model(run: StageRun[Any], folder: str) -> LanguageModel:
    for name in MODEL_FILES:
        run.input(f"{folder}/{name}")
    return load_model(folder)
