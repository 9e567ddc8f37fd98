"""Two files of AlpacaEval's model outputs, compared by a judge outside the pipeline."""

from pathlib import Path
from typing import Any

from stages.annotators.client import AnnotatorSettings, Pair, compare
from stages.base.errors import InputError
from stages.judging.alpaca_eval.files import read_outputs

Row = dict[str, Any]


def judge_files(outputs: Path, baseline: Path, settings: AnnotatorSettings, seed: int) -> tuple[list[Row], list[str]]:
    """(AlpacaEval annotations of one file of model outputs against another, what could not be compared)."""
    if settings.provider == "simulated":
        raise InputError(
            "the simulated annotators judge the pipeline's own instructions only; set "
            "`judging.judge.annotator.provider: openai` with a `base_url` and a `model`"
        )
    ours, problems = read_outputs(outputs)
    theirs, wrong = read_outputs(baseline)
    problems += wrong
    mine, other = _unique(ours, outputs, problems), _unique(theirs, baseline, problems)
    problems += [f"{baseline}: no output for {prompt[:60]!r}" for prompt in mine if prompt not in other]
    problems += [f"{outputs}: no output for {prompt[:60]!r}" for prompt in other if prompt not in mine]
    both = [prompt for prompt in other if prompt in mine]
    if not both:
        raise InputError(f"{outputs} and {baseline} have no instruction in common")
    pairs = [Pair(prompt, prompt, other[prompt]["output"], mine[prompt]["output"]) for prompt in both]
    rows = []
    for pair, said in zip(pairs, compare(pairs, settings, seed=seed), strict=True):
        if said.error:
            problems.append(f"no preference for {pair.prompt[:60]!r}: {said.error}")
        rows.append(
            {
                "instruction": pair.prompt,
                "output_1": pair.output_a,
                "generator_1": other[pair.id]["generator"],
                "output_2": pair.output_b,
                "generator_2": mine[pair.id]["generator"],
                "annotator": settings.model,
                "annotator_version": said.annotator,
                "preference": said.preference,
                "price_per_example": said.usd,
                "time_per_example": said.seconds,
            }
        )
    return rows, problems


def _unique(rows: list[Row], path: Path, problems: list[str]) -> dict[str, Row]:
    """prompt → row; of two outputs for one instruction the first."""
    found: dict[str, Row] = {}
    for row in rows:
        if found.setdefault(row["prompt"], row) is not row:
            problems.append(f"{path}: a second output for {row['prompt'][:60]!r}; left out")
    return found
