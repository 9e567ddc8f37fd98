"""What a claim's runs gave: its folder in the project's store, from which the verdict is read and the pages are made.

`experiments/claims/<name>/`: `declaration.yaml`, as it was when the first run started, and `edited.yaml`, as it is now,
if that says something else; `runs.jsonl`, a line each time a run ended; `outcomes.parquet`, what each run scored, item
by item; `cost.json`; `verdict.json`.
"""

import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from stages.base.contracts.claim import Verdict
from stages.base.errors import InputError
from stages.base.files import atomic_path, read_json, write_json
from stages.base.plain_yaml import read_yaml
from stages.experiment.declaration import Declaration, declare
from stages.experiment.metrics import Metric, read_outcome
from stages.experiment.runs.graph import Run, digest, resolve
from stages.experiment.runs.objects import MissingObject
from stages.experiment.runs.results import Store
from stages.experiment.runs.scheduler import Finished

DECLARED, EDITED = "declaration.yaml", "edited.yaml"
COLUMNS = {"metric": str, "arm": str, "seed": str, "item": str, "cluster": str}
NUMBERS = ("value", "compute", "predicted")


def seed_label(seed: Mapping[str, int]) -> str:
    """How a run's seed is named: "3", or "corpus.seed 5, run.seed 3" where several differ."""
    return str(next(iter(seed.values()))) if len(seed) == 1 else ", ".join(f"{k} {v}" for k, v in seed.items())


class ClaimFolder:
    """The folder of one claim."""

    def __init__(self, name: str, store: Store) -> None:
        self.name, self.path, self._store = name, store.folder / "claims" / name, store

    # ------------------------------------------------------------------------------------------ the declaration

    def freeze(self, declaration: Declaration) -> str:
        """Keep the declaration if this is the first run; where it says something else than the one kept, "" no more
        but what was done to it."""
        text = declaration_text(declaration)
        if not (self.path / DECLARED).exists():
            _write(self.path / DECLARED, text)
        if edited := self.edited(declaration):
            _write(self.path / EDITED, text)
        else:
            (self.path / EDITED).unlink(missing_ok=True)
        return edited

    @property
    def has_started(self) -> bool:
        return (self.path / DECLARED).exists()

    def edited(self, declaration: Declaration) -> str:
        """What of a declaration was changed after its first run; "" for nothing, or no run yet."""
        kept = self.declared()
        if kept is None or kept.digest == declaration.digest:
            return ""
        return ", ".join(changed_keys(kept, declaration)) or "its content"

    def declared(self, name: str = DECLARED) -> Declaration | None:
        """The declaration that the first run started with, or (`EDITED`) what was made of it since; None where there
        is none."""
        path = self.path / name
        try:
            content = read_yaml(path)
        except FileNotFoundError:
            return None
        except InputError as error:
            raise InputError(f"{error}; remove the folder") from None
        if not isinstance(content, dict):
            raise InputError(f"{path}: no declaration; remove the folder")
        return declare(content, self.name, path)

    # ------------------------------------------------------------------------------------------ runs

    def log(self, finished: Finished, declaration: Declaration) -> None:
        """A line of `runs.jsonl`, if it says something new of this run."""
        label = seed_label(finished.run.seed)
        line = {
            "arm": finished.run.arm,
            "seed": dict(finished.run.seed),
            "label": label,
            "status": "failed" if finished.failed else "finished",
            "failed": finished.failed,
            "reason": finished.reason,
            "instances": finished.keys,
            "declaration": declaration.digest,
        }
        if self.runs().get((finished.run.arm, label)) != line:
            self.path.mkdir(parents=True, exist_ok=True)
            path = self.path / "runs.jsonl"
            torn = path.exists() and not path.read_bytes().endswith(b"\n")  # by a runner that was killed as it wrote
            with path.open("a", encoding="utf-8") as handle:
                handle.write("\n" * torn + json.dumps(line, ensure_ascii=False) + "\n")

    def runs(self) -> dict[tuple[str, str], dict[str, Any]]:
        """(Arm, label of its seed) → what became of the run last."""
        path = self.path / "runs.jsonl"
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for text in path.read_bytes().split(b"\n") if path.exists() else ():
            try:
                line = json.loads(text)
                found[(line["arm"], line["label"])] = line
            except (ValueError, KeyError, TypeError):  # of a runner that was killed as it wrote; others follow
                continue
        return found

    # ------------------------------------------------------------------------------------------ numbers

    def outcomes(self) -> Any:
        """The table of outcomes (pyarrow). Raises InputError where nothing has run, or the file can't be read."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.path / "outcomes.parquet"
        if not path.exists():
            raise InputError(f"{path}: not found; run the claim: trainyard experiment run experiments/{self.name}.yaml")
        try:
            return pq.read_table(path)
        except (OSError, pa.ArrowException) as error:
            raise self._broken(path, error) from None

    def cost(self) -> dict[str, Any]:
        return read_json(self.path / "cost.json")

    @property
    def has_verdict(self) -> bool:
        """Whether the claim has been run, to whatever end."""
        return (self.path / "verdict.json").exists()

    def verdict(self) -> Verdict:
        path = self.path / "verdict.json"
        try:
            return Verdict.model_validate(read_json(path))
        except ValidationError as error:
            raise self._broken(path, error) from None

    def _broken(self, path: Path, error: Exception) -> InputError:
        reason = " ".join(str(error).split())[:200]
        again = f"trainyard experiment run experiments/{self.name}.yaml"
        return InputError(f"{path}: can't be read ({reason}); make it again from what has run: {again}")

    def write(self, outcomes: Any, cost: dict[str, Any], verdict: Verdict) -> None:
        import pyarrow.parquet as pq

        with atomic_path(self.path / "outcomes.parquet") as temporary:
            pq.write_table(outcomes, temporary, compression="zstd")
        write_json(self.path / "cost.json", cost)
        write_json(self.path / "verdict.json", verdict.model_dump(mode="json"))


def declaration_text(declaration: Declaration) -> str:
    """The file's own text; of a declaration made in code, its content."""
    if declaration.path is not None and declaration.path.exists():
        return declaration.path.read_text(encoding="utf-8")
    return yaml.safe_dump(declaration._content, sort_keys=False, allow_unicode=True)


