"""One model's outputs judged against the baseline's, and scored exactly: `python -m stages.judging.judge <model>`."""

import math
import sys
from collections import Counter
from typing import Annotated, Any

import pyarrow as pa
from pydantic import Field

from stages.annotators.client import AnnotatorSettings, Pair, Preference, compare
from stages.annotators.grades import Grader
from stages.annotators.truth import Truth, score
from stages.base import schemas
from stages.base.artifacts import BASELINE, RESPONSES, read_instructions, read_truth
from stages.base.errors import InputError
from stages.base.params import Section
from stages.base.record import stage
from stages.base.seeds import derive
from stages.judging.alpaca_eval import files as alpaca_eval
from stages.judging.baseline import BaselineParams
from stages.judging.statistics.plain_counts import prefers_first

Row = dict[str, Any]


class JudgeParams(Section):
    annotator: AnnotatorSettings
    max_missing: Annotated[float, Field(ge=0, le=1)]
    """Share of comparisons that may end without a preference."""


PARAMS: dict[str, Any] = {"judging.judge": JudgeParams, "judging.baseline": BaselineParams}


def judge_seed(root_seed: int) -> int:
    """One seed for all models: the same simulated annotators judge them, and show a pair in the same order."""
    return derive(root_seed, "judging.judge")


def paired_outputs(outputs: list[Row], baseline: list[Row]) -> list[tuple[Row, Row]]:
    """Each output with the baseline's to the same instruction. Raises InputError where those differ."""
    other = {row["id"]: row for row in baseline}
    if len(other) != len(baseline) or {row["id"] for row in outputs} != set(other) or len(outputs) != len(baseline):
        raise InputError(f"{BASELINE} answers other instructions than the model does; run `dvc repro`")
    return [(row, other[row["id"]]) for row in outputs]


def annotation_rows(
    model: str, baseline: str, pairs: list[tuple[Row, Row]], preferences: list[Preference], index: dict[str, int]
) -> list[Row]:
    """ANNOTATION rows, in the order of the pairs; `index` is each instruction's position in its split."""
    return [
        {
            "instruction_index": index[ours["id"]],
            "id": ours["id"],
            "split": ours["split"],
            "model": model,
            "baseline": baseline,
            "annotator": preference.annotator,
            "preference": preference.preference,
            "baseline_first": preference.a_first,
            "output_first": preference.b_first,
            "weighted": preference.weighted,
            "usd": preference.usd,
            "seconds": preference.seconds,
            "len_output": len(ours["output"]),
            "len_baseline": len(theirs["output"]),
            "error": preference.error,
        }
        for (ours, theirs), preference in zip(pairs, preferences, strict=True)
    ]


def exact_rows(model: str, outputs: list[Row], instructions: dict[str, Row], truth: Truth) -> list[Row]:
    """EXACT rows of the outputs whose instruction names an entity with known truth."""
    rows = []
    for output in outputs:
        asked = instructions[output["id"]]
        if asked["entity"] not in truth:
            continue
        result = score(truth, asked["entity"], asked["attributes"], output["output"])
        rows.append(
            {
                "id": output["id"],
                "split": output["split"],
                "model": model,
                "asked": result.asked,
                "correct": result.correct,
                "wrong": result.wrong,
                "score": result.score,
                "right": result.right,
            }
        )
    return rows


def positions(instructions: list[Row]) -> dict[str, int]:
    """id → position of the instruction in its split."""
    counters: dict[str, int] = {}
    found = {}
    for row in instructions:
        found[row["id"]] = counters.get(row["split"], 0)
        counters[row["split"]] = found[row["id"]] + 1
    return found


def summary(annotations: list[Row], exact: list[Row]) -> dict[str, float]:
    """Flat metrics a split; rates in percent. `prefers_first`: verdicts for the answer shown first."""
    metrics: dict[str, float] = {}
    for split in sorted({row["split"] for row in annotations}):
        judged = [row["preference"] for row in annotations if row["split"] == split]
        known = [value - 1 for value in judged if not math.isnan(value)]
        scored = [row for row in exact if row["split"] == split]
        of_split = [row for row in annotations if row["split"] == split]
        metrics[f"{split}_missing"] = len(judged) - len(known)
        metrics[f"{split}_usd"] = sum(row["usd"] for row in of_split)
        metrics[f"{split}_prefers_first"] = prefers_first(of_split)
        if known:
            metrics[f"{split}_win_rate"] = 100 * sum(known) / len(known)
        if scored:
            metrics[f"{split}_right"] = 100 * sum(row["right"] for row in scored) / len(scored)
            metrics[f"{split}_mean_score"] = sum(row["score"] for row in scored) / len(scored)
    return metrics


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python -m stages.judging.judge <model>")
    item = sys.argv[1]
    with stage("judging.judge", JudgeParams, item=item) as run:
        baseline = run.section("judging.baseline", BaselineParams).model
        instructions = read_instructions(run)
        truth = Truth.from_json(read_truth(run))
        outputs = run.read_table(f"{RESPONSES}/{item}/outputs.parquet", schemas.OUTPUT).to_pylist()
        pairs = paired_outputs(outputs, run.read_table(BASELINE, schemas.OUTPUT).to_pylist())
        preferences = compare(
            [Pair(ours["id"], ours["prompt"], theirs["output"], ours["output"]) for ours, theirs in pairs],
            run.params.annotator,
            seed=judge_seed(run.root_seed("run.seed")),
            grader=Grader.of(instructions, truth),
        )
        annotations = annotation_rows(item, baseline, pairs, preferences, positions(instructions))
        named = Counter(row["annotator"] for row in annotations if row["annotator"] not in ("", "identical"))
        run.note(
            "judge", {"versions": dict(sorted(named.items())), "weighted": sum(row["weighted"] for row in annotations)}
        )
        texts = {row["id"]: (row["prompt"], theirs["output"], row["output"]) for row, theirs in pairs}
        run.write_json("alpaca_eval.json", alpaca_eval.from_annotations(annotations, texts))
        exact = exact_rows(item, outputs, {row["id"]: row for row in instructions}, truth)
        run.write_table(
            "annotations.parquet", pa.Table.from_pylist(annotations, schemas.ANNOTATION), schemas.ANNOTATION
        )
        run.write_table("exact.parquet", pa.Table.from_pylist(exact, schemas.EXACT), schemas.EXACT)
        run.write_json("metrics.json", summary(annotations, exact))
        missing = sum(bool(row["error"]) for row in annotations)
        dropped = {"no_preference": missing} if missing else {}
        run.rows(len(annotations), len(annotations) - missing, dropped, max_drop=run.params.max_missing)


if __name__ == "__main__":
    main()
