"""Where the files between phases lie, and how they are read.

A folder of items holds `items.json`, the keys that are in the pipeline (`check` writes it), and one folder an item.
"""

from typing import TYPE_CHECKING, Any

from stages.base.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

    from stages.base.record import StageRun

SOURCES = "data/corpus/source"
PAGES = "data/corpus/ingest/pages.parquet"
ROBOTS = "data/corpus/ingest/robots.parquet"
PLANTED = "data/corpus/ingest/planted.parquet"
TRAIN = "data/corpus/mix/train.parquet"
VALIDATION = "data/corpus/mix/validation.parquet"
TOKENIZER = "data/tokens/tokenizer"
PACKED = "data/tokens/pack"
PACK = "data/tokens/pack/pack.json"
LADDER = "data/scaling/ladder"
FIT = "data/scaling/fit/fit.json"
STUDY = "data/scaling/fit/study.json"
PLAN = "data/scaling/plan/plan.json"
MODELS = "data/models"
TASKS = "data/evaluation/task"
TEXTS = "data/evaluation/text"
CONTROLS = "data/evaluation/controls"
EVALUATED = "data/evaluation/evaluate"
CONTAMINATION = "data/evaluation/contamination/contamination.json"
INSTRUCTIONS = "data/alignment/instructions"
PREFERENCES = "data/alignment/preferences"
RESPONSES = "data/judging/respond"
BASELINE = "data/judging/baseline/outputs.parquet"
JUDGED = "data/judging/judge"
AGREEMENT = "data/judging/agreement/agreement.json"
LEADERBOARD = "data/judging/leaderboard/leaderboard.json"


def read_instructions(run: "StageRun[Any]") -> list[dict[str, Any]]:
    """INSTRUCTION rows of all items, in order. Raises InputError for an id that two of them have."""
    from stages.base.schemas import INSTRUCTION

    rows: list[dict[str, Any]] = []
    owner: dict[str, str] = {}
    for path in _item_files(run, INSTRUCTIONS, "instructions.parquet"):
        for row in run.read_table(path, INSTRUCTION).to_pylist():
            if row["id"] in owner:
                raise InputError(f"{path}: instruction id `{row['id']}` is in {owner[row['id']]} too; rename one")
            owner[row["id"]] = path
            rows.append(row)
    return rows


def read_preferences(run: "StageRun[Any]") -> list[dict[str, Any]]:
    """PREFERENCE rows of all items, in order; an instruction may have several pairs."""
    from stages.base.schemas import PREFERENCE

    paths = _item_files(run, PREFERENCES, "preferences.parquet")
    return [row for path in paths for row in run.read_table(path, PREFERENCE).to_pylist()]


def read_questions(run: "StageRun[Any]") -> "pa.Table":
    """TASK rows of all tasks, in order."""
    import pyarrow as pa

    from stages.base.schemas import TASK

    paths = _item_files(run, TASKS, "questions.parquet")
    return pa.concat_tables([TASK.empty_table(), *(run.read_table(path, TASK) for path in paths)])


def read_truth(run: "StageRun[Any]") -> dict[str, Any]:
    """What is known of the entities that instructions ask about: `attributes` (name → its possible values) and
    `entities` (name → {`kind`, `facts`}), both empty where nothing is known. Raises InputError for an entity of which
    two items know different things."""
    attributes: dict[str, set[str]] = {}
    entities: dict[str, Any] = {}
    for path in _item_files(run, INSTRUCTIONS, "truth.json"):
        truth = run.read_json(path)
        for name, values in truth["attributes"].items():
            attributes.setdefault(name, set()).update(values)
        for name, known in truth["entities"].items():
            if entities.setdefault(name, known) != known:
                raise InputError(f"{path}: entity `{name}` has other facts in another source; rename it in one")
    return {"attributes": {name: sorted(values) for name, values in attributes.items()}, "entities": entities}


def _item_files(run: "StageRun[Any]", folder: str, name: str) -> list[str]:
    return [f"{folder}/{key}/{name}" for key in run.items(folder)]