def changed_keys(old: Declaration, new: Declaration) -> list[str]:
    """Keys of the YAML whose content differs."""
    names = dict.fromkeys([*old._content, *new._content])
    return [f"`{name}`" for name in names if old._content.get(name) != new._content.get(name)]


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_run(run: Run, metrics: Iterable[Metric], store: Store) -> list[dict[str, Any]]:
    """Rows of the outcome table of a run that has ended. Raises InputError for a number that isn't one."""
    scratch = Path(tempfile.mkdtemp(prefix="outcomes-", dir=_made(store.folder / "work")))
    try:
        for path, md5 in target_digests(run, store).items():
            if md5 is None:
                (scratch / path).parent.mkdir(parents=True, exist_ok=True)
                (scratch / path).symlink_to(store.externals(run.root).place(path).resolve())
            else:
                store.objects.link(md5, scratch / path)
        rows = []
        for metric in metrics:
            for row in read_outcome(metric, scratch).to_dict("records"):
                rows.append({"metric": metric.name, "arm": run.arm, "seed": seed_label(run.seed), **row})
        return rows
    except MissingObject:
        store.objects.forget()
        raise InputError(f"{run.name}: its files have gone from DVC's cache; run the same command again") from None
    except InputError as error:
        raise InputError(str(error).replace(f"{scratch}/", "")) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def target_digests(run: Run, store: Store) -> dict[str, str | None]:
    """Path → digest of the files that a run was made for; None for one from outside the pipeline."""
    places = resolve(run, store).places
    return {source.path: digest(source, places, store, run) if source.makers else None for source in run.graph.targets}


def outcome_table(rows: Sequence[Mapping[str, Any]]) -> Any:
    """metric, arm, seed, item, cluster (str, "" where there is none), value, compute (FLOPs), predicted (null where
    there is none)."""
    import pyarrow as pa

    columns: dict[str, Any] = {name: pa.array([row.get(name, "") for row in rows], pa.string()) for name in COLUMNS}
    for name in NUMBERS:
        values = [None if row[name] != row[name] else row[name] for row in rows]
        columns[name] = pa.array(values, pa.float64())
    return pa.table(columns)


def cost_of(name: str, finished: Sequence[Finished], store: Store) -> dict[str, Any]:
    """What a claim's instances took: those that ran for it first, and those that were there already or that another
    claim ran. CPU and wall seconds of each as when it ran; dollars that judges were paid."""
    labels = {key: label for one in finished for label, key in one.keys.items()}
    executed: list[dict[str, Any]] = []
    reused: list[dict[str, Any]] = []
    for key, label in sorted(labels.items(), key=lambda pair: (pair[1], pair[0])):
        result = store.get(key)
        if result is None:
            continue
        row = {
            "key": key,
            "label": label,
            "cpu_seconds": result.cpu_seconds,
            "wall_seconds": result.wall_seconds,
            "usd": _dollars(result.outs, store),
        }
        (executed if result.first_claim == name else reused).append(row)
    return {
        "executed": executed,
        "reused": reused,
        "cpu_seconds": sum(row["cpu_seconds"] or 0.0 for row in executed),
        "reused_cpu_seconds": sum(row["cpu_seconds"] or 0.0 for row in reused),
        "judge_usd": sum(row["usd"] for row in executed),
    }


def _dollars(outs: Mapping[str, str], store: Store) -> float:
    """What an instance says in its metrics that it paid."""
    paid = 0.0
    for folder in outs.values():
        try:
            md5 = store.objects.within(folder, "metrics.json") if folder.endswith(".dir") else ""
            told = json.loads(store.objects.path(md5).read_bytes()) if md5 else {}
        except (MissingObject, InputError, FileNotFoundError, ValueError):
            continue
        paid += sum(float(value or 0) for key, value in told.items() if key == "usd" or key.endswith("_usd"))
    return paid
