"""Bradley–Terry beside evalica. Run by `bench/judging/estimators.py`; `--job peer` runs under the peers' Python."""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
PEER = os.environ.get("TRAINYARD_PEERS_PYTHON") or str(ROOT / ".venv-peers" / "bin" / "python")
MODELS, VOTES = 100, 100_000


def votes(seed: int) -> dict[str, list[str]]:
    """Models of normal strengths, every pair equally often, a tie in ten."""
    generator = np.random.default_rng(seed)
    strength = generator.normal(0, 0.8, MODELS)
    names = np.array([f"model{i:03d}" for i in range(MODELS)])
    a = generator.integers(0, MODELS, VOTES)
    b = (a + generator.integers(1, MODELS, VOTES)) % MODELS
    won = np.where(generator.random(VOTES) < 1 / (1 + np.exp(strength[b] - strength[a])), "model_a", "model_b")
    won[generator.random(VOTES) < 0.1] = "tie"
    return {"model_a": names[a].tolist(), "model_b": names[b].tolist(), "winner": won.tolist()}


def llmfao(reference: Path) -> dict[str, list[str]]:
    import pandas as pd

    table = pd.read_csv(reference / "posttraining" / "arena" / "llmfao.csv.gz")
    table = table[table["left"] != table["right"]]
    winner = table["winner"].map({"left": "model_a", "right": "model_b"}).fillna("tie")
    return {
        "model_a": table["left"].tolist(),
        "model_b": table["right"].tolist(),
        "winner": winner.tolist(),
        "cluster": table["worker"].astype(str).tolist(),
    }


def peer() -> None:
    """Battles on standard input; log-strengths on standard output."""
    import evalica

    battles = json.load(sys.stdin)
    kinds = {"model_a": evalica.Winner.X, "model_b": evalica.Winner.Y, "tie": evalica.Winner.Draw}
    sides = battles["model_a"], battles["model_b"], [kinds[w] for w in battles["winner"]]
    strengths = evalica.bradley_terry(*sides, tolerance=1e-13, limit=100_000).scores
    print(json.dumps({name: float(np.log(value)) for name, value in strengths.items()}))


def asked(battles: dict[str, list[str]]) -> dict[str, float]:
    answer = subprocess.run(
        [PEER, str(Path(__file__)), "--job", "peer"],
        input=json.dumps(battles), capture_output=True, text=True, check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    return json.loads(answer.stdout)


def difference(ours: dict[str, float], theirs: dict[str, float]) -> float:
    mean = statistics.mean(theirs.values())
    return max(abs(ours[name] - (theirs[name] - mean)) for name in ours)


def report(reference: Path) -> None:
    from stages.judging.statistics.arena import fit_bradley_terry

    simulated, real = votes(0), llmfao(reference)
    print("## Bradley–Terry beside evalica, one thread\n")
    plain = {name: column for name, column in real.items() if name != "cluster"}
    print("| votes | models | largest difference of a rating | ratings, s | intervals, s |\n|---|---|---|---|---|")
    for name, battles in ((f"{VOTES:,} simulated", simulated), (f"{len(real['winner']):,} of llmfao", plain)):
        start = time.perf_counter()
        fitted = fit_bradley_terry(battles)
        rated = time.perf_counter()
        intervals = fitted.intervals
        done = time.perf_counter()
        print(
            f"| {name} | {len(intervals)} | {difference(fitted.ratings, asked(battles)):.1e} | {rated - start:.2f} "
            f"| {done - rated:.1f} |"
        )
    print()


if __name__ == "__main__":
    if sys.argv[1:] == ["--job", "peer"]:
        peer()
