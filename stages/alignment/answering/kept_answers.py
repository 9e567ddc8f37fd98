"""Answers as they are decoded, on disk, so that a stage that is killed while it samples goes on from the last ones."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stages.base.progress import Progress
from stages.base.record import StageRun
from stages.base.workers import worker_count
from stages.lm.build import LanguageModel
from stages.lm.checkpoint import CHECKPOINTS, fingerprint
from stages.lm.shards import possible_processes

BATCH = 32  # prompts decoded together: few enough for several processes to have some
SECONDS = 10.0  # of decoding that are kept at once, at least


class KeptAnswers:
    """A file for every model and list of prompts that were asked, in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def complete(
        self,
        model: LanguageModel,
        work: Sequence[tuple[list[int], int]],
        how: Sequence[Any],
        decode: Callable[[Sequence[int]], list[list[int]]],
        label: str,
    ) -> list[list[int]]:
        """decode(0 … n - 1), with what an earlier run has kept of it.

        work: ids and seed of each prompt. how: what else the answers depend on, JSON values. decode(numbers) gives the
        new tokens of these prompts; what a prompt is given may not depend on which others are asked with it.
        """
        order = sorted(range(len(work)), key=lambda number: (len(work[number][0]), work[number][0], number))
        identity = _identity(model, how, work)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"answers-{identity}.jsonl"
        found = _read(path)
        rest = [number for number in order if number not in found]
        size = BATCH * max(1, possible_processes(worker_count()))
        bar = Progress(len(order), label, unit="prompts", alone=True)
        with bar, path.open("a", encoding="utf-8") as log:
            bar.start_at(len(found))
            while rest:
                part, rest = rest[:size], rest[size:]
                start = time.monotonic()
                decoded = dict(zip(part, decode(part), strict=True))
                found |= decoded
                log.write(_line(decoded))
                log.flush()
                bar.advance(len(part))
                if time.monotonic() - start < SECONDS:
                    size *= 2
        return [found[number] for number in range(len(order))]

    def discard(self) -> None:
        """Remove all of them: what was made of the answers is safely elsewhere."""
        shutil.rmtree(self.folder, ignore_errors=True)


def kept_answers(run: StageRun[Any]) -> KeptAnswers:
    """Those of this run of a stage, removed when its outputs are in their place."""
    kept = KeptAnswers(CHECKPOINTS / run.name / fingerprint(run.facts()))
    run.when_done(kept.discard)
    return kept


def _identity(model: LanguageModel, *facts: Any) -> str:
    """16 hex digits over a model's weights and other facts, JSON values."""
    digest = hashlib.sha256(json.dumps(facts).encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().float().numpy().tobytes())
    return digest.hexdigest()[:16]


def _line(decoded: dict[int, list[int]]) -> str:
    text = json.dumps(decoded, separators=(",", ":"))
    return f"\n{_sum(text)} {text}"  # the newline first: the line before may have been cut short


def _sum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _read(path: Path) -> dict[int, list[int]]:
    """The whole lines; one that was cut short, or damaged, is as good as none."""
    found: dict[int, list[int]] = {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    for line in lines:
        checksum, _, text = line.partition(" ")
        if checksum == _sum(text):
            found |= {int(number): ids for number, ids in json.loads(text).items()}
    return found
