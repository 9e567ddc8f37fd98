"""The models that alignment reads: folders of `data/models/`, each with its own tokenizer."""

from typing import Any

from stages.base.artifacts import MODELS
from stages.base.record import StageRun
from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer, load_tokenizer
from stages.lm.checkpoint import load_model
from stages.lm.device import set_threads


def read_model(run: StageRun[Any], key: str) -> tuple[LanguageModel, ChatTokenizer]:
    """Raises InputError for a folder that holds no model that we read."""
    set_threads()
    folder = run.input(f"{MODELS}/{key}")
    return load_model(folder), load_tokenizer(folder)
