"""Self-Instruct: a model writes instructions and answers of its own after examples (Wang et al. 2022; Alpaca, Taori et
al. 2023), in several generations, and people may have the last word."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from stages.alignment.answering.answers import Sampling
from stages.alignment.answering.kept_answers import kept_answers
from stages.alignment.data.inputs import read_model
from stages.alignment.data.records import GENERATED, Instruction, of_split, read_instructions, read_truth
from stages.alignment.leakage import LeakageParams, Search, Trained, read_held_out
from stages.alignment.writing.drift import drift
from stages.alignment.writing.few_shot import Form, Questions, Task, Tasks, read_seeds
from stages.alignment.writing.novelty import Novelty, rouge_l, words_of
from stages.alignment.writing.review import Written, edited, read_edits, to_review
from stages.alignment.writing.writers import BaseWriter, Teacher, TeacherWriter, Writer
from stages.base.errors import InputError
from stages.base.record import StageRun, stage
from stages.base.seeds import derive


class SelfInstructParams(Sampling):
    format: Form
    """questions: a question and its answer at once, which a small model can do. instructions: an instruction, whether
    it is a classification, then an instance, as in the paper."""
    seeds: str
    """Folder, or file, of tasks written by people; without any, the sft instructions are what is begun from."""
    generations: Annotated[int, Field(ge=1)]
    """From the second on, what the one before left is among the seeds."""
    candidates: Annotated[int, Field(ge=1)]
    """Instructions that are written in a generation, over all rounds."""
    rounds: Annotated[int, Field(ge=1)]
    """Of a generation; after each, what was kept may serve as an example."""
    seed_shots: Annotated[int, Field(ge=1)]
    """Examples of a prompt from the seeds."""
    machine_shots: Annotated[int, Field(ge=0)]
    """And from what was kept; the paper has 6 and 2."""
    overlap: Annotated[float, Field(gt=0, le=1)]
    """Highest ROUGE-L to anything kept."""
    min_words: Annotated[int, Field(ge=1)]
    """Of an instruction."""
    max_words: Annotated[int, Field(ge=1)]
    """Of an instruction."""
    excluded: list[str]
    """Words of instructions that a model of text can't follow."""
    review: Annotated[int, Field(ge=0)]
    """Rows that people are shown (to_review.jsonl), those most worth a look; each row then gets a second answer."""
    edits: str
    """Folder, or file, of what people said of them (JSON Lines)."""
    teacher: Teacher | None
    """Who writes: a model on a server, as Alpaca's was (Taori et al. 2023); null: the base model."""


PARAMS = {
    "alignment.self_instruct": SelfInstructParams,
    "alignment.base": str,
    "alignment.leakage": LeakageParams,
}  # fmt: skip
DROPS = pa.schema(
    [
        ("generation", pa.int32()), ("prompt", pa.string()), ("response", pa.string()), ("reason", pa.string()),
        ("overlap", pa.float32()),
    ]
)  # fmt: skip
ORIGIN = "self_instruct"


@dataclass
class Generation:
    """What was written in one of them."""

    kept: list[Task] = field(default_factory=list)
    parents: list[list[Task]] = field(default_factory=list)  # of each kept one: the examples that were shown
    overlaps: list[float] = field(default_factory=list)
    drops: list[dict[str, Any]] = field(default_factory=list)


def sample_examples(
    seeds: Sequence[Task], machine: Sequence[Task], params: SelfInstructParams, seed: int
) -> list[Task]:
    """The examples of one prompt, from both kinds, in a seeded order."""
    rng = np.random.default_rng(seed)
    own = [machine[i] for i in rng.permutation(len(machine))[: params.machine_shots]]
    given = [seeds[i] for i in rng.permutation(len(seeds))[: params.seed_shots]]
    both = given + own
    return [both[i] for i in rng.permutation(len(both))]


