"""The outputs of the model that all others are compared with, under one path whatever its name.

A stage of its own, because DVC refuses a stage that names one file twice, as judging the baseline itself would.
"""

from stages.base import schemas
from stages.base.artifacts import RESPONSES
from stages.base.params import Section
from stages.base.record import stage


class BaselineParams(Section):
    model: str
    """A model or an answerer: all others are compared with its answers."""


PARAMS = {"judging.baseline": BaselineParams}


def main() -> None:
    with stage("judging.baseline", BaselineParams) as run:
        outputs = run.read_table(f"{RESPONSES}/{run.params.model}/outputs.parquet", schemas.OUTPUT)
        run.write_table("outputs.parquet", outputs, schemas.OUTPUT)
        run.rows(outputs.num_rows, outputs.num_rows, dropped={}, max_drop=0.0)


if __name__ == "__main__":
    main()
