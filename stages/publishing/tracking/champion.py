"""The model that a pipeline chose, in MLflow: logged, registered, and named champion where it is clearly better.

It is a copy that stands alone: `mlflow.pyfunc.load_model("models:/trainyard@champion").predict(["…"])` answers with it.
"""

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.base.artifacts import LEADERBOARD, MODELS
from stages.base.contracts.leaderboard import Leaderboard, Row
from stages.publishing.lineage.records import Record

if TYPE_CHECKING:
    from stages.publishing.tracking.client import Tracker

NAME, ALIAS, NEWEST = "trainyard", "champion", "newest"
LARGEST = 2**30  # bytes: a larger model is registered by name and digest, without its weights
FLAVOR = """artifact_path: {name}
flavors:
  python_function:
    data: model
    loader_module: stages.publishing.tracking.served
model_size_bytes: {size}
model_uuid: {uuid}
run_id: {run}
utc_time_created: '{time}'
"""


def register(tracker: "Tracker", experiment: str, parent: str, records: Sequence[Record]) -> None:
    """Register the chosen model of the leaderboard that these records wrote, once a pipeline and weights."""
    board = next((record for record in records if LEADERBOARD in record.outputs), None)
    if board is None or not Path(LEADERBOARD).exists():
        return
    row = _chosen(Leaderboard.model_validate_json(Path(LEADERBOARD).read_text(encoding="utf-8")))
    folder = Path(MODELS, row.model) if row else None
    if row is None or folder is None or not (folder / "model.safetensors").exists():
        return
    written = {path: digest for record in records for path, digest in record.outputs.items()}
    digest = written.get((folder / "model.safetensors").as_posix(), "")
    client = tracker.client
    known = client.search_model_versions(f"name = '{NAME}' and run_id = '{parent}'")
    if not digest or any(version.tags.get("sha256") == digest for version in known):
        return
    numbers = {name: value for name, value in _numbers(row).items() if value is not None}
    model = client.create_logged_model(
        experiment, name=row.model, source_run_id=parent, tags={"sha256": digest}, model_type="language model"
    )
    with tempfile.TemporaryDirectory() as scratch:
        size = sum(path.stat().st_size for path in folder.iterdir())
        target = Path(scratch, "model")
        shutil.copytree(folder, target, ignore=None if size <= LARGEST else shutil.ignore_patterns("*.safetensors"))
        Path(scratch, "MLmodel").write_text(
            FLAVOR.format(
                name=row.model, size=size, uuid=model.model_id, run=parent, time=f"{_time(model.creation_timestamp)}"
            )
        )
        client.log_model_artifacts(model.model_id, scratch)
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(parent, [tracker.entities.LoggedModelOutput(model.model_id, 0)])
    if not [found for found in client.search_registered_models(f"name = '{NAME}'")]:
        client.create_registered_model(NAME, description="The model that each pipeline chose.")
    version = client.create_model_version(
        NAME,
        source=f"models:/{model.model_id}",
        run_id=parent,
        model_id=model.model_id,
        tags={"model": row.model, "sha256": digest, "numbers": json.dumps(numbers)},
        description=", ".join(f"{name} {value:.4g}" for name, value in numbers.items()),
    ).version
    client.set_registered_model_alias(NAME, NEWEST, version)
    if _beats(numbers, _champion(client)):
        client.set_registered_model_alias(NAME, ALIAS, version)
    tracker.tag(parent, chosen=row.model)


def _chosen(board: Leaderboard) -> Row | None:
    name = board.chosen.model if board.chosen else None
    return next((row for row in board.rows if row.model == name or (name is None and row.chosen)), None)


def _numbers(row: Row) -> dict[str, float | None]:
    return {
        "right": row.right,
        "right_low": row.right_low,
        "right_high": row.right_high,
        "lc": None if row.baseline else row.lc_win_rate,
    }


def _champion(client: Any) -> dict[str, float] | None:
    """The champion's numbers; None where there is none."""
    try:
        version = client.get_model_version_by_alias(NAME, ALIAS)
    except Exception:  # MLflow raises where no alias is set
        return None
    return json.loads(version.tags.get("numbers", "{}"))


def _beats(new: dict[str, float], old: dict[str, float] | None) -> bool:
    """Whether the lower end of the new model's interval lies above the champion's number: a rerun's luck isn't enough.
    Where neither knows the truth, the first stays."""
    return old is None or new.get("right_low", -1.0) > old.get("right", float("inf"))


def _time(milliseconds: int) -> str:
    import datetime

    return datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
