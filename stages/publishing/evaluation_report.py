"""publishing.evaluation_report: what every model knows of held-out text and tasks, and whether tests leaked."""

from typing import Any

from stages.base.artifacts import CONTAMINATION, EVALUATED
from stages.base.contracts.contamination import Contamination
from stages.base.contracts.evaluation import Evaluation
from stages.base.errors import ParamError
from stages.base.params import nearest
from stages.base.record import stage
from stages.publishing.evaluation.contamination import contamination_view, probability, verdict
from stages.publishing.evaluation.tables import Evaluations, bits_table, cost_of_tuning, task_table
from stages.publishing.html.site import SiteParams, Summary, figures, finite, publish_page

PARAMS: dict[str, Any] = {"publishing.site": SiteParams}
TASKS_TRACKED = 1  # in reports/metrics.json


def summary(evaluations: Evaluations, base: str, found: Contamination) -> Summary:
    texts, tasks = list(evaluations[base].texts), list(evaluations[base].tasks)
    metrics: dict[str, float | None] = {}
    if texts:
        metrics[f"{base}/bpb"] = evaluations[base].texts[texts[0]].bpb
    for task in tasks[:TASKS_TRACKED]:
        accuracy = evaluations[base].tasks[task].protocols.get("cloze")
        metrics[f"{base}/{task}"] = 100 * accuracy.acc if accuracy and accuracy.acc is not None else None
    first = next((row for row in found.ordering if row.p_value is not None), None)
    test = f", ordering test p = {probability(first.p_value)}" if first and first.p_value is not None else ""
    tiles = [(f"{metrics[f'{base}/bpb']:.3f}", f"bits per byte of unseen text, {base}")] if texts else []
    tiles.append((verdict(found), f"tests against training data{test}"))
    told = f"{cost_of_tuning(evaluations, texts[0], base)}; " if texts else ""
    line = f"{told}tests in the training data: {verdict(found)}."
    return Summary(line=line[0].upper() + line[1:], tiles=figures(*tiles), metrics=finite(**metrics))


def main() -> None:
    with stage("publishing.evaluation_report", SiteParams, section="publishing.site") as run:
        evaluations = {
            model: run.read_contract(f"{EVALUATED}/{model}/evaluation.json", Evaluation)
            for model in run.items(EVALUATED)
        }
        base = run.section("alignment.base", str)
        if base not in evaluations:
            raise ParamError(f"params.yaml: `alignment.base`: `{base}` isn't evaluated{nearest(base, [*evaluations])}")
        found = run.read_contract(CONTAMINATION, Contamination)
        texts, tasks = evaluations[base].texts, evaluations[base].tasks
        view = {
            "base": base,
            "tuning": cost_of_tuning(evaluations, next(iter(texts)), base) if texts else "",
            "texts": [bits_table(evaluations, text, base) for text in texts],
            "tasks": [task_table(evaluations, task) for task in tasks],
            "contamination": contamination_view(found),
        }
        sections = [("texts", "Held-out text"), ("tasks", "Tasks"), ("contamination", "Contamination")]
        publish_page(run, "evaluation", view, sections, run.params)
        run.write_contract("summary.json", summary(evaluations, base, found))


if __name__ == "__main__":
    main()
