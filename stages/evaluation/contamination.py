"""Has the base model seen the tests? An ordering test, proof that the test can see, the overlap of the texts, and what
that says of each model.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from stages.base import schemas
from stages.base.artifacts import EVALUATED, MODELS, PACK, PACKED, TASKS, TRAIN, VALIDATION, read_instructions
from stages.base.contracts.contamination import (
    Canary,
    Contamination,
    Membership,
    Ordering,
    Overlap,
    Planted,
    Power,
    TaskVerdict,
)
from stages.base.contracts.pack import Pack
from stages.base.params import Section
from stages.base.recipe import Recipe
from stages.base.record import StageRun, stage
from stages.base.seeds import derive
from stages.evaluation.clean_subset import split_accuracy
from stages.evaluation.entropy import next_tokens
from stages.evaluation.examples import Example, instruction_examples, task_examples
from stages.evaluation.exchangeability import Arrangement, arrangement
from stages.evaluation.items import ITEM
from stages.evaluation.membership import canaries, exposure, min_k, min_k_plus_plus, rank_of, separation
from stages.evaluation.ordering import Many, OrderingTest, model_logprob, ordering_test
from stages.evaluation.overlap.index import Index
from stages.evaluation.overlap.search import Match, Rules, search
from stages.evaluation.overlap.summary import OVERLAP, overlap_of, overlap_table
from stages.evaluation.planting import (
    ProbeParams,
    TooFewQuestions,
    planted_canaries,
    planted_rows,
    planted_sets,
    sample_rows,
    train_probe,
)
from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer, load_tokenizer
from stages.lm.checkpoint import load_model
from stages.lm.data import PackedRows
from stages.lm.device import set_threads

__all__ = ["OrderingTest", "ordering_test"]

Share = Annotated[float, Field(gt=0, le=1)]
Words = Annotated[int, Field(ge=1)]


class OrderingParams(Section):
    examples: Annotated[int, Field(ge=4)]
    """Of each task, from its start, for the ordering test."""
    shards: Annotated[int, Field(ge=2)]
    """Parts of the examples whose order is tested separately."""
    permutations: Annotated[int, Field(ge=1)]
    """Shuffled orders that each part's own is compared with."""
    alpha: Annotated[float, Field(gt=0, lt=1)]
    """p below which a task counts as contaminated."""


class ContaminationParams(OrderingParams):
    ngram: Words
    """Words; one shared run makes an item suspect (GPT-3: 13)."""
    share_ngram: Words
    """Words (PaLM: 8)."""
    dirty_share: Share
    """Of an item's runs of `share_ngram` words in the training text, from which it is dirty (PaLM: 0.7)."""
    span: Words
    """Equal words that a span begins with (Llama 2: 10); of a suspect item 20 % of the words are in spans, of a dirty
    one 80 %."""
    skips: Annotated[int, Field(ge=0)]
    """Words of a span that may differ behind these (Llama 2: 4)."""
    probe: ProbeParams


PARAMS: dict[str, type[Section]] = {"evaluation.contamination": ContaminationParams, "recipe": Recipe}
MODEL = "base"  # the one that was trained on this corpus
INDEX = "data/evaluation/corpus_index"
DOCUMENTS = "data/corpus/decontaminate/documents.parquet"  # knows the URLs
COLUMNS = ["id", "source", "text"]
KNOWN, BEGINNING = 100, 600  # documents in and out of the training text, and characters of each, for Min-K %
K = 0.2  # share of a text's tokens that Min-K % looks at (Shi et al. 2023)
Method = Literal["min_k", "min_k_plus_plus"]
JUDGED = "test-instructions"  # no key of a task has a hyphen


def arranged(examples: Sequence[Example], seed: int) -> Arrangement:
    return arrangement(
        [example.text for example in examples],
        [example.subject for example in examples],
        [example.choice for example in examples],
        seed,
    )


