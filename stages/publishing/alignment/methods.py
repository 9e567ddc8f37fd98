"""The methods of alignment side by side: the table that papers print, with every control."""

from collections.abc import Mapping
from typing import Any

from stages.base.contracts.evaluation import Calibration, Evaluation
from stages.base.contracts.leaderboard import Leaderboard, Row
from stages.publishing.html.numbers import value

LEARNS_FROM = {
    "sft": "instructions",
    "rft": "its own right answers",
    "dpo": "preferences",
    "ppo": "the reward model",
    "grpo": "checked answers",
    "best_of_n": "nothing: the reward model picks",
}
HEAD = [
    "Model",
    "Learns from",
    "Exactly right, %",
    "Win rate, %",
    "Length-controlled, %",
    "Characters",
    "KL from SFT, nats",
    "Calibration error",
    "Entropy, nats",
]
NUMERIC = (2, 3, 4, 5, 6, 7, 8)
Found = Mapping[str, Mapping[str, Any]]  # method → its metrics.json


def methods_view(board: Leaderboard, tuned: Found, evaluations: Mapping[str, Evaluation], base: str) -> dict[str, Any]:
    """Rows in the leaderboard's order, controls last. `tuned`: metrics of the methods that are there."""
    rows = sorted(board.rows, key=lambda row: row.control)
    return {
        "head": HEAD,
        "rows": [_row(row, tuned, evaluations, base) for row in rows],
        "numeric": NUMERIC,
        "controls": sum(row.control for row in rows),
        "sentences": [*_against_sft(board), *_lengths(board, tuned), *_probabilities(evaluations, base)],
        "calibrated": _protocol_words(evaluations),
    }


def _row(row: Row, tuned: Found, evaluations: Mapping[str, Evaluation], base: str) -> list[str]:
    found = calibration_of(evaluations[row.model]) if row.model in evaluations else None
    learns = LEARNS_FROM.get(row.model, "the corpus" if row.model == base else "")
    return [
        row.model,
        learns,
        _interval(row.right, row.right_low, row.right_high),
        _interval(row.win_rate, row.win_rate_low, row.win_rate_high),
        _interval(row.lc_win_rate, row.lc_low, row.lc_high),
        _number(row.mean_length, 0),
        kl_of(row.model, tuned),
        "–" if found is None else _interval(found.ece, found.low, found.high, 3),
        "–" if found is None else _number(found.entropy, 2),
    ]


def kl_of(method: str, tuned: Found) -> str:
    """How far from the SFT model; of best-of-n, which has no distribution of its own, the bound."""
    if method == "sft":
        return "0"
    found = tuned.get(method, {})
    if method == "best_of_n" and found:
        return f"≤ {found['kl_bound']:.2f}"
    return _number(found.get("validation_kl_to_sft"), 2)


def calibration_of(evaluation: Evaluation) -> Calibration | None:
    """Of the first task under the first protocol that has one, `chat` before others: a tuned model's own format."""
    for task in evaluation.tasks.values():
        for protocol in sorted(task.protocols, key=lambda name: (name != "chat", name)):
            if (found := task.protocols[protocol].calibration) is not None:
                return found
    return None


def _protocol_words(evaluations: Mapping[str, Evaluation]) -> str:
    for evaluation in evaluations.values():
        for name, task in evaluation.tasks.items():
            for protocol in sorted(task.protocols, key=lambda name: (name != "chat", name)):
                if task.protocols[protocol].calibration is not None:
                    return f"{name.replace('_', ' ')}, protocol {protocol}"
    return ""


def _against_sft(board: Leaderboard) -> list[str]:
    """What tuning further than SFT has brought, where the board compares it."""
    said = []
    for one in board.comparisons:
        if (
            {one.model, one.against} & {"sft"}
            and one.split == "test"
            and None not in (one.difference, one.low, one.high)
        ):
            assert one.difference is not None and one.low is not None and one.high is not None
            turned = one.model == "sft"
            other = one.against if turned else one.model
            difference = -one.difference if turned else one.difference
            low, high = (-one.high, -one.low) if turned else (one.low, one.high)
            if other in LEARNS_FROM and one.metric == "right":
                word = "more" if low > 0 else "fewer" if high < 0 else "not distinguishably more or fewer"
                said.append(
                    f"{other} gives {word} exactly right answers than sft: {difference:+.1f} points "
                    f"({low:+.1f} to {high:+.1f})."
                )
    return said


def _lengths(board: Leaderboard, tuned: Found) -> list[str]:
    """Length growth under what is learned from preferences and rewards."""
    lengths = {row.model: row.mean_length for row in board.rows}
    start = lengths.get("sft")
    grown = {
        name: length / start - 1
        for name in ("dpo", "ppo", "grpo", "best_of_n")
        if name in tuned and start and (length := lengths.get(name))
    }
    if not grown:
        return []
    return ["Length against sft: " + ", ".join(f"{name} {change:+.0%}" for name, change in grown.items()) + "."]


def _probabilities(evaluations: Mapping[str, Evaluation], base: str) -> list[str]:
    """Whether probabilities still mean what they said before alignment."""
    errors = {name: found.ece for name, one in evaluations.items() if (found := calibration_of(one))}
    before = errors.get(base)
    told = [f"{name} {error:.3f}" for name, error in errors.items() if name in LEARNS_FROM and error is not None]
    if before is None or not told:
        return []
    return [f"Calibration error of {base} {before:.3f}; after alignment: {', '.join(told)}."]


def _interval(mean: float | None, low: float | None, high: float | None, digits: int = 1) -> str:
    found = value(mean, low, high, digits=digits)
    return "–" if found is None else f"{found.text} ({found.range})" if found.range else found.text


def _number(number: float | None, digits: int) -> str:
    return "–" if number is None else f"{number:.{digits}f}"
