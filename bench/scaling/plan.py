"""The plan and the bill against published figures, and the ladder's prediction against the run it predicts.

`python bench/scaling/plan.py published`: Sardana's 13B case, Muennighoff's repeated epochs, the lecture's Llama 3 line
and the GPU-hours of known runs (from TRAINYARD_REFERENCE). `python bench/scaling/plan.py ladder DATA [SEED …]`: ladder,
fit, plan and pretrain for each seed (1, 2, 3) on the packed tokens of a reproduced project's folder DATA.
"""

import csv
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from scipy.optimize import brentq

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
REFERENCE = Path(os.environ.get("TRAINYARD_REFERENCE") or ROOT.parent / "shared" / "reference")
BOARDS = {"A100-80GB": "a100", "A100-40GB": "a100", "H100-80GB": "h100", "H800": "h800", "TPUv4": "tpu_v4"}


def serving() -> None:
    """Sardana & Frankle 2024, section 3: the quality of a compute-optimal 13B model, 2e12 tokens served."""
    from stages.scaling.budget.serving import serve_optimum
    from stages.scaling.laws.law import Law

    law = Law(A=406.4, B=410.7, E=1.69, alpha=0.336, beta=0.283)
    n, d = law.optimum(brentq(lambda C: law.optimum(C).N - 13e9, 1e20, 1e26))
    served = serve_optimum(law, float(law.predict(n, d)), 2e12)
    saved = 1 - served.total_flops / (6 * n * d + 2 * n * 2e12)
    print(f"serving 2e12 tokens at 13B's quality: {served.N / 1e9:.2f}B on {served.D / 1e12:.2f}e12 tokens")
    print(f"  saves {saved:.1%}; published 17 %; bar 17.4 ± .3 %: {_met(abs(saved - 0.174) <= 0.003)}")


def repeating() -> None:
    """Muennighoff et al. 2023: sections 5 and 6, by the law of their appendix A."""
    from bench.scaling.data_constrained import DataConstrained
    from stages.scaling.laws.law import Law

    law = Law(520.82, 1487.6, 1.86916, 0.3526596, 0.3526596)
    four = (
        float(DataConstrained(law, 44e9).predict(8.7e9, 178e9) / DataConstrained(law, 178e9).predict(8.7e9, 178e9)) - 1
    )
    print(f"four epochs of 44e9 tokens in place of one of 178e9, 8.7B: {four:+.2%}; they measured +.5 %")
    bound = DataConstrained(law, 25e9).optimum(6 * 8.67e9 * 178e9)
    print(f"25e9 unique tokens, 9.3e21 FLOPs: {bound.N / 1e9:.2f}B on {bound.D / 1e9:.0f}e9; theirs 6.34B on 242e9")


def lecture() -> None:
    """CS229, "Building LLMs": Llama 3 405B from the lecture's own assumptions."""
    from stages.scaling.budget.cost import Assumptions, estimate

    given = Assumptions(tflops=400, usd_per_gpu_hour=2, people=50, usd_per_person=500_000, pue=1, kg_per_kwh=0.24)
    cost = estimate(405e9, 15.6e12, gpus=16_000, device="h100", assumptions=given)
    print("the lecture's Llama 3 405B, from its own assumptions (it says → here):")
    for said, quantity, scale, unit in (
        ("3.8e25", cost.flops, 1, "FLOPs"),
        ("26", cost.gpu_hours, 1e6, "M GPU-hours"),
        ("70", cost.days, 1, "days on 16,000"),
        ("52", cost.rent_usd, 1e6, "M$ rent"),
        ("25", cost.people_usd, 1e6, "M$ people"),
        ("75", cost.usd, 1e6, "M$"),
        ("4,400", cost.tco2eq, 1, "tCO2eq"),
    ):
        print(f"  {said} → {float(quantity) / scale:.4g} {unit}")
    print(f"  {cost.thresholds[0]}")


def bills() -> None:
    """Published GPU-hours against the default range of utilisation."""
    from stages.lm.accelerators import named
    from stages.scaling.budget.cost import Assumptions, estimate

    low, high = Assumptions().mfu
    counts: dict[str, list[bool]] = {"verified": [], "second-hand": []}
    print(f"published GPU-hours inside {low:.0%} to {high:.0%} of the dense peak:")
    with (REFERENCE / "scaling" / "known_training_runs.csv").open() as file:
        for row in csv.DictReader(file):
            if not (row["gpu_hours"] and row["tokens"]):
                continue
            board, hours = BOARDS[row["gpu"]], float(row["gpu_hours"])
            cost = estimate(float(row["params_active"]), float(row["tokens"]), device=board)
            inside = cost.gpu_hours.low <= hours <= cost.gpu_hours.high
            counts[row["status"]].append(inside)
            if not inside:
                mfu = float(cost.flops) / (hours * 3600 * named(board).peak_tflops * 1e12)
                print(f"  MISS {row['model']} ({row['status']}): {hours:,.0f} h, {mfu:.1%}")
    for status, inside in counts.items():
        print(f"  {status}: {sum(inside)} of {len(inside)} inside")


def ladder(data: Path, seeds: list[int]) -> None:
    """The bar: within 3 % in every seed, a 90 % interval no wider than ±3 %."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    rows = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            shutil.copytree(data / "tokens", folder / "data" / "tokens")
            (folder / "params.yaml").write_text(yaml.safe_dump(params | {"run": params["run"] | {"seed": seed}}))
            ladder_wall, ladder_cpu = _stage(folder, "scaling.ladder")
            for stage in ("scaling.fit", "scaling.plan", "pretraining.pretrain"):
                wall, cpu = _stage(folder, stage)
            plan = json.loads((folder / "data/scaling/plan/plan.json").read_text())
            reached = json.loads((folder / "data/pretraining/pretrain/metrics.json").read_text())["validation_loss"]
        predicted, (low, high) = plan["predicted_loss"], plan["interval"]
        error, half = predicted / reached - 1, (high - low) / 2 / predicted
        rows.append(abs(error) <= 0.03 and half <= 0.03)
        print(
            f"seed {seed}: {plan['shape']}, {plan['tokens']:,} tokens; predicted {predicted:.3f} "
            f"[{low:.3f}, {high:.3f}], reached {reached:.3f}: {error:+.2%}, {plan['level']:.0%} interval ±{half:.2%}, "
            f"{'inside' if low <= reached <= high else 'outside'} | ladder {ladder_wall:.0f} s wall, "
            f"{ladder_cpu:.0f} s CPU; pretrain {wall:.0f} s, {cpu:.0f} s CPU",
            flush=True,
        )
    print(f"within 3 % with an interval of at most ±3 %: {sum(rows)} of {len(rows)}: {_met(all(rows))}")


def _stage(folder: Path, stage: str) -> tuple[float, float]:
    """(wall, CPU) seconds of `python -m stages.<stage>` in this folder."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TRAINYARD_TRACK": "off"}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", *f"stages.{stage}".split()], cwd=folder, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{stage}: {done.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.monotonic() - start, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _met(yes: bool) -> str:
    return "met" if yes else "MISSED"


def main() -> None:
    match sys.argv[1:]:
        case ["published"]:
            for part in (serving, repeating, lecture, bills):
                part()
        case ["ladder", data, *seeds]:
            ladder(Path(data), [int(seed) for seed in seeds] or [1, 2, 3])
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
