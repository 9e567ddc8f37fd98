"""Post-training of a real model, from its folder to the leaderboard: `make real`, or `python bench/real/run.py`.

SmolLM2-135M-Instruct is imported, evaluated, tuned on instructions and on preferences, answers, and is judged beside
what became of it, by itself: `bench/real/judge.py` serves it as an LLM judge. Everything happens in `.trainyard/real/`:
the model's folder, and a clone of this project's last commit.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PEERS = Path(os.environ.get("TRAINYARD_PEERS_PYTHON") or ROOT / ".venv-peers" / "bin" / "python")
PLACE = ROOT / ".trainyard" / "real"
PORT = 18321  # of the judge, as scales/real.yaml has it: its address is a param, and part of each call's key


def run(*words: str, folder: Path) -> None:
    """A command in a clone, with this Python and the clone's code."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(folder), "TRAINYARD_TRACK": "off"}
    subprocess.run(words, cwd=folder, env=env, check=True)


def folded() -> Path:
    """The model's folder, made where it isn't there."""
    model, partial = PLACE / "smollm2", PLACE / "smollm2.partial"
    if not (model / "tokenizer.json").is_file():
        PLACE.mkdir(parents=True, exist_ok=True)
        run(str(PEERS), str(ROOT / "bench/real/fold.py"), str(partial), folder=ROOT)
        partial.rename(model)
    return model


def cloned(project: Path) -> Path:
    """A clone of the last commit, or the one that is there brought up to it; what it has computed stays."""
    if not project.is_dir():
        run("git", "clone", "--quiet", str(ROOT), str(project), folder=ROOT)
    else:
        run("git", "fetch", "--quiet", folder=project)
        run("git", "checkout", "--quiet", "--force", "FETCH_HEAD", folder=project)
    return project


@contextmanager
def judge() -> Iterator[None]:
    """The judge's server, while the block runs."""
    command = [str(PEERS), str(ROOT / "bench/real/judge.py"), str(PORT)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None and server.stdout is not None
        if not server.stdout.readline().strip().endswith(f":{PORT}"):
            server.stdin.close()
            sys.exit(f"the judge does not start at port {PORT}; is another program there?")
        try:
            yield
        finally:
            server.stdin.close()


def main() -> None:
    folded()
    project = cloned(PLACE / "project")
    run(sys.executable, "-m", "stages.cli", "configure", "laptop", "real", "--write", folder=project)
    start = time.monotonic()
    with judge():
        run(sys.executable, "-m", "dvc", "repro", "board", folder=project)
    print(f"{(time.monotonic() - start) / 60:.1f} minutes")
    print((project / "reports/leaderboard.md").read_text())
    print(f"page: {project / 'reports/leaderboard.html'}")
    print(f"talk to it: cd {project} && trainyard chat data/models/dpo")


if __name__ == "__main__":
    main()
