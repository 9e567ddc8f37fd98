"""Pairs of answers from one place, with the one that was preferred: `python -m stages.alignment.preferences <key>`."""

import sys
from pathlib import Path
from typing import Literal

import pyarrow as pa

from stages.alignment.jsonl import read_rows
from stages.alignment.records import Preference, table_of
from stages.base import schemas
from stages.base.errors import InputError
from stages.base.params import Section
from stages.base.record import stage


class PreferenceSource(Section):
    kind: Literal["annotated", "jsonl"]
    """annotated: a folder with preferences.parquet, as alignment.annotate writes it; jsonl: a file of
    {"prompt", "chosen", "rejected"} rows, each with "id" (the instruction's) if you like."""
    path: str
    """The folder or the file."""


PARAMS = {"alignment.preferences.sources.*": PreferenceSource}
ANNOTATED = "data/alignment/annotate"


def from_file(path: Path, key: str) -> list[Preference]:
    """Preferences of a JSON Lines file; the id is `<key>-<line>` unless given, and no exact score is known.

    Raises InputError naming the line of a row without one of the texts, with a wrong type or an unknown key, with two
    equal answers, or with another prompt than a row of the same id.
    """
    found: list[Preference] = []
    prompts: dict[str, str] = {}
    for row in read_rows(path, ("prompt", "chosen", "rejected"), ("id",)):
        name = row.text("id") if "id" in row.values else f"{key}-{row.number}"
        prompt, chosen, rejected = row.text("prompt"), row.text("chosen"), row.text("rejected")
        if chosen == rejected:
            raise InputError(f"{row.place}: `chosen` and `rejected` are the same")
        if prompts.setdefault(name, prompt) != prompt:
            raise InputError(f"{row.place}: the id `{name}` stands above with another prompt")
        found.append(Preference(name, prompt, chosen, rejected, 1.0, None, None, key))
    return found


def main(key: str) -> None:
    section = f"alignment.preferences.sources.{key}"
    with stage("alignment.preferences", PreferenceSource, item=key, section=section) as run:
        path = run.params.path
        if run.params.kind == "jsonl":
            table: pa.Table = table_of(from_file(run.input(path), key), schemas.PREFERENCE)
        else:
            table = run.read_table(f"{path}/preferences.parquet", schemas.PREFERENCE)
        run.write_table("preferences.parquet", table, schemas.PREFERENCE)
        prompts = len(set(table.column("prompt").to_pylist()))
        run.write_json("metrics.json", {"pairs": table.num_rows, "prompts": prompts})
        run.rows(table.num_rows, table.num_rows, {}, max_drop=0.0)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m stages.alignment.preferences <a key of alignment.preferences.sources>")
    main(sys.argv[1])
