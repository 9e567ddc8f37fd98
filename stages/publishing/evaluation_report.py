"""publishing.evaluation_report: what every model knows of held-out text and tasks, and whether tests leaked."""

from pathlib import Path
from typing import Any

from stages.base.artifacts import CONTAMINATION, CONTROLS, EVALUATED
from stages.base.contracts.contamination import Contamination
from stages.base.contracts.evaluation import Controls, Evaluation, Samples
from stages.base.errors import ParamError
from stages.base.params import nearest
from stages.base.record import StageRun, stage
from stages.publishing.evaluation.answers import BITS, read_answers, read_bits
from stages.publishing.evaluation.calibration import calibration_view
from stages.publishing.evaluation.comparisons import Comparisons, compare
from stages.publishing.evaluation.contamination import contamination_view, probability, verdict
from stages.publishing.evaluation.items import items_view
from stages.publishing.evaluation.tasks import Evaluations, main_metrics, tasks_view
from stages.publishing.evaluation.texts import cost_of_tuning, text_view
from stages.publishing.evaluation.variants import variants_view
from stages.publishing.evaluation.verdicts import for_all_models
from stages.publishing.html.site import SiteParams, Summary, figures, finite, publish_page

PARAMS: dict[str, Any] = {"publishing.site": SiteParams}
TASKS_TRACKED = 1  # in reports/metrics.json
SECTIONS = {
    "tasks": "Tasks",
    "prompts": "Prompts",
    "groups": "Groups",
    "texts": "Held-out text",
    "calibration": "Calibration",
    "contamination": "Contamination",
    "items": "Items",
}


def summary(evaluations: Evaluations, base: str, found: Contamination | None) -> Summary:
    texts, tasks = list(evaluations[base].texts), list(evaluations[base].tasks)
    metrics: dict[str, float | None] = {}
    if texts:
        metrics[f"{base}/bpb"] = evaluations[base].texts[texts[0]].bpb
    for task in tasks[:TASKS_TRACKED]:
        protocols = evaluations[base].tasks[task].protocols
        score = protocols["cloze"].main if "cloze" in protocols else None
        metrics[f"{base}/{task}"] = 100 * score.mean if score and score.mean is not None else None
    tiles = [(f"{metrics[f'{base}/bpb']:.3f}", f"bits per byte of unseen text, {base}")] if texts else []
    said = [cost_of_tuning(evaluations, texts[0], base)] if texts else []
    if found:
        first = next((row for row in found.ordering if row.p_value is not None), None)
        test = f", ordering test p = {probability(first.p_value)}" if first and first.p_value is not None else ""
        tiles.append((verdict(found), f"tests against training data{test}"))
        said.append(f"tests in the training data: {verdict(found)}")
    line = "; ".join(said) or "every model is asked the same questions"
    return Summary(line=f"{line[0].upper()}{line[1:]}.", tiles=figures(*tiles), metrics=finite(**metrics))


def view_of(
    evaluations: Evaluations,
    base: str,
    compared: Comparisons,
    found: Contamination | None,
    samples: dict[str, Samples],
    controls: dict[str, Controls],
) -> dict[str, Any]:
    """The page; a section is None (or empty) where its phase isn't there."""
    texts = [*dict.fromkeys(text for one in evaluations.values() for text in one.texts)]
    tasks = tasks_view(evaluations, base, compared, found)
    return {
        "base": base,
        "tuning": cost_of_tuning(evaluations, texts[0], base) if texts and texts[0] in evaluations[base].texts else "",
        "texts": [text_view(evaluations, text, base, compared, controls.get(text)) for text in texts],
        "tasks": tasks if tasks["tasks"] else None,
        "prompts": variants_view(evaluations),
        "groups": tasks["groups"],
        "calibration": calibration_view(evaluations),
        "contamination": contamination_view(found) if found else None,
        "items": items_view(samples),
    }


def read_samples(run: StageRun[Any], models: list[str]) -> dict[str, Samples]:
    paths = {model: f"{EVALUATED}/{model}/samples.json" for model in models}
    return {model: run.read_contract(path, Samples) for model, path in paths.items() if Path(path).is_file()}


def main() -> None:
    with stage("publishing.evaluation_report", SiteParams, section="publishing.site") as run:
        models = run.items(EVALUATED)
        evaluations = {model: run.read_contract(f"{EVALUATED}/{model}/evaluation.json", Evaluation) for model in models}
        base = run.section("alignment.base", str)
        if base not in evaluations:
            raise ParamError(f"params.yaml: `alignment.base`: `{base}` isn't evaluated{nearest(base, [*evaluations])}")
        items = {model: run.input(f"{EVALUATED}/{model}/items.parquet") for model in models}
        bits = read_bits(items)
        compared = compare(read_answers(items) | bits, main_metrics(evaluations) | dict.fromkeys(bits, BITS))
        found = run.read_contract(CONTAMINATION, Contamination) if Path(CONTAMINATION).is_file() else None
        if found:
            imported = run.section("models.import", dict[str, Any])
            verdicts = for_all_models(found.verdicts, models, imported, base)
            found = found.model_copy(update={"verdicts": verdicts})
        controls = {
            text: run.read_contract(f"{CONTROLS}/{text}/controls.json", Controls) for text in run.items(CONTROLS)
        }
        view = view_of(evaluations, base, compared, found, read_samples(run, models), controls)
        sections = [(id, name) for id, name in SECTIONS.items() if view[id]]
        publish_page(run, "evaluation", view, sections, run.params)
        run.write_contract("comparisons.json", compared)
        run.write_contract("summary.json", summary(evaluations, base, found))


if __name__ == "__main__":
    main()
