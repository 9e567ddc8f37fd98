"""A folder that transformers wrote becomes a model of ours, and is the same there and here."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from stages.base.errors import InputError
from stages.lm.build import build_model
from stages.lm.chat import PLAIN, load_tokenizer
from stages.lm.checkpoint import load_model, save_model
from stages.lm.generate import generate
from stages.pretraining import imported
from stages.tokens.vocabulary import save_tokenizer, train_bpe
from tests.lm.conftest import tiny
from tests.lm.peers import ask, peer

NAMES = ["qwen_tied", "qwen_sharded", "llama"]
TEXTS = ["The heron of Velmora, 17 millers.\n\tYes 🧑‍🌾", "<think> naïve"]
TURNS = [
    ([("user", " Where is Velmora? ")], True),
    ([("user", "Where?"), ("assistant", "In\n Anthar.")], False),
]
IDS = [5, 80, 260, 300, 17, 4]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the models of `transformers_peer.py` and params that import them."""
    root = tmp_path_factory.mktemp("imports")
    peer("make", str(root / "theirs"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("TRAINYARD_TRACK", "off")
        items = {name: {"path": f"theirs/{name}"} for name in NAMES}
        Path("params.yaml").write_text(yaml.safe_dump({"models": {"import": items}}))
        for name in NAMES:
            patch.setattr("sys.argv", ["imported", name])
            imported.main()
    return root


@pytest.fixture(scope="module")
def told(project: Path) -> list[dict[str, dict[str, Any]]]:
    """What transformers says of the folders as they came, and of ours."""
    folders = [[project / place / name for name in NAMES] for place in ("theirs", "data/models")]
    said = ask([*folders[0], *folders[1]], IDS, TEXTS, TURNS)
    return [{folder.name: said[folder] for folder in group} for group in folders]


@pytest.mark.parametrize("name", NAMES)
def test_an_imported_model_is_the_same_everywhere(
    name: str, project: Path, told: list[dict[str, dict[str, Any]]]
) -> None:
    theirs, copy = (said[name] for said in told)
    for folder, said in ((project / "theirs" / name, theirs), (project / "data" / "models" / name, copy)):
        model, tokenizer = load_model(folder), load_tokenizer(folder)
        with torch.no_grad():
            assert np.abs(model(torch.tensor([IDS]))[0].numpy() - np.array(said["logits"])).max() < 1e-4
        options = {"temperature": 0, "top_p": 1, "seed": 0, "stop_ids": []}
        made = generate(model, [IDS], max_new_tokens=24, **options)[0]
        assert made[: len(said["greedy"])] == said["greedy"]
        assert said["texts"] == [tokenizer.encode(text) for text in TEXTS] and said["back"] == TEXTS
    assert copy["logits"] == theirs["logits"] and copy["kind"] == theirs["kind"]
    assert len(theirs["greedy"]) == 24


@pytest.mark.parametrize("name", ["qwen_tied", "llama"])
def test_the_chat_is_their_templates(name: str, project: Path, told: list[dict[str, dict[str, Any]]]) -> None:
    tokenizer = load_tokenizer(project / "data" / "models" / name)
    (theirs, copy) = (said[name]["chats"] for said in told)
    assert theirs == copy and theirs[0] == tokenizer.encode_prompt(" Where is Velmora? ")
    ids, learned = tokenizer.encode_example("Where?", "In\n Anthar.")
    assert theirs[1][: len(ids)] == ids and tokenizer.decode(theirs[1][len(ids) :]) == "\n"
    answer = [number for number, known in zip(ids, learned, strict=True) if known]
    assert tokenizer.decode(answer) == "In\n Anthar." and answer[-1] == tokenizer.end_id
    assert tokenizer.bos_id is None and tokenizer.pad_id == tokenizer.eos_id == tokenizer.end_id


def test_a_base_model_without_a_template_gets_the_plain_one(
    project: Path, told: list[dict[str, dict[str, Any]]]
) -> None:
    tokenizer = load_tokenizer(project / "data" / "models" / "qwen_sharded")
    assert tokenizer.template.source == PLAIN and told[0]["qwen_sharded"]["chats"] is None
    ids, learned = tokenizer.encode_example("Where?", "In\n Anthar.")
    text = "### Instruction:\nWhere?\n\n### Response:\nIn\n Anthar.<|endoftext|>"
    assert tokenizer.tokenizer.decode(ids, skip_special_tokens=False) == text
    assert told[1]["qwen_sharded"]["chats"][1][: len(ids)] == ids and sum(learned) < len(ids)


def test_what_was_brought_in_is_stated(project: Path) -> None:
    root = project / "data"
    figures = {name: json.loads((root / "pretraining/imported" / name / "metrics.json").read_text()) for name in NAMES}
    assert [figures[name]["dtype"] for name in NAMES] == ["bfloat16", "float32", "float16"]
    assert [figures[name]["vocab_size"] for name in NAMES] == [391, 448, 377]
    assert [figures[name]["chat_template"] for name in NAMES] == ["own", "plain", "own"]
    for name in NAMES:
        weights = load_file(root / "models" / name / "model.safetensors")
        assert sum(value.numel() for value in weights.values()) == figures[name]["n_params"]
        assert {str(value.dtype) for value in weights.values()} == {f"torch.{figures[name]['dtype']}"}
        record = json.loads((root / "pretraining/imported" / name / "record.json").read_text())
        assert f"data/models/{name}/model.safetensors" in record["outputs"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / "config.json").unlink(), "no model folder"),
        (lambda folder: (folder / "config.json").write_text("[]"), "config.json: not a JSON object"),
        (
            lambda folder: (folder / "tokenizer_config.json").write_text("[]"),
            "tokenizer_config.json: not a JSON object",
        ),
        (lambda folder: (folder / "tokenizer_config.json").write_text("{}"), "it names no eos_token"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json: not a readable tokenizer"),
        (lambda folder: (folder / "chat_template.jinja").write_text("{{ x() }}"), "the chat template fails"),
        (lambda folder: save_tokenizer(folder, train_bpe([TEXTS[0] * 9], 500, "gpt2")), "the model 128 rows"),
    ],
)
def test_what_is_no_model_is_refused_in_one_line(
    spoil, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRAINYARD_TRACK", "off")
    save_tokenizer(Path("theirs"), train_bpe(["a b"], 261, "gpt2"))
    save_model("theirs", build_model(tiny(), 0))
    spoil(Path("theirs"))
    Path("params.yaml").write_text(yaml.safe_dump({"models": {"import": {"mine": {"path": "theirs"}}}}))
    with pytest.raises(InputError, match=said):  # as `check` says before any work
        imported.check_source(Path("theirs"))
    monkeypatch.setattr("sys.argv", ["imported", "mine"])
    capsys.readouterr()  # a tokenizer that took long has said so
    with pytest.raises(SystemExit) as caught:
        imported.main()
    error = capsys.readouterr().err
    assert caught.value.code == 2 and said in error and len(error.strip().splitlines()) == 1
    assert not Path("data/models/mine").exists()


def test_a_config_that_names_code_and_weights_it_has_no_place_for_are_refused(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    save_tokenizer(theirs, train_bpe(["a b"], 261, "gpt2"))
    save_model(theirs, build_model(tiny(vocab_size=320), 0))
    config = json.loads((theirs / "config.json").read_text())
    (theirs / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "theirs.Model"}}))
    with pytest.raises(InputError, match="auto_map"):
        imported.check_source(theirs)
    (theirs / "config.json").write_text(json.dumps(config))
    weights = load_file(theirs / "model.safetensors")
    name = "model.layers.0.self_attn.sinks"
    save_file(weights | {name: weights["model.norm.weight"].clone()}, theirs / "model.safetensors")
    for refuses in (imported.check_source, lambda folder: imported.bring_in(folder, tmp_path / "mine")):
        with pytest.raises(InputError, match=f"no place for {name}"):
            refuses(theirs)
    head = weights["model.embed_tokens.weight"][:1].clone()  # would be as the embedding where rows are repeated
    save_file(weights | {"lm_head.weight": head}, theirs / "model.safetensors")
    if config["tie_word_embeddings"]:
        with pytest.raises(InputError, match=r"no place for lm_head\.weight"):
            imported.bring_in(theirs, tmp_path / "mine")
    save_file(weights, theirs / "model.safetensors")
    (theirs / "other.safetensors").write_bytes(b"cut")
    with pytest.raises(InputError, match=r"other\.safetensors: unreadable or cut short"):
        imported.bring_in(theirs, tmp_path / "mine")
    (theirs / "other.safetensors").unlink()
    sizes = {"hidden_size": 2**31 - 2, "intermediate_size": 2**31 - 1, "vocab_size": 2**31 - 1}
    for absurd in (sizes, {"head_dim": 1 << 16, "max_position_embeddings": 1 << 20}):  # no memory holds these
        (theirs / "config.json").write_text(json.dumps(config | absurd))
        with pytest.raises(InputError, match=r"do not fit config\.json"):
            imported.check_source(theirs)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ({"do_sample": True, "temperature": 0.6, "top_p": 0.9, "top_k": None, "repetition_penalty": 1.1},
         {"do_sample": True, "temperature": 0.6, "top_p": 0.9}),
        ({"temperature": 0, "top_k": 0, "top_p": 1}, {"do_sample": False, "temperature": 0, "top_k": 0, "top_p": 1}),
        ({"do_sample": 7}, "do_sample 7"), ({"temperature": -1.0}, "temperature -1.0"),
        ({"temperature": float("nan")}, "temperature nan"), ({"temperature": True}, "temperature True"),
        ({"top_p": 0}, "top_p 0"), ({"top_p": 1.5}, "top_p 1.5"), ({"top_k": -3}, "top_k -3"),
        ({"top_k": 0.5}, "top_k 0.5"), ({"temperature": "hot"}, "temperature 'hot'"), ([], "not a JSON object"),
    ],
)  # fmt: skip
def test_what_they_sample_by_is_kept_or_refused(said: Any, kept: Any, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    save_tokenizer(theirs, train_bpe(["a b"], 261, "gpt2"))
    save_model(theirs, build_model(tiny(vocab_size=320), 0))
    (theirs / "generation_config.json").write_text(json.dumps(said))
    if isinstance(kept, str):
        for refuses in (imported.check_source, lambda folder: imported.bring_in(folder, tmp_path / "mine")):
            with pytest.raises(InputError, match=rf"generation_config\.json: {kept}"):
                refuses(theirs)
        return
    imported.check_source(theirs)
    imported.bring_in(theirs, tmp_path / "mine")
    written = json.loads((tmp_path / "mine/generation_config.json").read_text())
    assert {name: written[name] for name in ("do_sample", "temperature", "top_p", "top_k") if name in written} == kept


def test_weights_that_are_no_numbers_are_seen_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = tmp_path / "theirs"
    save_tokenizer(theirs, train_bpe(["a b"], 261, "gpt2"))
    save_model(theirs, build_model(tiny(vocab_size=320), 0))
    weights = load_file(theirs / "model.safetensors")
    last = sorted(weights)[-1]
    weights[last].view(-1)[-1] = float("nan")
    save_file(weights, theirs / "model.safetensors")
    with pytest.raises(InputError, match=f"{last} holds NaN or infinity"):
        imported.check_source(theirs)
    monkeypatch.setattr("stages.lm.hf_weights.LOOKED_AT", 1)  # of a large model, the stage says it
    imported.check_source(theirs)
    with pytest.raises(InputError, match=f"{last} holds NaN or infinity"):
        imported.bring_in(theirs, tmp_path / "mine")
