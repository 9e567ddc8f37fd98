"""What stages took: CPU time as the operating system counted it, energy and CO2 by assumption, dollars of judges.

Clock readings lie in `.trainyard/timings/`, outside every record (`base.record`, `lm.loop`). So they are of the last
run on this machine, and a stage whose results came from a cache has none.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from stages.base.files import read_json
from stages.base.store import SIDE
from stages.publishing.cards.card import known
from stages.publishing.lineage.project import Project

WATTS = (5.0, 10.0, 20.0)
"""Low, middle and high of what one busy core draws, its share of memory, board and power supply with it: CPUs of 65 to
280 W have 8 to 64 cores."""
JOULES = 3.6e6  # of a kWh


@dataclass(frozen=True)
class Cost:
    """Of one stage instance, or of several together. Seconds, kWh, kg; None where it isn't known."""

    stage: str
    wall: float
    cpu: float
    gpu_hours: float
    gpu_kwh: float | None
    """As the devices measured it."""
    peak_mib: float

    @property
    def kwh(self) -> tuple[float, float, float]:
        """Low, middle, high: of the CPU by WATTS, of GPUs as measured."""
        low, middle, high = (watts * self.cpu / JOULES + (self.gpu_kwh or 0.0) for watts in WATTS)
        return low, middle, high


def costs(project: Project, labels: Iterable[str]) -> list[Cost]:
    """Of those stage instances that have a clock reading here, in the order given."""
    folder = project.root / SIDE / "timings"
    found = []
    for label in labels:
        path = folder / f"{label}.json"
        if not path.is_file():
            continue
        told = read_json(path)
        parts = [read_json(part) for part in sorted(folder.glob("*.train.json")) if _of(part.name, label)]
        measured = [part["kwh"] for part in parts if part.get("kwh") is not None]
        found.append(
            Cost(
                stage=label,
                wall=float(told["wall_seconds"]),
                cpu=float(told["cpu_seconds"]),
                gpu_hours=sum(float(part.get("gpu_hours") or 0.0) for part in parts),
                gpu_kwh=sum(measured) if measured else None,
                peak_mib=float(told["peak_rss_mib"]),
            )
        )
    return found


def _of(name: str, label: str) -> bool:
    """Whether a reading of a training is of this stage: of itself or of a part of it."""
    return name.startswith((f"{label}.", f"{label}@"))


def together(parts: Iterable[Cost], name: str) -> Cost:
    """The sum; wall time is what they would take one after another."""
    rows = list(parts)
    measured = [row.gpu_kwh for row in rows if row.gpu_kwh is not None]
    return Cost(
        name,
        sum(row.wall for row in rows),
        sum(row.cpu for row in rows),
        sum(row.gpu_hours for row in rows),
        sum(measured) if measured else None,
        max((row.peak_mib for row in rows), default=0.0),
    )


def grid(project: Project) -> tuple[float, str] | None:
    """kg of CO2eq per kWh that the plan of the run supposes, and its words; None without a plan."""
    plan: Any = known(project, "data/scaling/plan/plan.json")
    try:
        energy, carbon = plan["cost"]["energy_mwh"]["value"], plan["cost"]["tco2eq"]
        return (carbon["value"] / energy, str(carbon["assumption"])) if energy else None
    except (KeyError, TypeError):
        return None


def judge_usd(project: Project) -> tuple[float, bool] | None:
    """US dollars that the leaderboard's verdicts cost, and whether its annotators are simulated; None without one."""
    board: Any = known(project, "data/judging/leaderboard/leaderboard.json")
    try:
        return sum(float(row["usd"]) for row in board["rows"]), bool(board["judge"]["simulated"])
    except (KeyError, TypeError):
        return None


def assumptions(project: Project) -> list[str]:
    """How the figures come about and how exact they are; sentences."""
    kg = grid(project)
    low, middle, high = WATTS
    return [
        "CPU time is what the operating system counted for the last run of each stage on this machine, all its "
        "processes together, to about a percent. A stage whose results came from a cache has no reading; what was "
        "thrown away before, or ran for claims, isn't counted.",
        f"Energy of CPUs isn't measured: {middle:g} W for a busy core is assumed, and {low:g} to {high:g} W as the "
        "range. Energy of GPUs is what the devices measured.",
        f"CO2eq: {kg[1]}, as the plan of the run supposes; making and cooling the hardware aren't counted."
        if kg
        else "CO2eq isn't told: no plan of this run says what a kWh emits.",
    ]


def span(values: tuple[float, float, float], factor: float, unit: str) -> str:
    """`1.2 Wh (0.6 – 2.4)`, three digits of the middle and two of the ends."""
    low, middle, high = (one * factor for one in values)
    return f"{middle:.3g} {unit} ({low:.2g} – {high:.2g})"
