"""What claims will cost before they run: stage instances, time by earlier runs, dollars of judges."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stages.base.params import lookup
from stages.base.pipeline import Declared
from stages.experiment.declaration import Budget

if TYPE_CHECKING:
    from stages.experiment.runs.plan import Planned

ANNOTATORS = {  # stage → where the settings of the annotator are that it pays
    "judging.judge": "judging.judge.annotator",
    "judging.agreement": "judging.judge.annotator",
    "alignment.annotate": "alignment.annotate.annotator",
}


@dataclass(frozen=True)
class Bill:
    to_run: int
    """Distinct stage instances, shared ones counted once."""
    reused: int
    cpu_seconds: float
    """Of those to run whose time is known."""
    untimed: tuple[str, ...]
    """Stages to run that nobody has timed."""
    judge_usd: float
    """At the most: each paid instance stops at its `max_cost_usd`."""

    def line(self) -> str:
        """`bill: 12 stage instances to run, 58 to reuse; 3.4 CPU minutes; no judge to pay`."""
        if not self.to_run:
            return f"bill: nothing to run, {self.reused} stage instances to reuse"
        time = f"{self.cpu_seconds / 60:.1f} CPU minutes"
        if self.untimed:
            names = ", ".join(self.untimed[:3]) + (", …" if len(self.untimed) > 3 else "")
            known = f"{time} and " if self.cpu_seconds else ""
            time = f"{known}a time that nobody knows yet for {names}"
        judges = f"judges at most ${self.judge_usd:.2f}" if self.judge_usd else "no judge to pay"
        plural = "instance" if self.to_run == 1 else "instances"
        return f"bill: {self.to_run} stage {plural} to run, {self.reused} to reuse; {time}; {judges}"

    def over(self, budget: Budget) -> list[str]:
        """Problems: where it is higher than the budget allows."""
        found = []
        hours = self.cpu_seconds / 3600
        if budget.cpu_hours is not None and hours > budget.cpu_hours:
            found.append(
                f"`budget.cpu_hours` is {budget.cpu_hours:g}, the bill is {hours:.2f}; fewer seeds, a smaller scale, "
                "or a higher budget"
            )
        if budget.judge_usd is not None and self.judge_usd > budget.judge_usd:
            found.append(
                f"`budget.judge_usd` is {budget.judge_usd:g}, judges may cost up to {self.judge_usd:.2f}; lower their "
                "`max_cost_usd`, or give a higher budget"
            )
        return found


def bill(instances: Iterable["Planned"], prices: Mapping[str, float]) -> Bill:
    """`prices`: label → dollars that the instance may cost (`price`)."""
    instances = list(instances)
    to_run = [one for one in instances if not one.known]
    return Bill(
        to_run=len(to_run),
        reused=len(instances) - len(to_run),
        cpu_seconds=sum(one.cpu_seconds or 0.0 for one in to_run),
        untimed=tuple(sorted({one.name for one in to_run if one.cpu_seconds is None})),
        judge_usd=sum(prices.get(one.label, 0.0) for one in to_run),
    )


def price(instance: Declared, values: Mapping[str, Any]) -> float:
    """Dollars that a stage instance may spend on replies with these params; 0 for those that ask nobody."""
    settings: Any = None
    if section := ANNOTATORS.get(instance.name):
        settings = lookup(dict(values), section)
        settings = settings if settings["provider"] == "openai" else None
    elif instance.section and instance.section.startswith("judging.answerers."):
        settings = lookup(dict(values), instance.section).get("endpoint")
    return float(settings["max_cost_usd"]) if settings else 0.0
