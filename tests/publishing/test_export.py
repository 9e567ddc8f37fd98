"""The exported folder: transformers loads it, and its logits and chat format are ours."""

import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from stages import cli
from stages.lm.build import build_model
from stages.lm.chat import (
    ASSISTANT,
    BOS,
    END,
    PAD,
    SPECIALS,
    USER,
    encode_example,
    encode_prompt,
    encode_text,
    load_tokenizer,
    padded_vocab_size,
    special_ids,
)
from stages.lm.checkpoint import load_model, save_model
from stages.lm.config import ModelConfig
from stages.publishing import export
from stages.tokens.vocabulary import save_tokenizer, train_bpe
from tests.tokens.test_vocabulary import ADVERSARIAL

ROOT = Path(__file__).resolve().parents[2]
QUESTION = "In which province does Velmora lie? <|end|> naïve"
PEER = """
import json, sys
import numpy as np, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, question, out = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
def chat(turns, prompt):
    messages = [{"role": role, "content": text} for role, text in turns]
    return tokenizer.apply_chat_template(messages, add_generation_prompt=prompt, tokenize=True, return_dict=False)
texts, conversations = json.load(sys.stdin)
told = {
    "chats": [chat(turns, prompt) for turns, prompt in conversations],
    "texts": [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts],
    "back": [tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts],
    "pad": tokenizer.pad_token, "eos": tokenizer.eos_token, "bos": tokenizer.bos_token,
    "special": tokenizer.all_special_tokens,
}
print(json.dumps(told))
rows = torch.tensor([json.loads(question)])
with torch.no_grad():
    logits = model(rows).logits[0].numpy()
np.savez(out, logits=logits, kind=type(model).__name__)
"""
# What looks like a special token is that token to transformers, and text to us: not among these.
TEXTS = [text for text in ADVERSARIAL if "<|" not in text]
CONVERSATIONS = [
    ([("user", "Where is Velmora?")], True),
    ([("user", "Where?"), ("assistant", "In Anthar.")], False),
    ([("user", "Where?"), ("assistant", "In\n Anthar. "), ("user", " naïve 🧑‍🌾?")], True),
]


def peer_python() -> str:
    python = os.environ.get("TRAINYARD_PEERS_PYTHON") or str(ROOT / ".venv-peers" / "bin" / "python")
    if not Path(python).exists():
        pytest.skip(
            "no peers' environment: set TRAINYARD_PEERS_PYTHON, or make .venv-peers from bench/requirements.lock"
        )
    return python