def propose(
    form: Questions | Tasks,
    write: Writer,
    seeds: Sequence[Task],
    rules: Novelty,
    params: SelfInstructParams,
    seed: int,
    number: int,
    leaks: Callable[[Task], bool],
) -> Generation:
    """Generation `number`: what passed the filters, in order of writing, and a drop for each other candidate. Nothing
    may be left. `rules` know all that was kept before, and learn what is kept now."""
    found = Generation()
    sizes = [len(part) for part in np.array_split(np.arange(params.candidates), params.rounds)]
    for turn, size in enumerate(sizes):
        stream = f"generation {number}, round {turn + 1}"
        groups = [
            sample_examples(seeds, found.kept, params, derive(seed, "examples", number, turn, place))
            for place in range(size)
        ]
        passed: list[tuple[Task, float, list[Task]]] = []
        for draft, group in zip(form.drafts(write, groups, stream) if size else [], groups, strict=True):
            closest = rules.closest(draft.instruction)
            unanswered = isinstance(form, Questions) and draft.instruction and not draft.output
            reason = "no_answer" if unanswered else rules.refusal(draft.instruction)
            if reason:
                found.drops.append(_drop(number, draft, reason, closest))
            else:
                passed.append((draft, closest, group))
        if not passed:
            continue
        shown = [group for *_, group in passed]
        for task, (_, closest, group) in zip(
            form.completed(write, shown, [draft for draft, *_ in passed], stream), passed, strict=True
        ):
            reason = "no_answer" if not task.output else "echo" if task.output == task.input else ""
            if reason := reason or ("leak" if leaks(task) else ""):
                found.drops.append(_drop(number, task, reason, closest))
            else:
                found.kept.append(replace(task, id=_name(number, task, found.kept)))
                found.overlaps.append(closest)
                found.parents.append(group)
    return found


def _name(generation: int, task: Task, kept: Sequence[Task]) -> str:
    """An id that hangs on the text: what people say of one text is never taken for another's."""
    digest = hashlib.sha256(f"{task.prompt}\x1f{task.output}".encode()).hexdigest()[:12]
    name = f"{ORIGIN}-{generation}-{digest}"
    return f"{name}-{len(kept)}" if any(other.id == name for other in kept) else name


def _drop(generation: int, task: Task, reason: str, overlap: float) -> dict[str, Any]:
    return {
        "generation": generation, "prompt": task.prompt, "response": task.output, "reason": reason, "overlap": overlap,
    }  # fmt: skip


def with_provenance(
    form: Questions | Tasks, write: Writer, found: Generation, number: int, params: SelfInstructParams
) -> list[Written]:
    """Rows of sft instructions, of which no truth is known. Where people are to be shown some, each has its writer's
    sureness and a second answer."""
    tasks = found.kept
    sure: list[float | None] = [None] * len(tasks)
    second = [""] * len(tasks)
    if params.review and tasks:
        asked = [form.asked_again(group, task) for group, task in zip(found.parents, tasks, strict=True)]
        sure = write.sureness(asked, [task.output for task in tasks])
        second = [form.answer(text) for text in write(asked, f"generation {number}, second answers")]
    return [
        Written(
            Instruction(task.id, "sft", ORIGIN, "", [], task.prompt, task.output), number,
            tuple(example.id for example in group), write.name, task.classification, overlap, logprob,
            _agreement(task.output, other) if params.review else None, other,
        )
        for task, group, overlap, logprob, other in zip(
            tasks, found.parents, found.overlaps, sure, second, strict=True
        )
    ]  # fmt: skip


def _agreement(first: str, second: str) -> float:
    """ROUGE-L of two texts."""
    ids: dict[str, int] = {}
    return rouge_l(*([ids.setdefault(word, len(ids)) for word in words_of(text)] for text in (first, second)))


def table_of(rows: Sequence[Written]) -> pa.Table:
    """GENERATED rows."""
    return pa.Table.from_pylist(
        [asdict(row.row) | {k: v for k, v in asdict(row).items() if k != "row"} for row in rows], schema=GENERATED
    )


