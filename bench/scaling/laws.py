"""Scaling fits against published numbers and against the Epoch AI notebook: `python bench/scaling/laws.py [part ...]`.

Parts: fit, bootstrap, isoflop, extrapolation, synthetic (all by default). The notebook's loop runs beside ours in the
peers' environment (TRAINYARD_PEERS_PYTHON), a share of its resamples, medians of `--rounds`. Needs the reference data.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from stages.scaling.laws.isoflop import fit_isoflop  # noqa: E402  (the path is the project's root)
from stages.scaling.laws.law import Law  # noqa: E402
from stages.scaling.laws.parametric import bootstrap, fit_parametric  # noqa: E402

DATA = Path(os.environ.get("TRAINYARD_REFERENCE", ROOT.parent / "shared" / "reference")) / "scaling"
PEERS = os.environ.get("TRAINYARD_PEERS_PYTHON", str(ROOT / ".venv-peers/bin/python"))
PUBLISHED_ERRORS = {"A": 124.52, "B": 1293.28, "E": 0.02566, "alpha": 0.01540, "beta": 0.02060}
RESAMPLES, PEER_RESAMPLES = 4000, 100
TRUTH = Law(406.4, 410.7, 1.69, 0.34, 0.28)
NAMES = ("A", "B", "E", "alpha", "beta")


def hoffmann(dropped: int = 5) -> pd.DataFrame:
    table = pd.read_csv(DATA / "hoffmann2022_epoch_svg.csv")
    return table.sort_values("loss").head(len(table) - dropped).sort_index()


def notebook_indices() -> np.ndarray:
    """The notebook's own draws."""
    legacy = np.random.RandomState(42)
    return np.array([legacy.choice(240, 240, replace=True) for _ in range(RESAMPLES)])


