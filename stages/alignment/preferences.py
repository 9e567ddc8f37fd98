"""Pairs of answers from one place, with the one that was preferred: `python -m stages.alignment.preferences <key>`."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, RootModel

from stages.alignment.data.formats import (
    NAMED,
    PREFERENCES,
    Row,
    Tolerance,
    check_refused,
    dataset_rows,
    each,
    format_of,
    read_as,
    read_rows,
)
from stages.alignment.data.records import LEAK, Preference, table_of
from stages.alignment.data.votes import measure_votes, preferences_of, read_votes
from stages.alignment.leakage import LeakageParams, Search, Trained, counts, leaks_of, left_out, read_held_out
from stages.base import schemas
from stages.base.errors import DataLossError, InputError
from stages.base.hub import HubDataset
from stages.base.params import Section
from stages.base.record import StageRun, stage


class LocalSource(Tolerance):
    """Pairs that the pipeline made, or a file of one's own."""

    kind: Literal["annotated", "jsonl"]
    """annotated: a folder with preferences.parquet, as alignment.annotate writes it; jsonl: a file of one's own, JSON
    Lines, JSON or Parquet, in one of the formats of docs/alignment.md: {"prompt", "chosen", "rejected"},
    UltraFeedback's or HH's."""
    path: str
    """The folder or the file."""


class HubSource(HubDataset, Tolerance):
    """A dataset of the Hugging Face hub, in one of those formats."""

    kind: Literal["hub"]


class VotesSource(Section):
    """Votes that people gave on pairs of answers."""

    kind: Literal["votes"]
    """As the annotation page writes them, a vote a line (docs/alignment.md)."""
    path: str
    """The file."""
    max_drop: Annotated[float, Field(ge=0, le=1)]
    """Share of the pairs that may be without a preference: ties, and those that all have skipped."""


class PreferenceSource(RootModel[Annotated[LocalSource | VotesSource | HubSource, Field(discriminator="kind")]]):
    """Pairs from one place, of any kind."""


PARAMS = {"alignment.preferences.sources.*": PreferenceSource, "alignment.leakage": LeakageParams}
ANNOTATED = "data/alignment/annotate"


def from_file(path: Path, key: str) -> list[Preference]:
    """Preferences of a file, as `from_rows`."""
    return from_rows(read_rows(path), key)


def from_rows(rows: Sequence[Row], key: str, refused: list[str] | None = None) -> list[Preference]:
    """Preferences of a file or a dataset; the id is `<key>-<line>` unless given, and no exact score is known.

    Raises InputError naming the line of a row without one of the texts, with a wrong type or an unknown key, with two
    answers that are equal but for white space at their ends, with another prompt than a row of the same id, or that
    says what another row says, unless `refused` takes them (`each`).
    """
    form = format_of(rows, PREFERENCES)
    prompts: dict[str, str] = {}
    places: dict[tuple[str, str, str], str] = {}

    def read(row: Row) -> Preference:
        name = row.name(f"{key}-{row.number}")
        pair = read_as(form, row)
        prompt = pair.exchange.prompt
        if pair.chosen.strip() == pair.rejected.strip():
            raise InputError(f"{row.place}: `chosen` and `rejected` are the same, up to white space at their ends")
        if prompts.setdefault(name, prompt) != prompt:
            raise InputError(f"{row.place}: the id `{name}` stands above with another prompt")
        if (first := places.setdefault((prompt, pair.chosen, pair.rejected), row.place)) != row.place:
            raise InputError(f"{row.place}: the same pair stands at {first} already; remove one")
        return Preference(name, prompt, pair.chosen, pair.rejected, 1.0, None, None, key, pair.exchange.messages)

    return each(rows, read, refused)


def measure(preferences: Sequence[Preference]) -> dict[str, int]:
    """`contradicted`: pairs that another row prefers the other way round, as two annotators may."""
    pairs = {(row.prompt, row.chosen, row.rejected) for row in preferences}
    return {
        "pairs": len(preferences),
        "prompts": len({row.prompt for row in preferences}),
        "contradicted": sum((prompt, rejected, chosen) in pairs for prompt, chosen, rejected in pairs),
    }


def read_source(
    run: StageRun[PreferenceSource], key: str
) -> tuple[list[Preference], dict[str, int], dict[str, float | None]]:
    """The pairs with a preference, why others have none, and how far those agree who voted; both empty where a source
    holds preferences and no votes."""
    params = run.params.root
    if isinstance(params, HubSource):
        run.input(params.path)
        return (*usable(run, dataset_rows(params), key, params.max_drop), {})
    if params.kind == "annotated":
        table = run.read_table(f"{params.path}/preferences.parquet", schemas.PREFERENCE)
        return [Preference(**row) for row in table.to_pylist()], {}, {}
    path = run.input(params.path)
    if params.kind == "jsonl":
        return (*usable(run, read_rows(path), key, params.max_drop), {})
    voted = read_votes(read_rows(path), key)
    found, drops = preferences_of(voted)
    check_loss(len(voted.pairs), drops, params.max_drop)
    return found, drops, measure_votes(voted)


def usable(
    run: StageRun[PreferenceSource], rows: Sequence[Row], key: str, max_drop: float
) -> tuple[list[Preference], dict[str, int]]:
    """The pairs of the rows that can be used; the others are counted, and some named in the record. Raises InputError
    where they are more than `max_drop` of all."""
    refused: list[str] = []
    found = from_rows(rows, key, refused if max_drop else None)
    check_refused(len(rows), refused, max_drop)
    run.note("refused", refused[:NAMED])
    return found, {"refused": len(refused)} if refused else {}


def check_loss(pairs: int, drops: Mapping[str, int], max_drop: float) -> None:
    """Raises DataLossError where more pairs have no preference than `max_drop` allows."""
    lost = sum(drops.values())
    if lost > max_drop * pairs:
        told = ", ".join(f"{reason} {count}" for reason, count in sorted(drops.items()))
        raise DataLossError(
            f"{lost} of {pairs} pairs have no preference ({told}), more than `max_drop`, {max_drop:.1%}, allows"
        )


def main(key: str) -> None:
    section = f"alignment.preferences.sources.{key}"
    with stage("alignment.preferences", PreferenceSource, item=key, section=section) as run:
        pairs, drops, numbers = read_source(run, key)
        rules = run.section("alignment.leakage", LeakageParams)
        shown = [Trained(pair.id, pair.asked, (pair.chosen, pair.rejected)) for pair in pairs]
        leaks = Search(read_held_out(run), rules.ngram, rules.min_words).leaks(shown)
        out = left_out(shown, leaks, rules.max_leak, f"pairs of source `{key}`")
        kept = [pair for index, pair in enumerate(pairs) if index not in out]
        run.write_table("preferences.parquet", table_of(kept, schemas.PREFERENCE), schemas.PREFERENCE)
        run.write_table("leaks.parquet", leaks_of(shown, leaks), LEAK)
        run.write_json("metrics.json", {**measure(kept), **numbers, **drops, "left_out": len(out), **counts(leaks)})
        run.rows(len(pairs) + sum(drops.values()), len(kept), Counter(out.values()) + Counter(drops), max_drop=1.0)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m stages.alignment.preferences <a key of alignment.preferences.sources>")
    main(sys.argv[1])
