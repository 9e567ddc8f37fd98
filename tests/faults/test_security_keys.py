"""A planted key is nowhere: not in what stages write, keep and say, nor in what the tracker is told."""

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from stages import check
from stages.annotators.server import ServerSettings
from stages.base import schemas
from stages.base.errors import ParamError
from stages.base.files import write_json
from stages.base.redaction import REDACTED, environment_secrets, for_the_eye, redacted, secrets_in, without_user
from stages.base.tables import write_table
from stages.cli import main
from stages.judging import baseline, judge, respond
from tests.annotators.flaky_server import Scripted
from tests.annotators.judges import settings
from tests.annotators.served import own_cache, start  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
KEY = "sk-proj-4f9a1c77e2b84d+x/y"
PASSWORD = "s3cr3t&hunter2"
PLANTED = [KEY, KEY.replace("/", "%2F").replace("+", "%2B"), PASSWORD, PASSWORD.replace("&", "%26")]
PLANTED.append(base64.b64encode(f"me:{PASSWORD}".encode()).decode())


def holds_a_secret(data: bytes) -> bool:
    return any(secret.encode() in data for secret in PLANTED)


def everything_below(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Files as bytes, tables also as the texts they hold."""
    for path in folder.rglob("*"):
        if path.is_file():
            yield str(path), path.read_bytes()
            if path.suffix == ".parquet":
                yield f"{path}, read", repr(pq.read_table(path).to_pylist()).encode()


def echo(body: dict[str, Any], tries: int) -> tuple[int, bytes, str]:
    """A gateway that repeats what it was sent, as a text and with escapes: first as an error, then in its reply."""
    said = json.dumps(f"Authorization: Bearer {KEY}; Basic {PLANTED[-1]}").replace("sk-", "sk\\u002d")
    if tries == 1:
        return 500, f'{{"error": {{"message": {said}, "code": "{KEY}"}}}}'.encode(), ""
    answer = "2" if "output" in body["messages"][-1]["content"] else f"2 {KEY}"
    reply = {
        "id": KEY, "model": f"m {KEY}", "system_fingerprint": PLANTED[-1], KEY: KEY,
        "choices": [{"message": {"content": answer, "reasoning_content": KEY}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 1},
    }  # fmt: skip
    return 200, json.dumps(reply).encode(), f"X-Key: {KEY}\r\n"


def prepare(url: str) -> None:
    asked = settings(provider="openai", base_url=url, api_key_env="PLANTED_KEY", max_retries=2, logprobs=False)
    endpoint = {name: value for name, value in asked.model_dump().items() if name in ServerSettings.model_fields}
    answerers = {
        "gold": {"kind": "outputs", "path": "gold.parquet"},
        "server": {"kind": "endpoint", "path": str(ROOT / "stages/judging/prompts/standard.txt"), "endpoint": endpoint},
    }
    params = {
        "run": {"seed": 3},
        "models": {"import": {}, "trained": {}},
        "judging": {
            "answerers": answerers,
            "respond": {"temperature": 0.0, "max_new_tokens": 6, "batch_size": 8, "limit": 2},
            "baseline": {"model": "gold"},
            "judge": {"max_missing": 1.0, "annotator": asked.model_dump()},
        },
    }
    Path("params.yaml").write_text(yaml.safe_dump(params))
    rows: list[dict[str, Any]] = [
        {"id": f"{split}{i}", "split": split, "origin": "own", "entity": "", "attributes": [],
         "prompt": f"What colour is P{i} of {split}?", "response": "It is red."}
        for split in ("sft", "validation", "test") for i in range(3)
    ]  # fmt: skip
    write_json("data/alignment/instructions/items.json", ["own"])
    write_json("data/alignment/instructions/own/truth.json", {"attributes": {}, "entities": {}})
    path = "data/alignment/instructions/own/instructions.parquet"
    write_table(path, pa.Table.from_pylist(rows, schemas.INSTRUCTION), schemas.INSTRUCTION)
    gold = [{"id": r["id"], "split": r["split"], "prompt": r["prompt"], "output": r["response"]} for r in rows]
    write_table("gold.parquet", pa.Table.from_pylist(gold, schemas.OUTPUT), schemas.OUTPUT)


def test_a_key_that_a_server_echoes_is_in_no_file_and_on_no_terminal(
    own_cache: Path,  # noqa: F811
    start,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture,
) -> None:
    monkeypatch.setenv("PLANTED_KEY", KEY)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:{PASSWORD.replace('&', '%26')}@127.0.0.1:9/")
    server = Scripted(echo)
    url = start(server).replace("http://", f"http://me:{PASSWORD.replace('&', '%26')}@")
    prepare(url)
    for module, key in ((respond, "gold"), (respond, "server"), (baseline, None), (judge, "server")):
        monkeypatch.setattr("sys.argv", [module.__name__, *([key] if key else [])])
        module.main()
    assert len(server.asked) > 4, "answers and verdicts were asked for"
    assert pq.read_table("data/judging/respond/server/outputs.parquet")["output"][0].as_py() == f"2 {REDACTED}"
    # The address itself stands in params.yaml, where `check` refuses it, and so in the record of its params.
    kept = [name for name, data in everything_below(own_cache) if holds_a_secret(data)]
    assert {Path(name).name for name in kept} <= {"params.yaml", "record.json"}, kept
    for name in kept:
        told = Path(name).read_text().replace(PASSWORD.replace("&", "%26"), "")
        assert not holds_a_secret(told.encode()), name
    out, err = capfd.readouterr()
    assert not holds_a_secret((out + err).encode())


@pytest.mark.parametrize("address", ["http://me:{}@127.0.0.1:9", "postgresql://me:{}@127.0.0.1:9/mlflow"])
def test_commands_and_the_tracker_show_no_password(
    own_cache: Path,  # noqa: F811
    address: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture,
) -> None:
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address.format(PASSWORD.replace("&", "%26")))
    prepare("http://127.0.0.1:9/v1")
    assert main(["where"]) == 1, "no page yet"
    if address.startswith("http"):
        assert main(["track"]) == 1
        assert os.environ["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:9"
        assert (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]) == ("me", PASSWORD)
    out, err = capfd.readouterr()
    assert "127.0.0.1:9" in out and not holds_a_secret((out + err).encode())
    assert not [name for name, data in everything_below(own_cache) if holds_a_secret(data)]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("judging.judge.annotator.base_url", f"https://me:{PASSWORD.replace('&', '%26')}@host/v1"),
        ("judging.judge.annotator.base_url", "https://host/v1?api_key=0123456789"),
        ("judging.judge.annotator.model", f"m {KEY}"),
    ],
)
def test_params_with_a_key_are_refused(monkeypatch: pytest.MonkeyPatch, key: str, value: str) -> None:
    monkeypatch.setenv("PLANTED_API_KEY", KEY)
    monkeypatch.chdir(ROOT)
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    here = values
    for part in key.split(".")[:-1]:
        here = here[part]
    here[key.split(".")[-1]] = value
    with pytest.raises(ParamError, match=f"`{key}` holds a key or password") as caught:
        check.check_secrets(values)
    assert not holds_a_secret(str(caught.value).encode())


WORDS = st.text(st.characters(codec="utf-8"), max_size=30)


@given(WORDS, WORDS, st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=6, max_size=20))
def test_no_secret_is_left_in_any_value(before: str, after: str, secret: str) -> None:
    value = {"a": [before + secret + after], secret: {"b": secret * 2, "n": 3}}
    found = redacted(value, [secret])
    if secret.lower() not in ("dummy", "ollama", "lm-studio", "no-key", "not-needed") and secret not in REDACTED:
        assert secret not in json.dumps(found, ensure_ascii=False).replace(REDACTED, "")


def test_where_keys_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefgh")
    monkeypatch.setenv("MY_PROXY", "http://user1:pass-word@proxy:3128")
    monkeypatch.setenv("SSH_KEY", "/home/me/.ssh/id")
    monkeypatch.setenv("MONKEY", "a monkey")
    assert {"hf_abcdefgh", "pass-word"} <= environment_secrets() and "a monkey" not in environment_secrets()
    assert "/home/me/.ssh/id" not in environment_secrets()
    assert for_the_eye("GET http://a:b@host/ with hf_abcdefgh") == "GET http://[key]@host/ with [key]"
    assert without_user("http://me:pw@host:1/x?y#z") == "http://host:1/x?y#z"
    assert not secrets_in("https://host/v1?api-version=2026-01-01") and not secrets_in("http://[bad")
