"""Claims as their pages read them: a paired difference, a trend, a ladder, and runs that failed."""

from collections.abc import Callable
from typing import Any

import numpy as np

from stages.base.contracts.claim import Arm, Claim, Comparison, Cost, Run, Summary, Verdict
from stages.base.stats import mean_interval

DECLARATION = """claim: A higher learning rate of DPO gives more right answers.
metric: dpo/right
arms: {baseline: {}, faster: {alignment.dpo.lr: 3.0e-4}}  # <b>bold</b>
seeds: 3
rule: faster > baseline
"""


def summary(values: list[float]) -> Summary:
    found = mean_interval(values)
    return Summary(n=len(values), mean=found.mean, sd=float(np.std(values, ddof=1)), low=found.low, high=found.high)


def claim(name: str = "dpo_rate", **changes: Any) -> Claim:
    """Two arms and five seeds, paired by seed and question."""
    seeds = [str(seed) for seed in range(1, 6)]
    values = {"baseline": [81.2, 83.4, 80.6, 84.1, 82.0], "faster": [83.9, 85.0, 82.9, 87.2, 83.1]}
    lengths = {"baseline": [61.0, 64.0, 60.0, 63.0, 62.0], "faster": [70.0, 74.0, 69.0, 73.0, 72.0]}
    rates = {"baseline": 1e-4, "faster": 3e-4}
    arms = [
        Arm(
            name=arm, baseline=arm == "baseline", level=None, revision="",
            params={"alignment.dpo.lr": rates[arm], "alignment.dpo.betas": [0.9, 0.95]},
            metrics={"dpo/right": summary(values[arm]), "dpo/length": summary(lengths[arm])},
        )
        for arm in values
    ]  # fmt: skip
    runs = [
        Run(
            arm=arm, seed=seed, status="finished",
            values={"dpo/right": values[arm][i], "dpo/length": lengths[arm][i]},
            n_items={"dpo/right": 360, "dpo/length": 360},
            stages={"ingest": "aa11" * 4, "sft": f"bb{i}{i}" * 4, "dpo": f"{arm[:2]}{i}0" * 4},
        )
        for i, seed in enumerate(seeds)
        for arm in values
    ]  # fmt: skip
    comparison = Comparison(
        label="faster − baseline", a="faster", b="baseline", effect=2.16, low=0.93, high=3.39, standard_error=0.44,
        df=4.2, p=0.0071, n_seeds=5, n_items=360, n_clusters=60, seed_variance=0.61, item_variance=41.0,
        residual_variance=610.0,
    )  # fmt: skip
    verdict = Verdict(
        verdict="supported", sentence="faster has 2.2 points more right answers than baseline (0.9 to 3.4).",
        analysis="difference", effect=2.16, low=0.93, high=3.39, p=0.0071, df=4.2, level=0.95, n_seeds=5, n_items=360,
        estimator="Two-way analysis of variance over seeds and questions, Satterthwaite's degrees of freedom.",
        comparisons=[comparison], notes=["Questions come in 60 groups."],
    )  # fmt: skip
    values_of: dict[str, Any] = {
        "name": name, "claim": "A higher learning rate of DPO gives more right answers.",
        "source": "Building LLMs, alignment: DPO is simpler than PPO, and its few numbers still have to be found.",
        "question": "", "topic": "alignment", "scale": [], "rule": "faster > baseline", "metric": "dpo/right",
        "unit": "percent", "pair": ["seed", "item"], "margin": 1.0, "alpha": 0.05, "power": 0.8, "seeds": seeds,
        "arms": arms, "runs": runs, "verdict": verdict,
        "changes": ["With these variances 9 seeds would see a difference of 1.0 with 80 % power."],
        "cost": Cost(executed=12, reused=48, cpu_seconds=412.0, judge_usd=0.0), "declaration": DECLARATION,
        "digest": "ab" * 32, "environment": {"python": "3.11.9", "torch": "2.8.0+cpu", "code": "cd" * 32},
    }  # fmt: skip
    return Claim.model_validate(values_of | changes)


