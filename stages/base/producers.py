"""What the records of stages say of the files that other stages read: damaged or edited data is never built upon."""

from collections.abc import Mapping
from pathlib import Path

from stages.base import files
from stages.base.artifacts import MODELS
from stages.base.errors import InputError

RECORD = "record.json"
DATA = Path("data")


class Producers:
    """Reads records as their files are asked for, each once."""

    def __init__(self) -> None:
        self._outputs: dict[Path, tuple[str, dict[str, str]]] = {}
        self._models: list[Path] | None = None

    def check(self, digests: Mapping[str, str]) -> None:
        """Compare the sha256 of files, by path from the project's root, with what their producers' records say.

        What no record tells of passes, as a file of the user's. Raises InputError naming the file and its stage.
        """
        for name, digest in digests.items():
            said = [found for record in self._records(Path(name)) if (found := self._said(record, name))]
            if said and digest not in [written for _, written in said]:
                stage, written = said[0]
                raise InputError(
                    f"{name}: not what {stage} wrote (sha256 {digest[:12]}, its record says {written[:12]}): damaged "
                    "or edited since; remove it and run `dvc repro`"
                )

    def _records(self, path: Path) -> list[Path]:
        """Of the stage in whose folder a file lies; of all that write models, for a model's."""
        if path.is_relative_to(MODELS):
            if self._models is None:
                found = [record for depth in ("*/*", "*/*/*") for record in DATA.glob(f"{depth}/{RECORD}")]
                self._models = [record for record in found if not any(part.startswith(".") for part in record.parts)]
            return self._models
        if not path.is_relative_to(DATA):
            return []
        own = [folder / RECORD for folder in path.parents if folder.is_relative_to(DATA)]
        return [record for record in own if record.is_file()][:1]

    def _said(self, record: Path, name: str) -> tuple[str, str] | None:
        if record not in self._outputs:
            told = files.read_json(record)
            try:
                self._outputs[record] = told["stage"], dict(told["outputs"])
            except (KeyError, TypeError, ValueError):
                raise InputError(f"{record}: not a stage's record; remove it and run `dvc repro`") from None
        stage, outputs = self._outputs[record]
        return (stage, outputs[name]) if name in outputs else None
