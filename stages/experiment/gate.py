"""Keep or discard a change, with a stated error rate: a claim of two arms whose rule and looks are fixed beforehand.

A change that is no better than the baseline is kept in at most alpha of all gates, and one that is no worse is
discarded for being worse in at most alpha, however many looks there are: each side of the two-sided interval spends
alpha (`statistics.sequential`). Who gates many changes keeps some by chance all the same, so every gate tells how many
there were.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from stages.base.contracts import Contract, Number
from stages.base.contracts.claim import Verdict
from stages.base.errors import ParamError
from stages.base.files import json_lines
from stages.base.plain_yaml import parse_yaml
from stages.base.scales import read_scale
from stages.base.store import git
from stages.experiment.declaration import BASELINE, REVISION, Declaration, declare

CHANGE = "change"
LEDGER = "gates.jsonl"
AS_IT_IS = "."
EXIT = {"keep": 0, "discard": 1, "undecided": 3}
LOWER_IS_BETTER = ("nats per token", "bits per byte")
HIGHER_IS_BETTER = ("percent",)
Better = Literal["higher", "lower"]


class Gate(Contract):
    """A line of the ledger, and what `--json` prints."""

    name: str
    decision: Literal["keep", "discard", "undecided"]
    change: list[str]
    baseline: str
    metric: str
    better: Better
    sentence: str
    effect: Number
    """Change minus baseline, in the metric's unit."""
    low: Number
    high: Number
    p: Number
    seeds: int
    """An arm, as used."""
    alpha: float
    """The error rate of keeping what is no better."""
    margin: Number
    before: int
    """Other changes gated in this project before."""
    kept_before: int

    @property
    def line(self) -> str:
        chain = ""
        if self.before:
            n, kept = self.before + 1, self.kept_before + (self.decision == "keep")
            chain = (
                f" Of {n} changes gated so far {kept} were kept; if none was any better, chance alone would keep up to "
                f"{n * self.alpha:.2g}."
            )
        return f"{self.decision}: {self.sentence} {self.better.capitalize()} is better.{chain}"


def arm(change: Sequence[str]) -> dict[str, Any]:
    """The overlay of a change: one YAML file, `key=value`s, a git revision, or `.`, the project as it stands. Raises
    ParamError naming what can't be read."""
    if change == [AS_IT_IS]:
        return {}
    if all("=" in one for one in change):
        overlay = {}
        for one in change:
            key, _, value = one.partition("=")
            overlay[key] = parse_yaml(value, one, ParamError)
        if len(overlay) < len(change):
            raise ParamError(f"{' '.join(change)}: a param is given twice")
        return overlay
    if len(change) > 1:
        raise ParamError(
            f"{' '.join(change)}: a change is one YAML file, one git revision, or key=value as often as due"
        )
    if Path(change[0]).suffix in (".yaml", ".yml"):
        return read_scale(Path(change[0]))
    commit = git("rev-parse", "--verify", "--quiet", f"{change[0]}^{{commit}}")
    if not commit:
        raise ParamError(f"{change[0]}: neither a YAML file, nor key=value, nor a revision that git knows")
    return {REVISION: commit}


def better(unit: str, metric: str) -> Better:
    """Which way a metric is better. Raises ParamError where its unit doesn't say."""
    if unit in LOWER_IS_BETTER:
        return "lower"
    if unit in HIGHER_IS_BETTER:
        return "higher"
    raise ParamError(f"--better: say whether a {metric} is better when it is higher or lower")


def declaration(
    change: Sequence[str],
    *,
    metric: str,
    direction: Better,
    seeds: Sequence[int],
    alpha: float = 0.05,
    margin: float | None = None,
    baseline: str = AS_IT_IS,
    spending: str = "pocock",
    axis: str = "run.seed",
) -> Declaration:
    """seeds: numbers of them at which to look, the last is the most; axis: which seed is drawn anew.

    Raises ParamError naming the option.
    """
    if not 0 < alpha < 0.25:
        raise ParamError(f"--alpha must lie between 0 and 0.25, got {alpha:g}")
    if list(seeds) != sorted(set(seeds)) or not seeds or seeds[0] < 2:
        raise ParamError(f"--seeds must rise from 2 or more, got {','.join(map(str, seeds))}")
    against = "the project as it is" if baseline == AS_IT_IS else baseline
    content: dict[str, Any] = {
        "claim": f"{' '.join(change)} is better than {against} in {metric}.",
        "arms": {BASELINE: arm([baseline]), CHANGE: arm(change)},
        "seeds": {axis: seeds[-1]},
        "metric": metric,
        "rule": f"{CHANGE} {'>' if direction == 'higher' else '<'} {BASELINE}",
        "alpha": 2 * alpha,
    }
    if margin is not None:
        content["margin"] = margin
    if len(seeds) > 1:
        content["looks"] = {"at": list(seeds), "spending": spending}
    name = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
    return declare(content, f"gate-{name}")


def judged(verdict: Verdict, margin: float | None, direction: Better) -> Literal["keep", "discard", "undecided"]:
    """keep: better. discard: worse, or better by less than the margin, if there is one. undecided: neither is shown."""
    low, high = verdict.low, verdict.high
    if verdict.effect is None or low is None or high is None:
        return "undecided"
    best = high if direction == "higher" else -low
    if verdict.verdict in ("contradicted", "equivalent") or (margin is not None and best < margin):
        return "discard"
    return "keep" if verdict.verdict == "supported" else "undecided"


def conclude(declared: Declaration, verdict: Verdict, change: Sequence[str], baseline: str, ledger: Path) -> Gate:
    """The gate's decision, added to the ledger. Raises ParamError for a verdict that no number made, such as one that
    waits for a failed run."""
    if verdict.effect is None:
        raise ParamError(f"no decision: {verdict.sentence}")
    direction: Better = "higher" if declared.parsed.direction > 0 else "lower"
    decision = judged(verdict, declared.margin, direction)
    earlier = {row["name"]: row["decision"] for _, row in json_lines(ledger)} if ledger.exists() else {}
    earlier.pop(declared.name, None)
    gate = Gate(
        name=declared.name, decision=decision, change=list(change), baseline=baseline, metric=str(declared.metric),
        better=direction, sentence=verdict.sentence.partition(": ")[2], effect=verdict.effect, low=verdict.low,
        high=verdict.high, p=verdict.p, seeds=verdict.n_seeds, alpha=declared.alpha / 2, margin=declared.margin,
        before=len(earlier), kept_before=list(earlier.values()).count("keep"),
    )  # fmt: skip
    ledger.parent.mkdir(parents=True, exist_ok=True)
    with ledger.open("a", encoding="utf-8") as out:
        out.write(gate.model_dump_json() + "\n")
    return gate
