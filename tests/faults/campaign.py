"""A finished pipeline in a folder of its own, on which faults are tried: stages run as forks of this process, so that a
try takes no imports, and every file is compared with those of an undisturbed run."""

import contextlib
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from stages.base.files import sha256_file
from stages.base.pipeline import Declared, read_pipeline
from tests.faults import inject

ROOT = Path(__file__).resolve().parents[2]
LONGEST_S = 300.0
ALONE = {"OMP_NUM_THREADS": "1", "TRAINYARD_WORKERS": "1", "TRAINYARD_TRACK": "off"}
ALONE |= {"DVC_STAGE": "campaign"}  # digests of code as `check` has written them: DVC's stages read them there, too


class Ended(NamedTuple):
    """status: exit status, negative for a signal; None where it had to be killed for taking too long."""

    status: int | None
    seconds: float
    said: str

    @property
    def line(self) -> str:
        """What the stage ended with, if that was one line of Trainyard's and no traceback."""
        told = [line for line in self.said.splitlines() if line.startswith("trainyard: ")]
        return told[-1] if told and "Traceback" not in self.said else ""


@dataclass(frozen=True)
class Point:
    """A write point of a stage."""

    stage: str
    number: int
    event: str
    path: str


class Campaign:
    """Stages in a project's folder. Everything that they print goes to `folder/.faults/`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.notes = self.folder.with_name(f"{self.folder.name}.notes")
        self.notes.mkdir(parents=True, exist_ok=True)
        self.stages: dict[str, Declared] = {one.label: one for one in read_pipeline(self.folder)}
        self.expected: dict[str, str] = {}
        self.seconds: dict[str, float] = {}
        self.points: dict[str, list[Point]] = {}

    @classmethod
    def tiny(cls, folder: Path) -> "Campaign":
        """The pipeline of scale `tiny` in a new folder; nothing has run."""
        tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in tracked.splitlines():
            if name.split("/")[0] not in ("tests", "bench", "reports") and (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, folder / name)
        configure = [sys.executable, "-m", "stages.cli", "configure", "tiny", "--write"]
        subprocess.run(configure, cwd=folder, env=os.environ | {"PYTHONPATH": str(folder)}, check=True,
                       stdout=subprocess.DEVNULL)  # fmt: skip
        return cls(folder)

    def run_all(self, labels: Iterable[str] | None = None, **how: object) -> None:
        """Every stage once, undisturbed, in order: its files, its time and its write points."""
        for label in labels or self.stages:
            told = self.notes / "points.txt"
            ended = self.run(label, "list", told=told, **how)  # type: ignore[arg-type]
            if ended.status != 0:
                raise RuntimeError(f"{label} ended with {ended.status}:\n{ended.said[-2000:]}")
            lines = told.read_text(encoding="utf-8").splitlines()
            self.points[label] = [Point(label, number, *line.split("\t")) for number, line in enumerate(lines)]
            self.seconds[label] = ended.seconds
            self._warm()
        self.expected = self.files()

    def run(
        self,
        label: str,
        kind: inject.Kind | None = None,
        at: int = 0,
        *,
        told: Path | None = None,
        environment: Mapping[str, str] | None = None,
        before: Callable[[], object] | None = None,
        meanwhile: Callable[[int], object] | None = None,
    ) -> Ended:
        """A stage as a fork, with a fault. before: what the fork does first; meanwhile(pid): what this process does
        while the fork runs."""
        stage, modules = self.stages[label], self.notes / "modules.json"

        def work() -> None:
            os.chdir(self.folder)
            os.environ.update(ALONE | dict(environment or {}))
            known = set(sys.modules)
            module = importlib.import_module(f"stages.{stage.name}")
            sys.argv = [f"stages.{stage.name}", *([stage.item] if stage.item else [])]
            if before is not None:
                before()
            if kind is not None:
                inject.install(kind, at, Path.cwd(), told)
            status: str | int | None = 0
            try:
                status = module.main()
            finally:
                if kind == "list":
                    new = [name for name, one in sys.modules.items() if name not in known and hasattr(one, "__spec__")]
                    modules.write_text(json.dumps(new), encoding="utf-8")
            sys.exit(status)

        start, output = time.monotonic(), self.notes / "said.txt"
        child = inject.forked(work, output)
        if meanwhile is not None:
            meanwhile(child)
        status = _wait(child, LONGEST_S)
        return Ended(status, time.monotonic() - start, output.read_text(encoding="utf-8", errors="replace"))

    def files(self) -> dict[str, str]:
        """Path → sha256 of all that stands in `data` and `reports`, what is hidden included."""
        found = [path for top in ("data", "reports") for path in (self.folder / top).rglob("*") if path.is_file()]
        return {path.relative_to(self.folder).as_posix(): sha256_file(path) for path in sorted(found)}

    def remove_outputs(self, label: str) -> None:
        """As DVC does before it runs a stage."""
        for out in self.stages[label].outs:
            path = self.folder / out
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def half_written(self) -> list[str]:
        """Files in sight that aren't those of the undisturbed run."""
        now = {path: digest for path, digest in self.files().items() if "/." not in path}
        return [path for path, digest in now.items() if self.expected.get(path) != digest]

    def differences(self) -> list[str]:
        """Files that are missing, too many or others than in the undisturbed run."""
        now = self.files()
        return sorted(path for path in now.keys() | self.expected.keys() if now.get(path) != self.expected.get(path))

    def leftovers(self, label: str) -> list[str]:
        """Checkpoints of a stage that has finished, and what tells followers that it runs."""
        side = self.folder / ".trainyard"
        name = label.partition("@")[0] if label not in self.stages else self.stages[label].name
        return [str(path) for path in (side / "checkpoints").glob(f"{name}*/*")]

    def restore(self, label: str) -> list[str]:
        """Run the stage again and compare; what is wrong then."""
        ended = self.run(label)
        if ended.status != 0:
            return [f"rerun ended with {ended.status}: {ended.said[-300:]}"]
        return self.differences() + self.leftovers(label)

    def _warm(self) -> None:
        """Import here what the last stage has imported: its next fork has it."""
        names = json.loads((self.notes / "modules.json").read_text(encoding="utf-8"))
        for name in names:
            if name not in sys.modules and not name.startswith("__"):
                with contextlib.suppress(Exception):
                    importlib.import_module(name)


def _wait(child: int, longest: float) -> int | None:
    """The exit status of a fork that may take so many seconds; its group is gone afterwards."""
    give_up, late = time.monotonic() + longest, False
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            break
        if time.monotonic() > give_up:
            late = True
            os.kill(child, signal.SIGKILL)
        time.sleep(0.005)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    return None if late else os.waitstatus_to_exitcode(status)
