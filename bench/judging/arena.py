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
MODELS, VOTES, RESAMPLES = 100, 100_000, 100


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
    """{"battles": …, "bootstrap": bool} on standard input; log-strengths, Elo ratings, seconds on standard output."""
    import evalica

    given = json.load(sys.stdin)
    kinds = {"model_a": evalica.Winner.X, "model_b": evalica.Winner.Y, "tie": evalica.Winner.Draw}
    battles = given["battles"]
    sides = battles["model_a"], battles["model_b"], [kinds[w] for w in battles["winner"]]
    strengths = evalica.bradley_terry(*sides, tolerance=1e-13, limit=100_000).scores
    logs = {name: float(np.log(value)) for name, value in strengths.items()}
    seconds = None
    if given["bootstrap"]:
        start = time.perf_counter()
        evalica.bootstrap(
            evalica.bradley_terry, *sides, n_resamples=RESAMPLES, bootstrap_method="percentile", random_state=0
        )
        seconds = time.perf_counter() - start
    print(json.dumps({"ratings": logs, "elo": evalica.elo(*sides).scores.to_dict(), "seconds": seconds}))


def asked(battles: dict[str, list[str]], bootstrap: bool) -> dict:
    answer = subprocess.run(
        [PEER, str(Path(__file__)), "--job", "peer"],
        input=json.dumps({"battles": battles, "bootstrap": bootstrap}), capture_output=True, text=True, check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    return json.loads(answer.stdout)


def difference(ours: dict[str, float], theirs: dict[str, float]) -> float:
    mean = statistics.mean(theirs.values())
    return max(abs(ours[name] - (theirs[name] - mean)) for name in ours)


def report(reference: Path) -> None:
    from stages.judging.statistics.arena import fit_bradley_terry
    from stages.judging.statistics.arena_bootstrap import bootstrap
    from stages.judging.statistics.elo import elo

    simulated, real = votes(0), llmfao(reference)
    print("## Bradley–Terry beside evalica, one thread\n")
    rounds, theirs = [], {}
    for _ in range(3):
        start = time.perf_counter()
        bootstrap(simulated, RESAMPLES, seed=0)
        ours = time.perf_counter() - start
        theirs = asked(simulated, bootstrap=True)
        rounds.append((ours, theirs["seconds"]))
    ratios = sorted(b / a for a, b in rounds)
    fitted, seen = fit_bradley_terry(simulated), asked(real, bootstrap=False)
    plain = {name: column for name, column in real.items() if name != "cluster"}
    print(
        f"largest difference of a rating: {difference(fitted.ratings, theirs['ratings']):.1e} on {VOTES:,} votes of "
        f"{MODELS} models, {difference(fit_bradley_terry(plain).ratings, seen['ratings']):.1e} on "
        f"{len(real['winner']):,} of llmfao's {len(seen['ratings'])}; of an Elo rating there "
        f"{max(abs(value - seen['elo'][name]) for name, value in elo(plain).items()):.1e}"
    )
    print(
        f"{RESAMPLES} resamples of {VOTES:,} votes: {statistics.median(a for a, _ in rounds):.2f} s, evalica "
        f"{statistics.median(b for _, b in rounds):.1f} s: {ratios[1]:.0f}x ({ratios[0]:.0f}–{ratios[2]:.0f})\n"
    )
    print("| standard errors, sandwich / 4,000 resamples | median | smallest | largest |\n|---|---|---|---|")
    for name, battles in (("simulated", simulated), ("llmfao", plain), ("llmfao, clustered by voter", real)):
        spread = bootstrap(battles, 4000, seed=1).standard_errors()
        errors = fit_bradley_terry(battles).standard_errors
        values = np.array([errors[model] / spread[model] for model in errors])
        print(f"| {name} | {np.median(values):.3f} | {values.min():.3f} | {values.max():.3f} |")
    print()


if __name__ == "__main__":
    if sys.argv[1:] == ["--job", "peer"]:
        peer()
