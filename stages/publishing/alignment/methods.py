"""The methods of alignment side by side: the table that papers print, with every control."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stages.base.contracts.evaluation import Calibration, Evaluation
from stages.base.contracts.leaderboard import Leaderboard, Row
from stages.publishing.html.numbers import value

NOTHING = "–"
LEARNS_FROM = {
    "sft": "instructions",
    "rft": "its own right answers",
    "dpo": "preferences",
    "ppo": "the reward model",
    "grpo": "checked answers",
    "best_of_n": "nothing: the reward model picks",
}
Found = Mapping[str, Mapping[str, Any]]  # method → its metrics.json, or a model's numbers


@dataclass(frozen=True)
class Measured:
    """What the table is made of. tuned: metrics of the methods that are there; rewards: model → what the reward model
    says of its test answers (`proxy_rewards.json`); base: the model that alignment starts from."""

    board: Leaderboard
    tuned: Found
    evaluations: Mapping[str, Evaluation]
    rewards: Found
    base: str


def methods_view(measured: Measured) -> dict[str, Any]:
    """Rows in the leaderboard's order, controls last; columns that have a number somewhere."""
    board = measured.board
    rows = sorted(board.rows, key=lambda row: row.control)
    columns = _columns(measured)
    cells = {name: [cell(row) for row in rows] for name, cell in columns.items()}
    shown = [name for name, column in cells.items() if name in ("Model", "Learns from") or set(column) != {NOTHING}]
    return {
        "head": shown,
        "rows": [[cells[name][place] for name in shown] for place in range(len(rows))],
        "numeric": tuple(range(2, len(shown))),
        "controls": sum(row.control for row in rows),
        "sentences": [
            *_against_sft(board),
            *_lengths(board, measured.tuned),
            *_probabilities(measured.evaluations, measured.base),
            *_fooled(board, measured.rewards),
        ],
        "calibrated": _protocol_words(measured.evaluations),
        "again": [row.model for row in rows if row.reruns],
        "tiers": board.tier_metric is not None,
    }


def _columns(measured: Measured) -> dict[str, Callable[[Row], str]]:
    """Heading → what it says of a row."""

    def sure(row: Row) -> Calibration | None:
        return calibration_of(measured.evaluations[row.model]) if row.model in measured.evaluations else None

    def reward(row: Row, key: str) -> Any:
        return measured.rewards.get(row.model, {}).get(key)

    def agreed(row: Row) -> str:
        share = reward(row, "agreement")
        return NOTHING if share is None else f"{100 * share:.0f} of {reward(row, 'compared')}"

    return {
        "Model": lambda row: row.model,
        "Learns from": lambda row: _learns_from(row, measured.base),
        "Exactly right, %": lambda row: _interval(row.right, row.right_low, row.right_high),
        "Exact score": lambda row: _number(row.mean_score, 2),
        "Over seeds, %": _over_seeds,
        "Tier": lambda row: NOTHING if row.tier is None else str(row.tier),
        "Win rate, %": lambda row: _interval(row.win_rate, row.win_rate_low, row.win_rate_high),
        "Length-controlled, %": lambda row: _interval(row.lc_win_rate, row.lc_low, row.lc_high),
        "Characters": lambda row: _number(row.mean_length, 0),
        "KL from SFT, nats": lambda row: kl_of(row.model, measured.tuned),
        "Reward": lambda row: _interval(reward(row, "reward"), reward(row, "low"), reward(row, "high"), 2),
        "Reward model agrees with the judge, %": agreed,
        "Calibration error": lambda row: NOTHING if (c := sure(row)) is None else _interval(c.ece, c.low, c.high, 3),
        "Entropy, nats": lambda row: NOTHING if (c := sure(row)) is None else _number(c.entropy, 2),
    }


def _learns_from(row: Row, base: str) -> str:
    if row.kind == "few_shot":
        return "the corpus, and examples shown"
    return LEARNS_FROM.get(row.model, "the corpus" if row.model == base else "")


def _over_seeds(row: Row) -> str:
    if row.reruns is None:
        return NOTHING
    return f"{_interval(row.reruns.mean, row.reruns.low, row.reruns.high)}, {row.reruns.n} trainings"


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
                    f"({low:+.1f} to {high:+.1f}).".replace("-", "−")
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
    return [
        "Length against sft: " + ", ".join(f"{name} {_signed(change, '+.0%')}" for name, change in grown.items()) + "."
    ]


def _probabilities(evaluations: Mapping[str, Evaluation], base: str) -> list[str]:
    """Whether probabilities still mean what they said before alignment."""
    errors = {name: found.ece for name, one in evaluations.items() if (found := calibration_of(one))}
    before = errors.get(base)
    told = [f"{name} {error:.3f}" for name, error in errors.items() if name in LEARNS_FROM and error is not None]
    if before is None or not told:
        return []
    return [f"Calibration error of {base} {before:.3f}; after alignment: {', '.join(told)}."]


def _fooled(board: Leaderboard, rewards: Found) -> list[str]:
    """Answers that know nothing and that the reward model still prefers to the SFT model's."""
    own = rewards.get("sft", {})
    if own.get("high") is None:
        return []
    told = [
        f"{row.model} {_signed(found['reward'])}"
        for row in board.rows
        if row.control and (found := rewards.get(row.model, {})).get("low") is not None and found["low"] > own["high"]
    ]
    if not told:
        return []
    return [
        f"The reward model gives these controls more than sft ({_signed(own['reward'])}): {', '.join(told)}. What it "
        "rewards there is not what was asked for."
    ]


def _interval(mean: float | None, low: float | None, high: float | None, digits: int = 1) -> str:
    found = value(mean, low, high, digits=digits)
    return NOTHING if found is None else f"{found.text} ({found.range})" if found.range else found.text


def _number(number: float | None, digits: int) -> str:
    return NOTHING if number is None else f"{number:.{digits}f}".replace("-", "−")


def _signed(number: float, form: str = "+.2f") -> str:
    """Two places, rounded before it is formatted: nothing is −0."""
    return f"{round(number, 2) + 0.0:{form}}".replace("-", "−")
