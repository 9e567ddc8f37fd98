"""A leaderboard of trained models and controls, and how far its annotators agree."""

from typing import Any

from stages.base.contracts.agreement import Agreement
from stages.base.contracts.leaderboard import Comparison, Leaderboard, Row, Standing

LABEL = "13 simulated annotators (length bias 0.5, label noise 0.25, noise 0.5)"
TIERS = {"best_of_n": 1, "dpo": 1, "ppo": 1, "sft": 2, "base": 3}
RERUNS = {"dpo": {"n": 3, "metric": "right", "mean": 65.1, "low": 60.2, "high": 70.0}}
MODELS = {  # kind, win rate, exactly right
    "best_of_n": ("outputs", 58.9, 68.1),
    "dpo": ("trained", 57.2, 66.4),
    "ppo": ("trained", 53.1, 64.0),
    "sft": ("trained", 50.0, 62.3),
    "constant": ("constant", 15.3, 6.9),
    "nearest_neighbour": ("nearest_neighbour", 14.0, 8.3),
    "shuffled": ("shuffled", 13.1, 7.7),
    "base": ("trained", 6.0, 0.7),
}
SOURCES = {"best_of_n": "data/alignment/best_of_n/outputs.parquet"}


def standing(win: float = 50.0, right: float | None = 60.0, **changes: Any) -> dict[str, Any]:
    """The fields of a Standing."""
    lc, strength = 50 + (win - 50) * 0.8, (win - 50) / 25
    exact = (right, max(0.0, right - 3), right + 3, right / 100) if right is not None else (None,) * 4
    return {
        "win_rate": win, "win_rate_low": win - 2, "win_rate_high": win + 2, "standard_error": 1.0,
        "discrete_win_rate": win, "n_wins": 180, "n_wins_base": 170, "n_draws": 10, "n_total": 360,
        "discrete_win_rate_low": win - 3, "discrete_win_rate_high": win + 3,
        "corrected_win_rate": None if right is None else win - 1, "corrected_low": None if right is None else win - 4,
        "corrected_high": None if right is None else win + 2, "n_truth": 0 if right is None else 90,
        "lc_win_rate": lc, "lc_standard_error": 1.5, "lc_low": lc - 3, "lc_high": lc + 3,
        "bradley_terry": strength, "bradley_terry_low": strength - 0.1, "bradley_terry_high": strength + 0.1,
        "arena_rating": 1000 + 7 * (win - 50), "arena_rating_low": 980.0, "arena_rating_high": 1020.0,
        **dict(zip(("right", "right_low", "right_high", "mean_score"), exact, strict=True)),
        "mean_length": 40 + win, "n": 360, "missing": 0, "prefers_first": 50.0,
        "prefers_longer": 57.0, "consistent": None, "usd": 0.0, "usd_per_1000": 0.0, "seconds_per_1000": None,
    } | changes  # fmt: skip


def row(model: str = "sft", **changes: Any) -> Row:
    kind, win, right = MODELS.get(model, ("trained", 50.0, 60.0))
    ranked = [name for name, (kind, *_) in MODELS.items() if kind in ("trained", "outputs")]
    rank = ranked.index(model) + 1 if model in ranked else None if model in MODELS else 1
    values = standing(win, right) | {
        "model": model, "kind": kind, "source": SOURCES.get(model, f"data/models/{model}" if kind == "trained" else ""),
        "control": kind not in ("trained", "imported", "outputs"), "baseline": model == "sft", "chosen": model == "dpo",
        "rank": rank, "tier": TIERS.get(model), "reruns": RERUNS.get(model),
        "lineage": f"{rank or 0:016x}", "validation": Standing(**standing(win, right)),
    }  # fmt: skip
    return Row.model_validate(values | changes)


def leaderboard(**changes: Any) -> Leaderboard:
    rows = [row(model) for model in MODELS]
    compared = [
        Comparison(
            model="dpo", against=control, metric="right", split="test", difference=66.4 - MODELS[control][2],
            low=61.4 - MODELS[control][2], high=71.4 - MODELS[control][2], n=360,
        )
        for control in ("constant", "shuffled", "nearest_neighbour")
    ]  # fmt: skip
    judge = {
        "simulated": True, "provider": "simulated", "model": "simulated-pool", "label": LABEL,
        "signal": "the exact score and the length of an answer", "versions": {},
    }  # fmt: skip
    values = {
        "baseline": "sft", "judge": judge, "tier_metric": "right",
        "chosen": {"model": "dpo", "split": "validation", "by": "right"},
        "rows": rows, "comparisons": compared, "notes": [],
        "correlations": [{"a": "win_rate", "b": "right", "spearman": 0.9, "low": 0.6, "high": 1.0, "n": 8}],
    }  # fmt: skip
    return Leaderboard.model_validate(values | changes)


def agreement(**changes: Any) -> Agreement:
    pool = {
        "agreement": 68.0, "bias": 12.0, "variance": 32.0, "prefers_longer": 57.0, "prefers_first": 50.0,
        "truth_agreement": 79.0, "kappa": 0.4, "alpha": 0.41, "alpha_low": 0.35, "alpha_high": 0.46,
        "usd_per_1000": 0.0, "seconds_per_1000": None,
    }  # fmt: skip
    values = {
        "simulated": True, "label": LABEL, "n_pairs": 600, "n_annotators": 13, "min_length_gap": 8, "rows": [],
        "pool": pool, "notes": [],
    }  # fmt: skip
    return Agreement.model_validate(values | changes)
