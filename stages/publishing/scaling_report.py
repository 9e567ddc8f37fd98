"""publishing.scaling_report: the scaling page of the ladder, with the planned run predicted beside reached."""

from typing import Any

from stages.base.artifacts import PLAN, STUDY
from stages.base.contracts.plan import Plan
from stages.base.contracts.study import Study
from stages.base.record import stage
from stages.publishing.html.site import SiteParams, publish_page
from stages.publishing.scaling.page import scaling_view

PARAMS: dict[str, Any] = {"publishing.site": SiteParams}


def main() -> None:
    with stage("publishing.scaling_report", SiteParams, section="publishing.site") as run:
        study, plan = run.read_contract(STUDY, Study), run.read_contract(PLAN, Plan)
        reached = run.read_json("data/pretraining/pretrain/metrics.json")["validation_loss"]
        view, sections = scaling_view(study, plan, reached)
        publish_page(run, "scaling", view, sections, run.params)
        rows = [f"{one.recipe},{one.run},{one.C:.6g},{one.loss:.6g}\n" for one in study.runs]
        run.output("runs.csv").write_text("".join(["recipe,run,compute,loss\n", *rows]), encoding="utf-8")


if __name__ == "__main__":
    main()