def files_in(path: Path) -> list[Path]:
    """The file itself, or those of a folder that hold rows, by name; those that tell of the folder hold none."""
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith((".", "README")))


def seeds_of(run: StageRun[SelfInstructParams]) -> list[Task]:
    """One's own, or the sft instructions. Raises InputError for an id that stands twice."""
    own = [task for file in files_in(run.input(run.params.seeds)) for task in read_seeds(file)]
    rows = of_split(read_instructions(run), "sft")
    if not own:
        return [Task(row.id, row.prompt, "", row.response) for row in rows]
    if doubled := [name for name, count in Counter(task.id for task in own).items() if count > 1]:
        raise InputError(f"{run.params.seeds}: two seed tasks have the id `{doubled[0]}`; rename one")
    return own


def writer_of(run: StageRun[SelfInstructParams]) -> Writer:
    params = run.params
    model, tokenizer = read_model(run, run.section("alignment.base", str))
    if params.teacher is None:
        return BaseWriter(model, tokenizer, params, run.seed, kept_answers(run))
    return TeacherWriter(params.teacher, run.input(params.teacher.prompt).read_text(encoding="utf-8"))


def dropped_shares(drops: Sequence[Mapping[str, Any]], candidates: int) -> dict[str, float]:
    """By reason, of the candidates."""
    return {
        f"dropped_{reason}": count / candidates
        for reason, count in sorted(Counter(drop["reason"] for drop in drops).items())
    }


def main() -> None:
    with stage("alignment.self_instruct", SelfInstructParams, seed="run.seed") as run:
        params = run.params
        people, truth = seeds_of(run), read_truth(run)
        edits = [edit for file in files_in(run.input(params.edits)) for edit in read_edits(file)]
        form = Questions() if params.format == "questions" else Tasks(people)
        write, rules = writer_of(run), run.section("alignment.leakage", LeakageParams)
        search = Search(read_held_out(run), rules.ngram, rules.min_words)
        known = Novelty(
            (task.instruction for task in people), params.overlap, params.min_words, params.max_words, params.excluded
        )
        rows: list[Written] = []
        drops: list[dict[str, Any]] = []
        order = np.random.default_rng(derive(run.seed, "drift")).permutation(len(people))[: params.candidates]
        generations = [{"generation": 0, **drift([people[i] for i in order], people, truth)}]
        seeds = list(people)
        for number in range(1, params.generations + 1):
            found = propose(
                form, write, seeds, known, params, run.seed, number,
                lambda task: bool(search.leaks([Trained(task.id, task.prompt, (task.output,))])),
            )  # fmt: skip
            rows += with_provenance(form, write, found, number, params)
            drops += found.drops
            shares = dropped_shares(found.drops, params.candidates)
            generations.append({"generation": number, **drift(found.kept, people, truth), **shares})
            seeds = [*people, *found.kept]
        left, said = edited(rows, edits)
        unread = [row for row in rows if row.row.id not in {edit.id for edit in edits}]
        run.write_table("generated.parquet", table_of(left), GENERATED)
        run.write_table("drops.parquet", pa.Table.from_pylist(drops, schema=DROPS), DROPS)
        run.write_json("generations.json", {"written_by": write.name, "generations": generations})
        run.write_jsonl("to_review.jsonl", to_review(unread, params.review))
        candidates, reasons = params.candidates * params.generations, Counter(drop["reason"] for drop in drops)
        reasons["reviewer"] = len(rows) - len(left)
        run.write_json(
            "metrics.json",
            {
                "candidates": candidates,
                "kept": len(left),
                **{f"dropped_{reason}": count for reason, count in sorted(reasons.items()) if count},
                "classifications": sum(row.classification is True for row in left),
                **said,
            },
        )
        run.note("written_by", write.name)
        if left:  # a small base model may write nothing that passes: a finding, not a failure
            run.rows(candidates, len(left), reasons, max_drop=1.0)


if __name__ == "__main__":
    main()
