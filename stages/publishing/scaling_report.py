"""publishing.scaling_report: the scaling page of the ladder, with the planned run predicted beside reached."""

from typing import Annotated

from pydantic import Field

from stages.base.params import Section
from stages.base.record import stage
from stages.publishing.index.cost import plan_facts
from stages.publishing.scaling.figure import Target
from stages.publishing.scaling.page import scaling_page


class ScalingReportParams(Section):
    title: Annotated[str, Field(min_length=1)]


PARAMS: dict[str, type[Section]] = {"publishing.scaling_report": ScalingReportParams}


def main() -> None:
    with stage("publishing.scaling_report", ScalingReportParams) as run:
        study = run.read_json("data/scaling/fit/study.json")
        plan = run.read_json("data/scaling/plan/plan.json")
        reached = run.read_json("data/pretraining/pretrain/metrics.json")["validation_loss"]
        page = scaling_page(
            study,
            run.params.title,
            target=Target.of(plan, reached),
            plan=plan_facts(plan),
            reasons=plan["reasons"],
            leaderboard=True,
        )
        run.publish("reports/scaling.html", page)


if __name__ == "__main__":
    main()
