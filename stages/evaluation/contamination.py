"""Has the model seen the test? An ordering test, proof that the test can see, and the overlap of the texts."""

from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from stages.base import schemas
from stages.base.params import Section
from stages.base.record import StageRun, stage
from stages.base.seeds import derive
from stages.evaluation.items import ITEM
from stages.evaluation.ordering import OrderingTest, model_logprob, ordering_test
from stages.evaluation.overlap import shared_shares
from stages.evaluation.planting import ProbeParams, disjoint_sets, planted_rows, sample_rows, train_probe
from stages.lm.chat import ChatTokenizer, load_tokenizer
from stages.lm.checkpoint import load_model
from stages.lm.data import PackedRows
from stages.lm.device import set_threads

__all__ = ["OrderingTest", "ordering_test"]

Share = Annotated[float, Field(gt=0, le=1)]


class ContaminationParams(Section):
    examples: Annotated[int, Field(ge=4)]  # of the tested set, from its start
    shards: Annotated[int, Field(ge=2)]
    permutations: Annotated[int, Field(ge=1)]
    alpha: Annotated[float, Field(gt=0, lt=1)]  # p below which a set counts as contaminated
    ngram: Annotated[int, Field(ge=1)]  # words; one shared run is worth a note (GPT-3: 13)
    share_ngram: Annotated[int, Field(ge=1)]  # words (PaLM: 8)
    dirty_share: Share  # of an item's share_ngram-grams in the training text, from which it is dirty (PaLM: 0.7)
    probe: ProbeParams


PARAMS: dict[str, type[Section]] = {"evaluation.contamination": ContaminationParams}
MODEL = "data/pretraining/anneal"
ITEMS = "data/evaluation/evaluate/base/items.parquet"  # that model's answers
PROTOCOL = "cloze"


def rendered(question: str, answer: str) -> str:
    """A test example as a leaked test file would show it."""
    return f"Question: {question}\nAnswer: {answer}\n\n"


def choice_examples(table: pa.Table, split: str = "test") -> list[tuple[str, str]]:
    """(id, text) of each question of a split with its answer, in file order: the order that was published."""
    return [
        (row["id"], rendered(row["question"], row["choices"][row["answer"]]))
        for row in table.to_pylist()
        if row["split"] == split
    ]


def question_examples(table: pa.Table, *, test: bool) -> list[tuple[str, str]]:
    """(id, text) of the atlas questions about one fact, of the test split or of all others."""
    return [
        (row["id"], rendered(row["prompt"], row["reference"]))
        for row in table.to_pylist()
        if row["kind"] == "single" and (row["split"] == "test") == test
    ]


def smallest_detected(planted: list[dict[str, Any]], alpha: float) -> int | None:
    """The fewest copies from which on every planted set was found out; None if the largest wasn't."""
    found = None
    for row in sorted(planted, key=lambda row: -row["copies"]):
        if row["copies"] == 0 or row["p_value"] >= alpha:
            break
        found = row["copies"]
    return found


def overlap_of(examples: list[tuple[str, str]], texts: list[str], params: ContaminationParams) -> dict[str, Any]:
    """Shares of an evaluation set that the training text holds, and the ids of its dirty items."""
    items = [text for _, text in examples]
    runs = shared_shares(items, texts, params.ngram)
    shares = shared_shares(items, texts, params.share_ngram)
    dirty = [id for (id, _), share in zip(examples, shares, strict=True) if share >= params.dirty_share]
    return {
        "items": len(items),
        f"any_{params.ngram}gram": sum(run > 0 for run in runs) / len(items),
        f"mean_{params.share_ngram}gram_share": float(np.mean(shares)),
        "dirty": len(dirty) / len(items),
        "dirty_ids": sorted(dirty),
    }


def split_accuracy(items: pa.Table, dirty: set[str]) -> dict[str, float | int | None]:
    """Multiple-choice accuracy on all, clean and dirty questions: a gain that dirt alone brings shows as a gap."""
    answers = {row["id"]: row["choice"] == row["answer"] for row in items.to_pylist() if row["task"] == PROTOCOL}
    parts = {
        "all": list(answers.values()),
        "clean": [right for id, right in answers.items() if id not in dirty],
        "dirty": [right for id, right in answers.items() if id in dirty],
    }
    out: dict[str, float | int | None] = {}
    for name, values in parts.items():
        out[f"{name}_questions"] = len(values)
        out[f"{name}_acc"] = float(np.mean(values)) if values else None
    return out