def trend(name: str = "sft_size", **changes: Any) -> Claim:
    """Four arms over rising levels, three seeds each; one run failed and one has not begun."""
    levels, seeds = {"n250": 250, "n500": 500, "n1000": 1000, "n4000": 4000}, ["1", "2", "3"]
    rng = np.random.default_rng(3)
    found = {
        arm: [60 + 8 * np.log10(level) + float(rng.normal(0, 0.7)) for _ in seeds] for arm, level in levels.items()
    }
    arms = [
        Arm(
            name=arm, baseline=arm == "n250", level=level, revision="",
            params={"alignment.sft.examples": level}, metrics={"sft/right": summary(found[arm])},
        )
        for arm, level in levels.items()
    ]  # fmt: skip
    failed = {("n4000", "3"): "failed", ("n1000", "3"): "waiting"}
    runs = [
        Run(
            arm=arm, seed=seed, status=failed.get((arm, seed), "finished"),
            reason="sft: killed for memory" if (arm, seed) == ("n4000", "3") else "",
            values={"sft/right": found[arm][i]}, n_items={"sft/right": 360}, stages={"sft": f"{arm}{i}" * 4},
        )
        for arm in levels
        for i, seed in enumerate(seeds)
    ]  # fmt: skip
    comparison = Comparison(
        label="per tenfold level", a="n4000", b="n250", effect=8.1, low=6.9, high=9.3, standard_error=0.5, df=7.0,
        p=0.0001, n_seeds=3, n_items=360,
    )  # fmt: skip
    verdict = Verdict(
        verdict="undecided", sentence="Waits for n4000, seed 3 (failed) and n1000, seed 3.", analysis="trend",
        effect=8.1, low=6.9, high=9.3, p=0.0001, df=7.0, level=0.95, n_seeds=3, n_items=360, comparisons=[comparison],
        estimator="Slope over the logarithm of the level, seeds as blocks.",
    )  # fmt: skip
    base = {
        "arms": arms, "runs": runs, "verdict": verdict, "seeds": seeds, "metric": "sft/right", "rule": "increasing",
        "claim": "More instructions teach more, with falling returns.", "margin": None,
    }  # fmt: skip
    return claim(name, **(base | changes))


def ladder(name: str = "lstm", **changes: Any) -> Claim:
    """Two architectures over five sizes of compute, two seeds each."""
    seeds, exponents = ["1", "2"], {"transformer": 0.31, "lstm": 0.27}
    rng = np.random.default_rng(5)
    points = {
        (arm, seed): tuple(
            (c, float(1.7 + 2.6 * (c / 1e12) ** -power * np.exp(rng.normal(0, 0.01))))
            for c in np.geomspace(1e12, 4e13, 5)
        )
        for arm, power in exponents.items()
        for seed in seeds
    }
    last = {arm: [points[arm, seed][-1][1] for seed in seeds] for arm in exponents}
    arms = [
        Arm(
            name=arm, baseline=arm == "transformer", level=None, revision="", params={"recipe.model": arm},
            metrics={"ladder/loss": summary(last[arm])},
        )
        for arm in exponents
    ]  # fmt: skip
    runs = [
        Run(
            arm=arm, seed=seed, status="finished", values={"ladder/loss": points[arm, seed][-1][1]},
            n_items={"ladder/loss": 5}, points=points[arm, seed], stages={"ladder": f"{arm}{seed}" * 2},
        )
        for arm, seed in points
    ]  # fmt: skip
    comparison = Comparison(
        label="multiplier(transformer, lstm)", a="transformer", b="lstm", effect=2.4, low=1.9, high=3.1,
        standard_error=None, df=None, p=0.001, n_seeds=2, n_items=5,
    )  # fmt: skip
    verdict = Verdict(
        verdict="supported", sentence="lstm needs 2.4 times the compute of transformer for equal loss (1.9 to 3.1).",
        analysis="scaling", effect=2.4, low=1.9, high=3.1, p=0.001, level=0.95, null=1.2, n_seeds=2, n_items=5,
        estimator="Power laws with a shared floor, bootstrap over seeds and sizes.", comparisons=[comparison],
    )  # fmt: skip
    base = {
        "arms": arms, "runs": runs, "verdict": verdict, "seeds": seeds, "metric": "ladder/loss", "topic": "model",
        "rule": "multiplier(transformer, lstm) > 1.2", "claim": "An LSTM needs more compute than a Transformer.",
        "unit": "nats per token", "margin": None, "pair": ["seed"], "source": "",
    }  # fmt: skip
    return claim(name, **(base | changes))


EXAMPLES: tuple[Callable[..., Claim], ...] = (claim, trend, ladder)
