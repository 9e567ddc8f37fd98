"""transformers, in the peers' environment, as an oracle of model folders."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
Turns = list[tuple[list[tuple[str, str]], bool]]  # conversations, and whether an answer is about to begin


def peer(*arguments: str, said: dict[str, Any] | None = None) -> str:
    """Standard output of `transformers_peer.py`; skips where there is no environment for it."""
    python = os.environ.get("TRAINYARD_PEERS_PYTHON") or str(ROOT / ".venv-peers" / "bin" / "python")
    if not Path(python).exists():
        pytest.skip(
            "no peers' environment: set TRAINYARD_PEERS_PYTHON, or make .venv-peers from bench/requirements.lock"
        )
    done = subprocess.run(
        [python, str(ROOT / "tests" / "lm" / "transformers_peer.py"), *arguments],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"},
        capture_output=True,
        text=True,
        input=json.dumps(said or {}),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def ask(folders: list[Path], ids: list[int], texts: list[str], turns: Turns) -> dict[Path, dict[str, Any]]:
    """What transformers makes of each folder: logits, greedy tokens, ids of texts and turns."""
    out = peer("ask", *map(str, folders), said={"ids": ids, "texts": texts, "turns": turns})
    return {Path(folder): told for folder, told in json.loads(out.splitlines()[-1]).items()}