def probe_power(
    run: StageRun[ContaminationParams], tokenizer: ChatTokenizer, questions: pa.Table
) -> list[dict[str, Any]]:
    """Train the probe and test each planted set: p values by number of copies."""
    params = run.params
    pack = run.read_json("data/tokens/pack/pack.json")
    packed = PackedRows.of(run.input("data/tokens/pack/train.bin"), pack)
    examples = [text for _, text in question_examples(questions, test=False)]
    sets = disjoint_sets(examples, params.probe.copies, params.probe.examples, run.seed)
    background = sample_rows(packed.rows, params.probe.background_tokens, run.seed)
    rows = planted_rows(background, sets, tokenizer, run.seed)
    probe = train_probe(rows, pack["vocab_size"], tokenizer.pad_id, params.probe, run.seed)
    logprob = model_logprob(probe, tokenizer)
    out = []
    for index, planted in enumerate(sets):
        seed = derive(run.seed, "planted", index)
        found = ordering_test(logprob, planted.examples, params.shards, params.permutations, seed, batched=True)
        out.append({"copies": planted.copies, "p_value": found.p_value, "t": found.t})
    return sorted(out, key=lambda row: row["copies"])


def main() -> None:
    with stage("evaluation.contamination", ContaminationParams, seed="run.seed") as run:
        set_threads()
        params = run.params
        tokenizer = load_tokenizer(run.input("data/tokens/tokenizer"))
        choices = choice_examples(run.read_table("data/evaluation/sets/multiple_choice.parquet", schemas.CHOICE))
        questions = run.read_table("data/corpus/atlas/questions.parquet", schemas.QUESTION)
        texts = run.read_table("data/corpus/mix/train.parquet", schemas.MIXED)["text"].to_pylist()
        items = run.read_table(ITEMS, ITEM)

        logprob = model_logprob(load_model(run.input(MODEL)), tokenizer)
        tested = [text for _, text in choices[: params.examples]]
        seed = derive(run.seed, "tested")
        test = ordering_test(logprob, tested, params.shards, params.permutations, seed, batched=True)
        planted = probe_power(run, tokenizer, questions)
        overlap = {
            "multiple_choice": overlap_of(choices, texts, params),
            "questions": overlap_of(question_examples(questions, test=True), texts, params),
        }
        accuracy = split_accuracy(items, set(overlap["multiple_choice"]["dirty_ids"]))
        result = {
            "verdicts": verdicts(test, planted, overlap, params),
            "ordering": {
                "p_value": test.p_value,
                "t": test.t,
                "differences": test.differences,
                "examples": len(tested),
            },
            "planted": planted,
            "overlap": overlap,
            "accuracy": {"protocol": PROTOCOL, **accuracy},
        }
        run.write_json("contamination.json", result)
        run.write_json("metrics.json", flat(result, params))


def verdicts(
    test: OrderingTest, planted: list[dict[str, Any]], overlap: dict[str, dict[str, Any]], params: ContaminationParams
) -> list[dict[str, Any]]:
    """One row a check: what was looked at, what was found, and how much it would take to be found."""
    power = smallest_detected(planted, params.alpha)
    unseen = "clean" if power is not None else "undecided"  # a test that sees no planted set can't call a set clean
    rows: list[dict[str, Any]] = [
        {
            "check": "ordering",
            "model": MODEL,
            "set": "multiple_choice",
            "p_value": test.p_value,
            "alpha": params.alpha,
            "detects_from_copies": power,
            "verdict": "contaminated" if test.p_value < params.alpha else unseen,
        }
    ]
    for name, found in sorted(overlap.items()):
        verdict = "clean" if not found["dirty_ids"] else "contaminated"
        rows.append({"check": "overlap", "model": MODEL, "set": name, "dirty": found["dirty"], "verdict": verdict})
    return rows


def flat(result: dict[str, Any], params: ContaminationParams) -> dict[str, float]:
    metrics: dict[str, float] = {"ordering_p_value": result["ordering"]["p_value"]}
    for row in result["planted"]:
        metrics[f"planted_{row['copies']}_p_value"] = row["p_value"]
    for name, found in result["overlap"].items():
        metrics |= {f"{name}_{key}": value for key, value in found.items() if key not in ("dirty_ids", "items")}
    metrics |= {f"mc_{key}": value for key, value in result["accuracy"].items() if isinstance(value, int | float)}
    return metrics


if __name__ == "__main__":
    main()