def order_of(task: str, examples: Sequence[Example], logprob: Many, params: OrderingParams, seed: int) -> Ordering:
    """The ordering test on one task; `unknown` where it has too few questions, `not exchangeable` where its order means
    something. Whether the test could see is judged later."""
    tested = examples[: params.examples]
    nothing = Ordering(
        task=task, model=MODEL, examples=len(tested), p_value=None, t=None, differences=[], verdict="unknown", reason=""
    )
    if len(tested) < 2 * params.shards:
        reason = f"{len(tested)} test questions are too few for {params.shards} shards of two"
        return nothing.model_copy(update={"reason": reason})
    seed = derive(seed, "tested", task)
    blocks, reason = arranged(tested, seed)
    if reason:
        return nothing.model_copy(update={"verdict": "not exchangeable", "reason": reason})
    found = ordering_test(
        logprob, [example.text for example in tested], params.shards, params.permutations, seed, batched=True,
        blocks=blocks,
    )  # fmt: skip
    return nothing.model_copy(
        update={
            "p_value": found.p_value,
            "t": found.t,
            "differences": list(found.differences),
            "permutations": params.permutations,
            "blocks": len(dict.fromkeys(blocks)) if blocks else 1,
            "verdict": "contaminated" if found.p_value < params.alpha else "clean",
        }
    )


def believed(found: Ordering, power: Power) -> Ordering:
    """A test that sees no planted set can't call a set clean."""
    if found.verdict != "clean" or power.detects_from_copies is not None:
        return found
    return found.model_copy(
        update={"verdict": "undecided", "reason": power.reason or "the test found no planted set either"}
    )


def smallest_detected(planted: Sequence[Planted], alpha: float) -> int | None:
    """The fewest copies from which on every set planted in one order was found out; None if the largest wasn't."""
    found = None
    for row in sorted((row for row in planted if not row.shuffled), key=lambda row: -row.copies):
        if row.copies == 0 or row.p_value >= alpha:
            break
        found = row.copies
    return found


def probe_power(run: StageRun[ContaminationParams], tokenizer: ChatTokenizer, examples: list[Example]) -> Power:
    """Train the probe and test each planted set and canary; says why not where there are too few questions to plant."""
    params, probe = run.params, run.params.probe
    pack, recipe = run.read_contract(PACK, Pack), run.section("recipe", Recipe)
    packed = PackedRows.of(run.input(f"{PACKED}/train.bin"), pack)
    try:
        sets = planted_sets([example.text for example in examples], probe, run.seed)
    except TooFewQuestions as error:
        return Power(planted=[], detects_from_copies=None, reason=str(error))
    strings = canaries(derive(run.seed, "canaries"), probe.canaries + len(probe.copies) - 1)
    background = sample_rows(packed.rows, probe.background_tokens, run.seed)
    rows = planted_rows(background, [*sets, *planted_canaries(probe.copies, strings)], tokenizer, run.seed)
    model = train_probe(rows, pack, probe, recipe, run.seed)
    logprob = model_logprob(model, tokenizer)
    found = []
    for index, planted in enumerate(sets):
        seed = derive(run.seed, "planted", index)
        test = ordering_test(logprob, planted.examples, params.shards, params.permutations, seed, batched=True)
        found.append(Planted(copies=planted.copies, p_value=test.p_value, t=test.t, shuffled=planted.shuffled))
    found.sort(key=lambda row: (row.shuffled, row.copies))
    return Power(
        planted=found,
        detects_from_copies=smallest_detected(found, params.alpha),
        reason="",
        probe_parameters=sum(weights.numel() for weights in model.parameters()),
        probe_tokens=rows.size,
        recipe=f"{probe.n_layer} layers of width {probe.d_model}, trained by the run's own recipe",
        canaries=exposures(probe.copies, logprob([[string] for string in strings])),
    )


def exposures(copies: Sequence[int], values: Sequence[float]) -> list[Canary]:
    """values: log p of the planted strings, one for each number of copies, then of those that nobody planted."""
    others = values[len(copies) :]
    ranks = [rank_of(value, others) for value in values[: len(copies)]]
    size = len(others) + 1
    found = [
        Canary(copies=count, rank=rank, of=size, exposure=exposure(rank, size))
        for count, rank in zip(copies, ranks, strict=True)
    ]
    return sorted(found, key=lambda row: row.copies)


