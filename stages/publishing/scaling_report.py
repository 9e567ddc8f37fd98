"""publishing.scaling_report: the scaling page of the ladder, with the planned run predicted beside reached."""

from pathlib import Path
from typing import Any

from stages.base.artifacts import PLAN, STUDY
from stages.base.contracts.plan import Plan
from stages.base.contracts.study import Study
from stages.base.record import stage
from stages.publishing.html.site import SiteParams, publish_page
from stages.publishing.scaling.page import scaling_view

REACHED = "data/pretraining/pretrain/metrics.json"
PARAMS: dict[str, Any] = {"publishing.site": SiteParams}


def main() -> None:
    with stage("publishing.scaling_report", SiteParams, section="publishing.site") as run:
        study = run.read_contract(STUDY, Study)  # a pipeline may plan nothing by it, or not train what is planned
        plan = run.read_contract(PLAN, Plan) if Path(PLAN).exists() else None
        reached = run.read_json(REACHED)["validation_loss"] if plan and Path(REACHED).exists() else None
        view, sections = scaling_view(study, plan, reached)
        publish_page(run, "scaling", view, sections, run.params)
        rows = [f"{one.recipe},{one.run},{one.C:.6g},{one.loss:.6g}\n" for one in study.runs]
        run.output("runs.csv").write_text("".join(["recipe,run,compute,loss\n", *rows]), encoding="utf-8")


if __name__ == "__main__":
    main()
