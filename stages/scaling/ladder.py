"""The ladder: small models trained on the head of the packed stream, several at once, measured on the validation rows.

A finished point is kept in the project's store by the identity of all that it depends on, so that a new point, or a run
that was killed, trains what is missing. Each point is computed in one thread: it is the same whatever else is trained.
"""

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from stages.base import kept
from stages.base.artifacts import LADDER, PACK, PACKED
from stages.base.contracts.pack import Pack
from stages.base.contracts.point import Ladder, Point
from stages.base.errors import ParamError
from stages.base.files import sha256_file, write_json, write_jsonl
from stages.base.params import Section
from stages.base.progress import Progress
from stages.base.recipe import Recipe, Shape
from stages.base.record import stage
from stages.base.seeds import derive
from stages.base.workers import Child, can_fork, worker_count
from stages.lm.build import build_model
from stages.lm.checkpoint import fingerprint
from stages.lm.config import ModelConfig
from stages.lm.data import PackedRows, in_order
from stages.lm.device import device, environment, set_threads
from stages.lm.memory import available
from stages.lm.packed_training import Batches, PackedTraining, memory_of
from stages.lm.rates import wsd
from stages.lm.scoring import rows_loss

NAME = "scaling.ladder"
TOLD_EVERY = 0.5  # seconds between what a point's process says of its progress


class LadderParams(Section):
    checkpoint_every: Annotated[int, Field(ge=0)]
    """Steps between a point's checkpoints; 0: a point that is stopped starts again."""


class PointParams(Shape):
    arch: Literal["transformer", "lstm"]
    """Kind of model."""
    tokens: Annotated[int, Field(ge=1)]
    """Training tokens, rounded to whole steps."""


PARAMS: dict[str, type[Section]] = {NAME: LadderParams, "scaling.points.*": PointParams, "recipe": Recipe}


@dataclass(frozen=True)
class Job:
    """One point to train."""

    key: str
    config: ModelConfig
    rows: int  # a batch
    steps: int
    cooldown: int
    seed: int
    facts: dict[str, Any]  # of what the point is a function
    folder: Path
    memory: int  # bytes, estimated

    @property
    def tokens(self) -> int:
        return self.steps * self.rows * self.config.max_seq_len

    @property
    def flops(self) -> float:
        return self.tokens * self.config.flops_per_token(self.config.max_seq_len)


def steps_of(recipe: Recipe, tokens: int, seq_len: int) -> tuple[int, int, int]:
    """(batch rows, steps, cooldown steps). Raises ParamError if the run is too short for its schedule."""
    rows = max(1, round(recipe.batch_tokens / seq_len))
    steps = max(1, round(tokens / (rows * seq_len)))
    cooldown = max(recipe.min_cooldown_steps, round(recipe.cooldown * steps))
    if steps < recipe.warmup_steps + cooldown:
        raise ParamError(
            f"{tokens} tokens are {steps} steps of {rows * seq_len}: fewer than {recipe.warmup_steps} of warm-up and "
            f"{cooldown} of cooldown; raise the point's tokens or lower `recipe.batch_tokens`"
        )
    return rows, steps, cooldown


def job(
    key: str, point: PointParams, recipe: Recipe, pack: Pack, facts: dict[str, Any], seed: int, folder: Path
) -> Job:
    """Raises ParamError for a shape that can't be built, and for a run too short or too long."""
    config = ModelConfig.of(point.arch, point, recipe, pack.vocab_size, pack.seq_len)
    rows, steps, cooldown = steps_of(recipe, point.tokens, pack.seq_len)
    if steps * rows > pack.train.rows:
        raise ParamError(
            f"`scaling.points.{key}.tokens` = {point.tokens} needs {steps * rows} rows, the packed stream has "
            f"{pack.train.rows}; lower it (a ladder must not repeat more than the run it predicts)"
        )
    memory = memory_of(config, recipe, pack.seq_len, recipe.micro_rows).total
    return Job(key, config, rows, steps, cooldown, seed, facts, folder, memory)


