"""publishing.report: the front page, made of what the other pages say of themselves, and reports/metrics.json."""

import json
from pathlib import Path
from typing import Any

from stages.base.artifacts import LADDER, LEADERBOARD, PLAN
from stages.base.contracts.leaderboard import Leaderboard
from stages.base.contracts.plan import Plan
from stages.base.contracts.point import Ladder
from stages.base.record import StageRun, stage
from stages.publishing.html.site import STAGES, SiteParams, Summary, publish_page
from stages.publishing.index.lecture import claims
from stages.publishing.index.plan import cost_view, lead, scaling_summary
from stages.publishing.leaderboard.headline import headline
from stages.publishing.leaderboard.table import leaderboard_view

PARAMS: dict[str, Any] = {"publishing.site": SiteParams}
PRETRAINED = "data/pretraining/pretrain/metrics.json"
ORDER = ("corpus", "scaling", "training", "evaluation", "alignment", "leaderboard", "claims")  # of the pipeline
CLAIMS = (
    "Claims about all this, the lecture's among them, each declared with its arms, seeds and rule before it was run."
)


def read_summaries(run: StageRun[SiteParams], plan: Plan | None) -> dict[str, Summary]:
    """What each page of the site says, in the order of the pipeline; of pages whose stages the pipeline has."""
    found: dict[str, Summary] = {}
    for page in sorted(run.params.pages, key=ORDER.index):
        if page == "scaling":
            if plan is None or not Path(f"{LADDER}/points.json").is_file() or not Path(PRETRAINED).is_file():
                continue
            points = run.read_contract(f"{LADDER}/points.json", Ladder).points
            reached = run.read_json(PRETRAINED)
            found[page] = scaling_summary(plan, reached["validation_loss"], reached["validation_bpb"], len(points))
        elif page == "claims":
            found[page] = Summary(line=CLAIMS)  # what experiments found is no input of the pipeline
        elif Path(f"data/publishing/{STAGES[page]}/summary.json").is_file():
            found[page] = run.read_contract(f"data/publishing/{STAGES[page]}/summary.json", Summary)
    return found


def main() -> None:
    with stage("publishing.report", SiteParams, section="publishing.site") as run:
        board = run.read_contract(LEADERBOARD, Leaderboard)
        plan = run.read_contract(PLAN, Plan) if Path(PLAN).is_file() else None
        summaries = read_summaries(run, plan)
        seeds = [(name, str(run.root_seed(name))) for name in ("corpus.seed", "run.seed")]
        view = {
            "claim": headline(board),
            "lead": lead(plan, run.section("alignment.base", str)) if plan else "",
            "stations": [stop for summary in summaries.values() for stop in summary.stations],
            "tiles": [tile for summary in summaries.values() for tile in summary.tiles],
            "board": leaderboard_view(board, None),
            "lines": [{"page": page, "line": summaries[page].line} for page in run.params.pages if page in summaries],
            "claims": claims(run.params.pages),
            "cost": cost_view(plan) if plan else None,
            "lineage": {
                "example": board.rows[0].model,
                "seeds": seeds,
                "inputs": [(path, digest[:16]) for path, digest in sorted(run.inputs.items())],
            },
        }
        sections = [
            ("leaderboard", "Leaderboard"),
            ("pages", "Pages"),
            ("lecture", "The lecture"),
            *([("cost", "Cost")] if plan else []),
            ("reproduce", "Reproduce"),
        ]
        publish_page(run, "index", view, sections, run.params)
        metrics = {name: value for summary in summaries.values() for name, value in summary.metrics.items()}
        run.publish("reports/metrics.json", json.dumps(metrics, indent=2) + "\n")


if __name__ == "__main__":
    main()
