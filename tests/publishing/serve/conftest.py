import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from stages.base.errors import InputError
from stages.commands.serve import rate
from stages.lm.build import LanguageModel
from stages.lm.chat import BOS, END, PAD, SPECIALS, TEMPLATE, ChatTokenizer, load_tokenizer, write_tokenizer
from stages.lm.checkpoint import save_model
from stages.lm.device import set_threads
from stages.publishing.serve.annotation import ANSWER, PAIR, Annotation, Annotators, Labels, read_items
from stages.publishing.serve.app import create_app
from stages.publishing.serve.arena import Arena
from stages.publishing.serve.experiments import Compare, Experiments
from stages.publishing.serve.journal import Journal
from stages.publishing.serve.models import Limits, Shelf
from tests.evaluation.conftest import make_model as random_model

TEXT = [
    "Question: In which province does Velmora lie?\nAnswer: Anthar\n\n",
    "Velmora lies in the province of Anthar. Its people trade in copper, salt and glass.",
]


def make_tokenizer(folder: Path) -> ChatTokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400 - len(SPECIALS), initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXT * 4, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIALS])
    bos = (BOS, tokenizer.token_to_id(BOS))
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[bos])
    write_tokenizer(folder, tokenizer, TEMPLATE, {"bos_token": BOS, "eos_token": END, "pad_token": PAD})
    return load_tokenizer(folder)


def make_model(arch: str = "transformer", seed: int = 0, max_seq_len: int = 256) -> LanguageModel:
    """Random weights everywhere, so that answers are long and differ."""
    return random_model(arch, seed, max_seq_len)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    set_threads()


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> ChatTokenizer:
    return make_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory, tokenizer: ChatTokenizer) -> dict[str, Path]:
    """Three models."""
    root = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("red", "green", "blue")):
        save_model(root / name, make_model(seed=seed), tokenizer)
    return {name: root / name for name in ("red", "green", "blue")}


@dataclass
class Running:
    url: str
    folder: Path
    shelf: Shelf


Start = Callable[..., Running]


def no_runs(a: str, b: str) -> dict[str, Any]:
    """Of a clone in which no claim has run."""
    raise InputError(f"{a}: no runs here")


@pytest.fixture
def start(tmp_path: Path, folders: dict[str, Path]) -> Iterator[Start]:
    """Start servers, as `trainyard serve` does."""
    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def begin(
        *,
        models: dict[str, Path] = folders,
        pairs: list[dict[str, Any]] | None = None,
        answers: list[dict[str, Any]] | None = None,
        each: int | None = None,
        token: str | None = None,
        limits: Limits | None = None,
        guideline: str = "Prefer what is true.",
        compare: Compare = no_runs,
    ) -> Running:
        def labels(name: str, rows: list[dict[str, Any]] | None, fields: Any, who: str, said: str) -> Labels | None:
            if rows is None:
                return None
            path = tmp_path / f"{name}.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
            return Labels(read_items(path, fields), Journal(tmp_path / f"{name}.labels.jsonl"), who, said, each)

        shelf = Shelf(models, limits or Limits())
        annotation = Annotation(
            Annotators(Journal(tmp_path / "annotators.jsonl")),
            labels("pairs", pairs, PAIR, "annotator", "vote"),
            labels("answers", answers, ANSWER, "reviewer", "verdict"),
            guideline,
        )
        arena = Arena(shelf, Journal(tmp_path / "arena.jsonl"), rate)
        app = create_app(shelf, arena, annotation, Experiments(compare), token)
        listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        running.append((server, thread))
        while not server.started:
            time.sleep(0.01)
        return Running(f"http://127.0.0.1:{listener.getsockname()[1]}", tmp_path, shelf)

    yield begin
    for server, thread in running:
        server.should_exit = True
        thread.join()


@pytest.fixture
def post() -> Callable[..., httpx.Response]:
    def send(server: Running, path: str, body: Any, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.post(server.url + path, json=body, headers=named, timeout=60)

    return send