def rules_of(params: ContaminationParams) -> Rules:
    return Rules(params.ngram, params.share_ngram, params.dirty_share, params.span, params.skips)


def overlaps(
    run: StageRun[ContaminationParams], sets: Mapping[str, list[Example]]
) -> tuple[list[Overlap], dict[str, list[Match]]]:
    """What each set shares with the training text, by one look at its index; `overlap.parquet` has a row an item."""
    rules = rules_of(run.params)
    every = [example for examples in sets.values() for example in examples]
    found = search(Index(run.input(INDEX)), [one.question for one in every], [one.answer for one in every], rules)
    urls = urls_of(run, {match.place.document for match in found if match.place})
    told, matches, start = [], {}, 0
    with run.table("overlap.parquet", OVERLAP) as table:
        for key, examples in sets.items():
            ids, own = [one.id for one in examples], found[start : start + len(examples)]
            start += len(examples)
            told.append(overlap_of(key, ids, own, rules, urls))
            table.write(overlap_table(key, ids, own, urls))
            matches[key] = own
    return told, matches


def urls_of(run: StageRun[ContaminationParams], documents: set[str]) -> dict[str, str]:
    """Of the documents with these ids."""
    return {
        row["id"]: row["url"]
        for batch in run.batches(DOCUMENTS, schemas.DOCUMENT, ["id", "url"])
        for row in batch.to_pylist()
        if row["id"] in documents
    }


def likely(
    model: LanguageModel, tokenizer: ChatTokenizer, texts: Sequence[str], name: str
) -> dict[Method, list[float]]:
    """Min-K % and Min-K%++ of each text, as far as the model's context goes."""
    limit, prefix = model.config.max_seq_len, tokenizer.prefix_id
    tokens = next_tokens(model, [([prefix, *tokenizer.encode(text)[:limit]], 1) for text in texts], name)
    return {
        "min_k": [min_k(-one.nats, K) for one in tokens],
        "min_k_plus_plus": [min_k_plus_plus(one, K) for one in tokens],
    }


def known_texts(run: StageRun[ContaminationParams]) -> tuple[list[str], list[str]]:
    """(Read in training, held out): beginnings of documents of the same sources, those first by id, which is a hash."""
    held_out = [row for batch in run.batches(VALIDATION, schemas.MIXED, COLUMNS) for row in batch.to_pylist()]
    sources = {row["source"] for row in held_out}
    members: list[dict[str, str]] = []
    for batch in run.batches(TRAIN, schemas.MIXED, COLUMNS):
        members += [row for row in batch.to_pylist() if row["source"] in sources]
        members = sorted(members, key=lambda row: row["id"])[:KNOWN]
    chosen = (members, sorted(held_out, key=lambda row: row["id"])[:KNOWN])
    return tuple([row["text"][:BEGINNING] for row in rows] for rows in chosen)  # type: ignore[return-value]


def memberships(
    model: LanguageModel,
    tokenizer: ChatTokenizer,
    tasks: Mapping[str, list[Example]],
    known: tuple[list[str], list[str]],
    limit: int,
) -> list[Membership]:
    """Of the first `limit` items of each task; the AUC is of documents of which it is known whether they were read."""
    members, others = (likely(model, tokenizer, texts, MODEL) for texts in known)
    found = []
    for task, examples in tasks.items():
        own = likely(model, tokenizer, [one.question for one in examples[:limit]], MODEL)
        for method, values in own.items():
            auc = separation(members[method], others[method])
            real = [value for value in values if value == value]
            found.append(
                Membership(
                    task=task, model=MODEL, method=method, k=K, mean=float(np.mean(real)) if real else None,
                    auc=auc.auc, auc_low=auc.low, auc_high=auc.high, members=len(known[0]), non_members=len(known[1]),
                    reason="AUC over training and held-out documents of the same sources"
                    if min(map(len, known))
                    else "no held-out document of a training source to compare with",
                )
            )  # fmt: skip
    return found


