"""The site: its pages, and what each of them says of itself on the front page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from stages.base.contracts import Contract
from stages.base.params import Section
from stages.base.record import StageRun
from stages.publishing.html.page import render

Name = Literal["leaderboard", "alignment", "training", "evaluation", "scaling", "corpus", "claims"]
STAGES: dict[Name, str] = {  # claims have none: `trainyard experiment report` makes their page
    "leaderboard": "board",
    "alignment": "alignment_report",
    "training": "training_report",
    "evaluation": "evaluation_report",
    "scaling": "scaling_report",
    "corpus": "corpus_report",
}


class SiteParams(Section):
    title: Annotated[str, Field(min_length=1)]
    """In the bar at the top of every page."""
    pages: Annotated[list[Name], Field(min_length=1)]
    """Pages that the bar and the front page link to, in this order; a page that isn't made has no place here."""


class Figure(Contract):
    """A number as it is shown, and what it counts."""

    value: str
    label: str


class Summary(Contract):
    """What a page says of itself, in `summary.json` beside its record; the front page is made of these."""

    line: str
    """One sentence."""
    stations: list[Figure] = Field(default_factory=list)
    """Stops of the pipeline, in its order."""
    tiles: list[Figure] = Field(default_factory=list)
    metrics: dict[str, int | float] = Field(default_factory=dict)
    """For reports/metrics.json: few, and of names that no result changes."""


def figures(*pairs: tuple[str, str]) -> list[Figure]:
    return [Figure(value=value, label=label) for value, label in pairs]


def finite(**numbers: float | None) -> dict[str, float]:
    """The metrics that there are."""
    return {name: value for name, value in numbers.items() if value is not None}


def read_if_there(run: StageRun[Any], path: str | Path) -> Any:
    """A JSON file, or None where the pipeline lacks the stage that writes it: the page goes without."""
    return run.read_json(path) if Path(path).is_file() else None


def publish_page(
    run: StageRun[Any],
    page: Name | Literal["index", "answers"],
    view: Mapping[str, Any],
    sections: Sequence[tuple[str, str]],
    site: SiteParams,
) -> None:
    """Write reports/<page>.html. `sections`: (id, name) of each that the page has, for the second line of the bar.

    The answers are a page of the leaderboard's, without a place of their own in the bar.
    """
    bar = {
        "title": site.title,
        "page": "leaderboard" if page == "answers" else page,
        "pages": ["index", *site.pages] if len(site.pages) > 1 else site.pages,
        "sections": list(sections),
    }
    run.publish(f"reports/{page}.html", render({**view, **bar}, f"{page}.html"))
