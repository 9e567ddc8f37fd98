"""The exported folder: transformers loads it, and its logits and chat format are ours."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.lm.build import build_model
from stages.lm.chat import encode_prompt, load_tokenizer, padded_vocab_size
from stages.lm.checkpoint import load_model, save_model
from stages.lm.config import ModelConfig
from stages.publishing import export
from stages.tokens.vocabulary import save_tokenizer, train_bpe

ROOT = Path(__file__).resolve().parents[2]
QUESTION = "In which province does Velmora lie? <|end|> naïve"
PEER = """
import json, sys
import numpy as np, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, question, out = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
messages = [{"role": "user", "content": "Where is Velmora?"}]
ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
rows = torch.tensor([json.loads(question)])
with torch.no_grad():
    logits = model(rows).logits[0].numpy()
np.savez(out, logits=logits, chat=np.array(ids), kind=type(model).__name__)
"""


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
    python = os.environ.get("TRAINYARD_PEERS_PYTHON") or str(ROOT / ".venv-peers" / "bin" / "python")
    if not Path(python).exists():
        pytest.skip(
            "no peers' environment: set TRAINYARD_PEERS_PYTHON, or make .venv-peers from bench/requirements.lock"
        )
    tokenizer = load_tokenizer("data/tokens/tokenizer")
    ids = encode_prompt(tokenizer, QUESTION)
    out = tmp_path / "peer.npz"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    done = subprocess.run(
        [python, "-c", PEER, str(exported), json.dumps(ids), str(out)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    peer = np.load(out)
    model = load_model("data/alignment/sft")
    with torch.no_grad():
        ours = model.logits(model.hidden(torch.tensor([ids])))[0].float().numpy()
    assert str(peer["kind"]) == "Qwen3ForCausalLM"
    assert np.abs(ours - peer["logits"]).max() < 1e-4
    assert peer["chat"].tolist() == encode_prompt(tokenizer, "Where is Velmora?")


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