def verdict_of(task: str, ordering: Ordering, overlap: Overlap) -> TaskVerdict:
    """What order and overlap together say: either is enough to accuse, and only a known corpus clears."""
    said = f"order: {ordering.verdict}"
    if overlap.dirty_ids:
        share = f"{len(overlap.dirty_ids)} of {overlap.items} items are in the training text"
        return TaskVerdict(model=MODEL, task=task, verdict="contaminated", reason=f"{share}; {said}")
    if ordering.verdict == "contaminated":
        reason = f"prefers the published order (p = {ordering.p_value:.2g}); overlap: {overlap.verdict}"
        return TaskVerdict(model=MODEL, task=task, verdict="contaminated", reason=reason)
    if overlap.verdict == "clean":
        reason = f"none of {overlap.items} items is in the training text; {said}"
        return TaskVerdict(model=MODEL, task=task, verdict="clean", reason=reason)
    return TaskVerdict(
        model=MODEL, task=task, verdict=ordering.verdict, reason=f"overlap: {overlap.reason}; {ordering.reason or said}"
    )


def flat(result: Contamination) -> dict[str, float]:
    """Numbers for `metrics.json`."""
    found: dict[str, float | None] = {f"{row.task}_ordering_p_value": row.p_value for row in result.ordering}
    for planted in result.power.planted:
        found[f"planted_{planted.copies}{'_shuffled' if planted.shuffled else ''}_p_value"] = planted.p_value
    found |= {f"canary_{row.copies}_exposure": row.exposure for row in result.power.canaries}
    for row in result.overlap:
        found[f"{row.set}_any_{row.ngram}gram"] = row.any_ngram
        found[f"{row.set}_mean_{row.share_ngram}gram_share"] = row.mean_share
        found[f"{row.set}_dirty"] = row.dirty
    for part in result.accuracy:
        numbers = part.model_dump(exclude={"task", "model", "protocol", "method"})
        found |= {f"{part.task}_{part.protocol}_{name}": value for name, value in numbers.items()}
    for seen in result.membership:
        found[f"{seen.task}_{seen.method}"] = seen.mean
    return {name: value for name, value in found.items() if value is not None and value == value}


def main() -> None:
    with stage("evaluation.contamination", ContaminationParams, seed="run.seed") as run:
        set_threads()
        params, folder = run.params, run.input(f"{MODELS}/{MODEL}")
        tokenizer, model = load_tokenizer(folder), load_model(folder)
        tasks = {
            key: task_examples(run.read_table(f"{TASKS}/{key}/questions.parquet", schemas.TASK))
            for key in run.items(TASKS)
        }
        instructions = read_instructions(run)
        items = run.read_table(f"{EVALUATED}/{MODEL}/items.parquet", ITEM).to_pylist()
        power = probe_power(run, tokenizer, instruction_examples(instructions, test=False))
        overlap, matches = overlaps(run, tasks | {JUDGED: instruction_examples(instructions, test=True)})
        logprob = model_logprob(model, tokenizer)
        ordering = [
            believed(order_of(key, examples, logprob, params, run.seed), power) for key, examples in tasks.items()
        ]
        states = {
            key: {example.id: match.state for example, match in zip(examples, matches[key], strict=True)}
            for key, examples in tasks.items()
        }
        verdicts = [verdict_of(*of) for of in zip(tasks, ordering, overlap, strict=False)]
        result = Contamination(
            model=MODEL,
            alpha=params.alpha,
            dirty_share=params.dirty_share,
            ordering=ordering,
            power=power,
            overlap=overlap,
            accuracy=[part for key in tasks for part in split_accuracy(key, MODEL, items, states[key])],
            membership=memberships(model, tokenizer, tasks, known_texts(run), params.examples),
            verdicts=verdicts,
        )
        run.write_contract("contamination.json", result)
        run.write_json("metrics.json", flat(result))


if __name__ == "__main__":
    main()
