"""Has the base model seen the tests? An ordering test, proof that the test can see, and the overlap of the texts."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from stages.base import schemas
from stages.base.artifacts import EVALUATED, MODELS, PACK, PACKED, TASKS, TRAIN, read_instructions
from stages.base.contracts.contamination import Contamination, Ordering, Overlap, Planted, Power, SplitAccuracy
from stages.base.contracts.pack import Pack
from stages.base.params import Section
from stages.base.recipe import Recipe
from stages.base.record import StageRun, stage
from stages.base.seeds import derive
from stages.evaluation.items import ITEM
from stages.evaluation.ordering import Many, OrderingTest, model_logprob, ordering_test
from stages.evaluation.overlap.exact import find, ngrams, share, words
from stages.evaluation.planting import (
    ProbeParams,
    TooFewQuestions,
    disjoint_sets,
    planted_rows,
    sample_rows,
    train_probe,
)
from stages.lm.chat import ChatTokenizer, load_tokenizer
from stages.lm.checkpoint import load_model
from stages.lm.data import PackedRows
from stages.lm.device import set_threads

__all__ = ["OrderingTest", "ordering_test"]

Example = tuple[str, str]  # id and text
Share = Annotated[float, Field(gt=0, le=1)]


class ContaminationParams(Section):
    examples: Annotated[int, Field(ge=4)]
    """Of each task, from its start, for the ordering test."""
    shards: Annotated[int, Field(ge=2)]
    """Parts of the examples whose order is tested separately."""
    permutations: Annotated[int, Field(ge=1)]
    """Shuffled orders that each part's own is compared with."""
    alpha: Annotated[float, Field(gt=0, lt=1)]
    """p below which a task counts as contaminated."""
    ngram: Annotated[int, Field(ge=1)]
    """Words; one shared run is worth a note (GPT-3: 13)."""
    share_ngram: Annotated[int, Field(ge=1)]
    """Words (PaLM: 8)."""
    dirty_share: Share
    """Of an item's runs of `share_ngram` words in the training text, from which it is dirty (PaLM: 0.7)."""
    probe: ProbeParams


PARAMS: dict[str, type[Section]] = {"evaluation.contamination": ContaminationParams, "recipe": Recipe}
MODEL = "base"  # the one that was trained on this corpus
PROTOCOL = "cloze"
JUDGED = "test-instructions"  # no key of a task has a hyphen


def rendered(question: str, answer: str) -> str:
    """A test example as a leaked test file would show it."""
    return f"Question: {question}\nAnswer: {answer}\n\n"


def choice_examples(table: pa.Table) -> list[Example]:
    """Each test question with its answer, in file order: the order that was published."""
    return [
        (row["id"], rendered(row["question"], row["choices"][row["answer"]]))
        for row in table.to_pylist()
        if row["split"] == "test"
    ]


def instruction_examples(rows: Iterable[Mapping[str, Any]], *, test: bool) -> list[Example]:
    """Instructions that ask one thing at the most, of the test split or of all others, with their answers."""
    return [
        (row["id"], rendered(row["prompt"], row["response"]))
        for row in rows
        if len(row["attributes"] or ()) <= 1 and (row["split"] == "test") == test
    ]


def order_of(task: str, examples: list[Example], logprob: Many, params: ContaminationParams, seed: int) -> Ordering:
    """The ordering test on one task; `unknown` where it has too few questions. Whether it could see is judged later."""
    tested = [text for _, text in examples[: params.examples]]
    if len(tested) < 2 * params.shards:
        reason = f"{len(tested)} test questions are too few for {params.shards} shards of two"
        return Ordering(
            task=task, examples=len(tested), p_value=None, t=None, differences=[], verdict="unknown", reason=reason
        )
    found = ordering_test(
        logprob, tested, params.shards, params.permutations, derive(seed, "tested", task), batched=True
    )
    return Ordering(
        task=task,
        examples=len(tested),
        p_value=found.p_value,
        t=found.t,
        differences=list(found.differences),
        verdict="contaminated" if found.p_value < params.alpha else "clean",
        reason="",
    )


def believed(found: Ordering, power: Power) -> Ordering:
    """A test that sees no planted set can't call a set clean."""
    if found.verdict != "clean" or power.detects_from_copies is not None:
        return found
    return found.model_copy(
        update={"verdict": "undecided", "reason": power.reason or "the test found no planted set either"}
    )


def smallest_detected(planted: Sequence[Planted], alpha: float) -> int | None:
    """The fewest copies from which on every planted set was found out; None if the largest wasn't."""
    found = None
    for row in sorted(planted, key=lambda row: -row.copies):
        if row.copies == 0 or row.p_value >= alpha:
            break
        found = row.copies
    return found


