"""`trainyard serve` as a command: what it prints, what it refuses, how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from stages.cli import main

ROOT = Path(__file__).resolve().parents[3]


def serve(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "stages.cli", "serve", "--port", "0", *arguments]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_it_says_where_it_is_and_ends_quietly(tmp_path: Path, folders: dict[str, Path], host: str) -> None:
    (tmp_path / "pairs.jsonl").write_text(json.dumps({"id": 1, "prompt": "q", "output_a": "a", "output_b": "b"}) + "\n")
    arguments = ["--host", host, "--pairs", "pairs.jsonl", "--folder", "votes"]
    process = serve(tmp_path, str(folders["red"]), str(folders["blue"]), *arguments)
    assert process.stdout is not None and process.stderr is not None
    models, opened = process.stdout.readline(), process.stdout.readline()
    assert models.startswith("models: red, blue; the endpoint is http://") and models.endswith("/v1\n")
    place = opened.split()[1].replace("0.0.0.0", "127.0.0.1")
    with httpx.Client(follow_redirects=True) as http:
        if host == "0.0.0.0":
            assert "?token=" in place and http.get(place.partition("?")[0]).status_code == 401
        assert "Trainyard" in http.get(place).text  # with the token that it printed
        enrolled = http.post(place.partition("?")[0] + "api/annotate/enroll", json={"name": "ann"})
        assert enrolled.status_code == 200
    second = serve(tmp_path, str(folders["red"]), "--folder", "votes")
    _, said = second.communicate(timeout=60)
    assert second.returncode == 2 and "another `trainyard serve`" in said
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and said.strip() == ""


def test_what_is_refused_is_one_line(
    tmp_path: Path, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    red = str(folders["red"])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for arguments, said in (
            ([], "holds no models yet"),
            (["nothing"], "no model `nothing`"),
            ([red, red], "two models are called 'red'"),
            ([red, "--port", "70000"], "--port 70000"),
            ([red, "--port", str(taken.getsockname()[1])], "can't be listened on"),
            ([red, "--host", "no.such.host.invalid"], "can't be listened on"),
            ([red, "--rows", "0"], "1 or more"),
            ([red, "--each", "0"], "--each"),
            ([red, "--timeout", "nan"], "--timeout"),
            (["--pairs", "absent.jsonl"], "absent.jsonl"),
            (["--answers", "absent.parquet"], "absent.parquet"),
            ([red, "--guideline", "absent.txt"], "absent.txt"),
        ):
            assert main(["serve", *arguments]) == 2
            error = capsys.readouterr().err
            assert said in error and error.count("\n") == 1
    monkeypatch.setenv("TRAINYARD_SERVE_TOKEN", "short")
    assert main(["serve", red, "--host", "0.0.0.0"]) == 2
    assert "TRAINYARD_SERVE_TOKEN" in capsys.readouterr().err