def ask_transformers(folder: Path, ids: list[int], texts: list[str], out: Path) -> tuple[dict, dict]:
    """(logits and kind of model, what its tokenizer says of texts and conversations)"""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    done = subprocess.run(
        [peer_python(), "-c", PEER, str(folder), json.dumps(ids), str(out)],
        env=environment,
        capture_output=True,
        text=True,
        input=json.dumps([texts, CONVERSATIONS]),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(np.load(out)), json.loads(done.stdout.splitlines()[-1])


def conversation(tokenizer: Tokenizer, turns: list[tuple[str, str]], prompt: bool) -> list[int]:
    """The chat format, by hand."""
    ids = special_ids(tokenizer)
    out = [ids[BOS]]
    for role, text in turns:
        out += [ids[ASSISTANT if role == "assistant" else USER], *encode_text(tokenizer, text)]
        out += [ids[END]] if role == "assistant" else []
    return out + ([ids[ASSISTANT]] if prompt else [])


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def exported(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    tokenizer = train_bpe(["Velmora lies in the province of Anthar, said the almanac. " * 50], 384, "gpt2")
    save_tokenizer(Path("data/tokens/tokenizer"), tokenizer)
    config = ModelConfig(
        "transformer", padded_vocab_size(tokenizer), 3, 48, 4, 2, 96, 64, 1e4, request.param, True, 1e-6
    )
    model = build_model(config, 11)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():  # no weight at its initial zero or one: a swapped name would go unseen
            parameter.add_(0.1 * torch.randn_like(parameter))
    save_model("data/alignment/sft", model)
    settings = {"max_new_tokens": 32, "temperature": 0.0, "top_p": 1.0}
    Path("params.yaml").write_text(
        json.dumps({"publishing": {"export": settings, "checkpoints": {"sft": {"path": "data/alignment/sft"}}}})
    )
    export.main("sft")
    return tmp_path / "data" / "publishing" / "export" / "sft"


def test_the_folder_is_complete_and_repeatable(exported: Path) -> None:
    first = {path.name: path.read_bytes() for path in exported.iterdir() if path.name != "record.json"}
    assert set(first) == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
    }
    assert json.loads(first["config.json"])["architectures"] == ["Qwen3ForCausalLM"]
    export.main("sft")
    assert {path.name: path.read_bytes() for path in exported.iterdir() if path.name != "record.json"} == first


def test_transformers_agrees(exported: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer("data/tokens/tokenizer")
    ids = encode_prompt(tokenizer, QUESTION)
    peer, told = ask_transformers(exported, ids, TEXTS, tmp_path / "peer.npz")
    model = load_model("data/alignment/sft")
    with torch.no_grad():
        ours = model.logits(model.hidden(torch.tensor([ids])))[0].float().numpy()
    assert str(peer["kind"]) == "Qwen3ForCausalLM"
    assert np.abs(ours - peer["logits"]).max() < 1e-4
    assert told["chats"] == [conversation(tokenizer, turns, prompt) for turns, prompt in CONVERSATIONS]
    assert told["chats"][0] == encode_prompt(tokenizer, "Where is Velmora?")
    assert told["chats"][1] == encode_example(tokenizer, "Where?", "In Anthar.")[0]
    assert told["texts"] == [encode_text(tokenizer, text) for text in TEXTS] and told["back"] == TEXTS
    assert (told["pad"], told["bos"], told["eos"]) == (PAD, BOS, END) and set(told["special"]) == set(SPECIALS)


def test_an_extended_model_is_the_same_in_transformers(exported: Path, tmp_path: Path) -> None:
    Path("words.txt").write_text(
        "Zelmora\n Anthar said\n🧑‍🌾\n" + "".join(f"word{i}\n" for i in range(70)), encoding="utf-8"
    )
    Path("special.txt").write_text("<|tool|>\n")
    assert cli.main(["extend", "sft", "--tokens", "words.txt", "--special", "special.txt", "--out", "larger"]) == 0
    tokenizer, model = load_tokenizer("larger"), load_model("larger")
    old = load_model("data/alignment/sft")
    assert model.config.vocab_size == padded_vocab_size(tokenizer) > old.config.vocab_size
    texts = [*TEXTS, "In Zelmora, Anthar said word69 🧑‍🌾.", "plain text"]
    ids = [*encode_prompt(tokenizer, texts[-2]), tokenizer.token_to_id("<|tool|>")]
    peer, told = ask_transformers(Path("larger/huggingface"), ids, texts, tmp_path / "peer.npz")
    with torch.no_grad():
        ours = model(torch.tensor([ids]))[0].numpy()
    assert np.abs(ours - peer["logits"]).max() < 1e-4
    assert told["texts"] == [encode_text(tokenizer, text) for text in texts] and told["back"] == texts
    assert told["texts"][-1] == encode_text(load_tokenizer("data/tokens/tokenizer"), "plain text")
    assert set(told["special"]) == {*SPECIALS, "<|tool|>"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"Zelmora\n\nx\n", "empty"),
        (b"fine\nb\xffd\n", r"words.txt, line 2: not UTF-8"),
        (b"<|end|>\n", "already in the vocabulary"),
        (b"", "no tokens to add"),
    ],
)
def test_bad_tokens_leave_no_folder(
    exported: Path, content: bytes, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("words.txt").write_bytes(content)
    assert cli.main(["extend", "sft", "--tokens", "words.txt", "--out", "larger"]) == 2
    error = capsys.readouterr().err
    assert re.search(said, error) and len(error.strip().splitlines()) == 1
    assert not Path("larger").exists() and not list(Path().glob(".larger*"))
    assert cli.main(["extend", "sft", "--tokens", "words.txt", "--out", "data"]) == 2
    assert "exists" in capsys.readouterr().err


def test_a_recurrent_model_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tokenizer = train_bpe(["words and words " * 40], 320, "gpt2")
    save_tokenizer(Path("data/tokens/tokenizer"), tokenizer)
    save_model(
        "data/x",
        build_model(ModelConfig("lstm", padded_vocab_size(tokenizer), 1, 16, 1, 1, 16, 32, 1e4, True, False, 1e-6), 0),
    )
    settings = {"max_new_tokens": 32, "temperature": 0.7, "top_p": 0.9}
    Path("params.yaml").write_text(
        json.dumps({"publishing": {"export": settings, "checkpoints": {"x": {"path": "data/x"}}}})
    )
    with pytest.raises(SystemExit):
        export.main("x")
    assert "no Transformer" in capsys.readouterr().err
    assert not Path("data/publishing/export/x").exists()
