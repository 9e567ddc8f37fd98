"""The ladder: small models trained on the head of the packed stream, several at once, measured on the validation rows.

A finished point is kept in the project's store by the identity of all that it depends on, so that a new point, or a run
that was killed, trains what is missing. Each point is computed in one thread: it is the same whatever else is trained.
"""

import math
import multiprocessing
import signal
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
from stages.base.errors import ParamError, ResourceError, TrainyardError
from stages.base.files import sha256_file, write_json, write_jsonl
from stages.base.params import Section
from stages.base.progress import Progress
from stages.base.recipe import Recipe, Shape
from stages.base.record import stage
from stages.base.seeds import derive
from stages.base.workers import worker_count
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


def train_point(job: Job, recipe: Recipe, pack: Pack, checkpoint_every: int, trainer: Connection) -> None:
    """Train one point and write its files; says the steps it has done, and how it failed, through the pipe."""
    rows, validation = (PackedRows.of(f"{PACKED}/{name}.bin", pack) for name in ("train", "validation"))
    told = time.monotonic()

    def tell(done: int) -> None:
        nonlocal told
        if time.monotonic() - told > TOLD_EVERY:
            told = time.monotonic()
            trainer.send(done)

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


def train_points(jobs: Sequence[Job], recipe: Recipe, pack: Pack, checkpoint_every: int) -> None:
    """Train all in processes of one thread, the largest first: as many at once as there are cores and memory for."""
    memory, room = available(device()), worker_count()
    waiting, running = sorted(jobs, key=lambda one: (-one.flops, one.key)), dict[Connection, _Child]()
    done = dict.fromkeys((one.key for one in jobs), 0.0)
    with Progress(round(sum(one.flops for one in jobs) / 1e9), "ladder", unit="GFLOPs") as bar:
        try:
            while waiting or running:
                free = memory - sum(child.job.memory for child in running.values())
                while (fits := [one for one in waiting if one.memory <= free or not running]) and len(running) < room:
                    waiting.remove(fits[0])
                    child = _Child(fits[0], recipe, pack, checkpoint_every, list(running))
                    running[child.pipe] = child
                    free -= fits[0].memory
                for pipe in connection.wait(list(running), timeout=1.0):
                    child = running[pipe]  # type: ignore[index]
                    steps = child.steps_done()
                    if steps is None:
                        del running[child.pipe]
                        child.close()
                        _finish(child.job)
                        steps = child.job.steps
                    before = round(sum(done.values()) / 1e9)
                    done[child.job.key] = child.job.flops * steps / child.job.steps
                    bar.advance(
                        round(sum(done.values()) / 1e9) - before, points=len(jobs) - len(waiting) - len(running)
                    )
        finally:
            for child in running.values():
                child.process.terminate()
                child.close()


class _Child:
    """A process that trains one point."""

    def __init__(self, job: Job, recipe: Recipe, pack: Pack, checkpoint_every: int, siblings: list[Connection]) -> None:
        # A forked process starts at once, but can't use CUDA.
        context: Any = multiprocessing.get_context(
            "fork" if device().type == "cpu" and sys.platform == "linux" else "spawn"
        )
        self.job = job
        self.pipe, theirs = context.Pipe(duplex=False)
        inherited = [*siblings, self.pipe] if context.get_start_method() == "fork" else []
        self.process = context.Process(
            target=_live, args=(job, recipe, pack, checkpoint_every, theirs, inherited), daemon=True
        )
        self.process.start()
        theirs.close()

    def steps_done(self) -> int | None:
        """The steps done so far; None when the point is finished. Raises what the process failed with."""
        try:
            told = self.pipe.recv()
        except EOFError:
            self.process.join()
            raise ResourceError(
                f"the process of point `{self.job.key}` ended (exit status {self.process.exitcode}; -9 may be a lack "
                "of memory); run the same command again, with TRAINYARD_WORKERS=1 if memory is short"
            ) from None
        if isinstance(told, TrainyardError):
            raise told
        return told

    def close(self) -> None:
        self.process.join()
        self.pipe.close()


def _live(
    job: Job, recipe: Recipe, pack: Pack, checkpoint_every: int, trainer: Connection, inherited: list[Connection]
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the ladder's to handle
    for pipe in inherited:
        pipe.close()
    try:
        train_point(job, recipe, pack, checkpoint_every, trainer)
        trainer.send(None)
    except TrainyardError as error:
        trainer.send(error)
    except BrokenPipeError:  # the ladder has gone
        return


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