def timed(call: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def fit(rounds: int) -> None:
    runs = hoffmann()
    for estimator in ("huber", "lad"):
        law = fit_parametric(runs.N, runs.D, runs.loss, estimator=estimator)
        took = [
            timed(lambda e=estimator: fit_parametric(runs.N, runs.D, runs.loss, estimator=e)) for _ in range(rounds)
        ]
        wall, cpu = (statistics.median(column) for column in zip(*took, strict=True))
        numbers = ", ".join(f"{name} {getattr(law, name):.6g}" for name in NAMES)
        print(f"{estimator}: {numbers}, objective {law.objective:.9g}; {wall:.3f} s ({cpu:.3f} s of CPU)")
    law = fit_parametric(*(hoffmann(0)[c] for c in ("N", "D", "loss")))
    print(f"all 245 runs: alpha {law.alpha:.4f}, beta {law.beta:.4f}")


def bootstraps(rounds: int) -> None:
    runs, indices = hoffmann(), notebook_indices()
    drawn = bootstrap(runs.N, runs.D, runs.loss, indices=indices)
    print("standard errors, ours / published, the notebook's resamples:")
    for name, published in PUBLISHED_ERRORS.items():
        ours = drawn.standard_errors[name]
        print(f"  {name} {ours:.5g} / {published:g} ({ours / published - 1:+.1%})")
    own = bootstrap(runs.N, runs.D, runs.loss, seed=1).standard_errors
    print(
        "  with resamples of our own: " + ", ".join(f"{n} {own[n] / p - 1:+.1%}" for n, p in PUBLISHED_ERRORS.items())
    )
    gaps = []
    for rows in indices[:100]:  # does starting at the full fit miss better optima?
        full = fit_parametric(*(runs[c].to_numpy()[rows] for c in ("N", "D", "loss")))
        gaps.append(full.objective)
    worse = (drawn.objectives[:100] / np.array(gaps) - 1 > 1e-4).sum()
    print(f"  resamples of the first 100 where a full search finds a better optimum (1e-4): {worse}")
    ratios: dict[str, list[float]] = {}
    given = {name: runs[name].tolist() for name in ("N", "D", "loss")} | {"indices": indices[:PEER_RESAMPLES].tolist()}
    for _ in range(rounds):
        wall, _ = timed(lambda: bootstrap(runs.N, runs.D, runs.loss, indices=indices))
        peer = subprocess.run(
            [PEERS, str(ROOT / "bench/scaling/laws_peer.py")],
            input=json.dumps(given),
            capture_output=True,
            text=True,
            check=True,
        )
        for name, result in json.loads(peer.stdout).items():
            seconds = result["seconds"] * RESAMPLES / PEER_RESAMPLES
            ratios.setdefault(name, []).append(seconds / wall)
            print(f"  4,000 bootstraps: ours {wall:.2f} s, the notebook's loop, gradient by {name}, {seconds:.0f} s")
    for name, values in ratios.items():
        each = ", ".join(f"{value:.0f}" for value in values)
        print(f"  times faster, gradient by {name}: {statistics.median(values):.0f} (rounds {each})")


def isoflop() -> None:
    points = pd.read_csv(DATA / "chinchilla_isoflop.csv")
    for source, group in points.groupby("source"):
        found = fit_isoflop(group.C, group.N, group.loss)
        n, d = found.optimum(5.76e23)
        budgets = f"{len(found.accepted)} of {len(found.minima)} budgets"
        print(f"{source}: a = {found.a:.4f}, {budgets}, {d / n:.1f} tokens a parameter at 5.76e23")
    table = pd.read_csv(DATA / "porian2024_isoflop.csv")
    published = pd.read_csv(DATA / "porian2024_exponents_published.csv").set_index("setting")
    for method in ("parabola", "akima"):
        inside = []
        for setting, group in table.groupby("setting"):
            a = fit_isoflop(group.C, group.N, group.loss, method=method).a
            inside.append(published.a_lo95[setting] <= a <= published.a_hi95[setting])
        print(f"Porian, {method}: {sum(inside)} of {len(inside)} exponents inside the published 95 % interval")


def extrapolation() -> None:
    runs = hoffmann()
    small, large = runs[runs.C <= 7e20], runs[runs.C > 7e20]
    law = fit_parametric(small.N, small.D, small.loss)
    error = law.predict(large.N, large.D) / large.loss - 1
    print(f"Hoffmann, C <= 7e20 to {len(large)} larger runs: mean {abs(error).mean():.2%}, max {abs(error).max():.2%}")
    table = pd.read_csv(DATA / "gadre2024_overtraining.csv")
    for delta in (1e-3, 1e-2, 3e-2):
        for dataset, group in table.groupby("dataset"):
            small, large = group[group.N <= 6e8], group[group.N > 6e8]
            law = fit_parametric(small.N, small.D, small.c4_val, huber_delta=delta)
            error = law.predict(large.N, large.D) / large.c4_val - 1
            each = ", ".join(f"{n / 1e9:.1f}B {e:+.1%}" for n, e in zip(large.N, error, strict=True))
            print(f"Gadre {dataset}, N <= .6B, delta {delta:g}: {each}; mean {abs(error).mean():.2%}")


def synthetic() -> None:
    n, d = (axis.ravel() for axis in np.meshgrid(np.geomspace(5e7, 1e10, 6), np.geomspace(1e9, 5e11, 6)))
    rng = np.random.default_rng(0)
    worst = 0.0
    for _ in range(200):
        alpha, beta, E = rng.uniform(0.2, 0.6), rng.uniform(0.2, 0.6), rng.uniform(0.5, 3)
        law = Law(rng.uniform(0.1, 0.6) * E * 7e8**alpha, rng.uniform(0.1, 0.6) * E * 2.2e10**beta, E, alpha, beta)
        found = fit_parametric(n, d, law.predict(n, d))
        worst = max(worst, *(abs(getattr(found, name) / getattr(law, name) - 1) for name in ("E", "alpha", "beta")))
    print(f"200 surfaces without noise: E, alpha, beta off by at most {worst:.1e}")
    truth = {name: getattr(TRUTH, name) for name in (*NAMES, "a")}
    clean = np.asarray(TRUTH.predict(n, d))
    for delta in (0.02, 1e-3):
        hits = dict.fromkeys(truth, 0)
        for seed in range(500):
            noisy = clean * np.exp(0.01 * np.random.default_rng(seed).standard_normal(n.size))
            interval = bootstrap(n, d, noisy, resamples=400, seed=seed, huber_delta=delta).interval(0.95)
            for name, value in truth.items():
                hits[name] += interval[name][0] <= value <= interval[name][1]
        print(f"coverage of 95 % intervals, 500 draws of 36 runs, 1 % log-normal noise, delta {delta:g}: "
              + ", ".join(f"{name} {100 * hit / 500:.1f}" for name, hit in hits.items()))  # fmt: skip


def main() -> None:
    parts = {
        "fit": fit,
        "bootstrap": bootstraps,
        "isoflop": isoflop,
        "extrapolation": extrapolation,
        "synthetic": synthetic,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*parts, []], metavar="part")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for name in options.parts or parts:
        print(f"-- {name}", flush=True)
        parts[name](*((options.rounds,) if name in ("fit", "bootstrap") else ()))


if __name__ == "__main__":
    main()
