"""Another finish of the same trunk, on a mixture of its own: what a mixture is worth, at the price of a cooldown.

WSD's constant phase serves any number of them (Hägele et al. 2024); mixtures are judged by annealing on them (Llama 3,
sec. 3.1.3; Blakeney et al. 2024).
"""

import sys
from typing import Annotated

from pydantic import Field

from stages.base.params import Section
from stages.base.record import stage
from stages.lm import distributed
from stages.pretraining.anneal import AnnealParams, cool_down
from stages.pretraining.material import SHARED


class BranchParams(Section):
    tokens: Annotated[int, Field(gt=0)]
    """Of every branch, so that they can be compared."""


class MixtureParams(Section):
    share: Annotated[float, Field(ge=0, le=1)]
    """Of each batch's rows that come from the anneal mixture."""


PARAMS: dict[str, type[Section]] = {
    "pretraining.branch": BranchParams,
    "pretraining.branches.*": MixtureParams,
    **SHARED,
}


def main() -> None:
    distributed.launch("stages.pretraining.branch")
    key = sys.argv[1]
    with (
        stage("pretraining.branch", BranchParams, item=key, seed="run", parallel=True) as run,
        distributed.processes(),
    ):
        mixture = run.section(f"pretraining.branches.{key}", MixtureParams)
        params = AnnealParams(tokens=run.params.tokens, share=mixture.share)
        cool_down(run, params, f"branch_{key}", f"branch {key}")


if __name__ == "__main__":
    main()