def train_point(ladder: Connection, job: Job, recipe: Recipe, pack: Pack, checkpoint_every: int) -> None:
    """Train one point and write its files; tells the ladder how many steps it has done, all of them at the very end."""
    rows, validation = (PackedRows.of(f"{PACKED}/{name}.bin", pack) for name in ("train", "validation"))
    told = time.monotonic()

    def tell(done: int) -> None:
        nonlocal told
        if time.monotonic() - told > TOLD_EVERY and done < job.steps:
            told = time.monotonic()
            ladder.send(done)

    model = build_model(job.config, job.seed).to(device())
    batches = Batches(
        lambda step: rows.rows[in_order(step, job.rows, len(rows))], job.rows, pack.seq_len, pack.pad_id, pack.bos_id
    )
    with PackedTraining(
        model, recipe, batches, job.steps, at_fault=f"scaling.points.{job.key}", silent=True
    ) as training:
        result = training.train(
            lambda step: wsd(step, job.steps, recipe.warmup_steps, job.cooldown),
            job.steps,
            name=f"{NAME}@{job.key}",
            facts=job.facts,
            checkpoint_every=checkpoint_every,
            on_step=tell,
        )
    bos_id = pack.bos_id if recipe.document_mask else None
    measured = rows_loss(model, validation, (pack.pad_id, pack.bos_id), bos_id=bos_id)
    last = [row["loss"] for row in result.rows[-10:]]
    facts = {
        "n_params": job.config.param_count(),
        "n_nonembedding": job.config.non_embedding_count(),
        "tokens": job.tokens,
        "flops": job.flops,
        "loss": measured.loss,
        "bpb": measured.bits_per_byte(pack.validation.bytes),
        "train_loss": math.fsum(last) / len(last),
        "lr": recipe.lr,
        "steps": len(result.rows),
    }
    own = {"key": job.key, "arch": job.config.arch, "model": job.config.to_dict(), "recipe": recipe}
    point = Point.model_validate(facts | own)
    write_json(job.folder / "point.json", point.model_dump(mode="json"))
    write_json(job.folder / "metrics.json", facts)
    write_jsonl(job.folder / "steps.jsonl", result.rows)
    result.discard()
    ladder.send(job.steps)


def train_points(jobs: Sequence[Job], recipe: Recipe, pack: Pack, checkpoint_every: int) -> None:
    """Train all in processes of one thread, the largest first: as many at once as there are cores and memory for."""
    home = device()
    memory, room, fork = available(home), worker_count(), home.type == "cpu" and can_fork()
    waiting, running = sorted(jobs, key=lambda one: (-one.flops, one.key)), dict[Connection, tuple[Job, Child]]()
    done = dict.fromkeys((one.key for one in jobs), 0.0)
    with Progress(round(sum(one.flops for one in jobs) / 1e9), "ladder", unit="GFLOPs") as bar:
        try:
            while waiting or running:
                free = memory - sum(job.memory for job, _ in running.values())
                fits = next((one for one in waiting if one.memory <= free or not running), None)
                if fits is not None and len(running) < room:
                    waiting.remove(fits)
                    name, siblings = f"the process of point `{fits.key}`", [child for _, child in running.values()]
                    child = Child(name, train_point, fits, recipe, pack, checkpoint_every, fork=fork, siblings=siblings)
                    running[child.pipe] = (fits, child)
                    continue
                for pipe in connection.wait(list(running)):
                    job, child = running[pipe]  # type: ignore[index]
                    steps = child.receive()
                    if steps == job.steps:
                        del running[child.pipe]
                        child.close()
                        _finish(job)
                    before = round(sum(done.values()) / 1e9)
                    done[job.key] = job.flops * steps / job.steps
                    finished = len(jobs) - len(waiting) - len(running)
                    bar.advance(round(sum(done.values()) / 1e9) - before, points=finished)
        finally:
            for _, child in running.values():
                child.close(kill=True)


def _finish(job: Job) -> None:
    """The point's own record, as of a stage's item; then it is kept."""
    written = sorted(path for path in job.folder.iterdir() if path.is_file())
    record = {
        "stage": NAME,
        "item": job.key,
        **job.facts,
        "outputs": {f"{LADDER}/{job.key}/{path.name}": sha256_file(path) for path in written},
        "rows": None,
        "notes": {"arch": job.config.arch, "environment": environment(), "fingerprint": fingerprint(job.facts)},
    }
    write_json(job.folder / "record.json", record)
    kept.keep(job.folder)


def main() -> None:
    with stage(NAME, LadderParams, seed="run.seed") as run:
        set_threads()
        recipe, points = run.section("recipe", Recipe), run.section("scaling.points", dict[str, PointParams])
        pack = run.read_contract(PACK, Pack)
        for name in ("train", "validation"):
            PackedRows.of(run.input(f"{PACKED}/{name}.bin"), pack)
        facts = run.facts()
        shared = {name: facts["params"][name] for name in ("run.seed", "recipe")}
        jobs = []
        for key, point in points.items():
            own, seed = (
                shared | {f"scaling.points.{key}": facts["params"]["scaling.points"][key]},
                derive(run.seed, key),
            )
            folder = run.output(f"{key}/point.json").parent
            jobs.append(job(key, point, recipe, pack, facts | {"params": own, "seed": seed}, seed, folder))
        missing = [one for one in jobs if not kept.recall(NAME, fingerprint(one.facts), one.folder)]
        if len(missing) < len(jobs):
            print(
                f"ladder: {len(jobs) - len(missing)} of {len(jobs)} points are kept from earlier runs", file=sys.stderr
            )
        train_points(missing, recipe, pack, run.params.checkpoint_every)
        run.write_contract("points.json", Ladder(points=list(points)))
        run.note("environment", environment())


if __name__ == "__main__":
    main()