def probe_power(run: StageRun[ContaminationParams], tokenizer: ChatTokenizer, examples: list[Example]) -> Power:
    """Train the probe and test each planted set; says why not where there are too few questions to plant."""
    params = run.params
    pack = run.read_contract(PACK, Pack)
    packed = PackedRows.of(run.input(f"{PACKED}/train.bin"), pack)
    try:
        sets = disjoint_sets([text for _, text in examples], params.probe.copies, params.probe.examples, run.seed)
    except TooFewQuestions as error:
        return Power(planted=[], detects_from_copies=None, reason=str(error))
    background = sample_rows(packed.rows, params.probe.background_tokens, run.seed)
    rows = planted_rows(background, sets, tokenizer, run.seed)
    probe = train_probe(rows, pack, params.probe, run.section("recipe", Recipe), run.seed)
    logprob = model_logprob(probe, tokenizer)
    found = []
    for index, planted in enumerate(sets):
        seed = derive(run.seed, "planted", index)
        test = ordering_test(logprob, planted.examples, params.shards, params.permutations, seed, batched=True)
        found.append(Planted(copies=planted.copies, p_value=test.p_value, t=test.t))
    found.sort(key=lambda row: row.copies)
    return Power(planted=found, detects_from_copies=smallest_detected(found, params.alpha), reason="")


def overlaps(
    sets: Mapping[str, list[Example]], texts: Iterable[str], params: ContaminationParams
) -> dict[str, Overlap]:
    """What each set of questions shares with the training text, which is read once."""
    sizes = (params.ngram, params.share_ngram)
    grams = {
        (name, n): [ngrams(words(text), n) for _, text in examples] for name, examples in sets.items() for n in sizes
    }
    found = find({gram for items in grams.values() for own in items for gram in own}, texts)
    results = {}
    for name, examples in sets.items():
        runs, shares = ([share(own, found) for own in grams[name, n]] for n in sizes)
        dirty = sorted(id for (id, _), part in zip(examples, shares, strict=True) if part >= params.dirty_share)
        results[name] = Overlap(
            set=name,
            items=len(examples),
            ngram=params.ngram,
            any_ngram=float(np.mean([run > 0 for run in runs])) if examples else None,
            share_ngram=params.share_ngram,
            mean_share=float(np.mean(shares)) if examples else None,
            dirty=len(dirty) / len(examples) if examples else None,
            dirty_ids=dirty,
            verdict="contaminated" if dirty else "clean" if examples else "unknown",
            reason="" if examples else "no test questions",
        )
    return results


def split_accuracy(task: str, items: list[dict[str, Any]], dirty: set[str]) -> SplitAccuracy:
    """Accuracy on all, clean and dirty questions: a gain that dirt alone brings shows as a gap."""
    answers = {
        row["id"]: row["choice"] == row["answer"] for row in items if (row["set"], row["protocol"]) == (task, PROTOCOL)
    }
    parts = {
        "all": list(answers.values()),
        "clean": [right for id, right in answers.items() if id not in dirty],
        "dirty": [right for id, right in answers.items() if id in dirty],
    }
    counts: dict[str, Any] = {f"{name}_questions": len(values) for name, values in parts.items()}
    means: dict[str, Any] = {
        f"{name}_acc": float(np.mean(values)) if values else None for name, values in parts.items()
    }
    return SplitAccuracy(task=task, protocol=PROTOCOL, **counts, **means)


def training_texts(run: StageRun[ContaminationParams]) -> Iterator[str]:
    for batch in run.batches(TRAIN, schemas.MIXED, ["text"]):
        yield from batch["text"].to_pylist()


def flat(result: Contamination) -> dict[str, float]:
    """Numbers for `metrics.json`."""
    found: dict[str, float | None] = {f"{row.task}_ordering_p_value": row.p_value for row in result.ordering}
    found |= {f"planted_{row.copies}_p_value": row.p_value for row in result.power.planted}
    for row in result.overlap:
        found[f"{row.set}_any_{row.ngram}gram"] = row.any_ngram
        found[f"{row.set}_mean_{row.share_ngram}gram_share"] = row.mean_share
        found[f"{row.set}_dirty"] = row.dirty
    for part in result.accuracy:
        found |= {
            f"{part.task}_{name}": value
            for name, value in part.model_dump(exclude={"task", "model", "protocol", "method"}).items()
        }
    return {name: value for name, value in found.items() if value is not None}


def main() -> None:
    with stage("evaluation.contamination", ContaminationParams, seed="run.seed") as run:
        set_threads()
        params, folder = run.params, run.input(f"{MODELS}/{MODEL}")
        tokenizer = load_tokenizer(folder)
        tasks = {
            key: choice_examples(run.read_table(f"{TASKS}/{key}/questions.parquet", schemas.TASK))
            for key in run.items(TASKS)
        }
        instructions = read_instructions(run)
        items = run.read_table(f"{EVALUATED}/{MODEL}/items.parquet", ITEM).to_pylist()
        logprob = model_logprob(load_model(folder), tokenizer)
        power = probe_power(run, tokenizer, instruction_examples(instructions, test=False))
        sets = tasks | {JUDGED: instruction_examples(instructions, test=True)}
        overlap = overlaps(sets, training_texts(run), params)
        result = Contamination(
            model=MODEL,
            alpha=params.alpha,
            dirty_share=params.dirty_share,
            ordering=[
                believed(order_of(key, examples, logprob, params, run.seed), power) for key, examples in tasks.items()
            ],
            power=power,
            overlap=list(overlap.values()),
            accuracy=[split_accuracy(key, items, set(overlap[key].dirty_ids)) for key in tasks],
        )
        run.write_contract("contamination.json", result)
        run.write_json("metrics.json", flat(result))


if __name__ == "__main__":
    main()
