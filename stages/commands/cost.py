"""`trainyard cost`: what a training run costs, every figure with its range and assumption."""

import argparse
import json

from stages.base.errors import ParamError
from stages.lm.accelerators import ACCELERATORS, named

EXAMPLE = """\
examples:
  trainyard cost --params 405e9 --tokens 15.6e12 --gpus 16e3 --tflops 400 --usd-per-gpu-hour 2
  trainyard cost --params 1.1e9 --tokens 22e9 --device h200 --gpus 8 --json
"""


def register(subparsers: argparse._SubParsersAction) -> None:
    command = subparsers.add_parser(
        "cost", help="what a training run costs: GPU-hours, days, dollars, CO2", epilog=EXAMPLE
    )
    add = command.add_argument
    add("--params", type=float, required=True, metavar="N", help="parameters, e.g. 405e9")
    add("--tokens", type=float, required=True, metavar="D", help="training tokens, e.g. 15.6e12")
    add("--active-params", type=float, metavar="N", help="of a mixture of experts: those that one token uses")
    add("--device", default="h100", metavar="NAME", help=f"default: h100; known: {', '.join(ACCELERATORS)}")
    add("--gpus", type=_whole, default=1, help="devices, e.g. 16e3; default: 1")
    add("--layers", type=_whole, metavar="L", help="with --width and --context: count attention too")
    add("--width", type=_whole, metavar="W", help="query heads x head size")
    add("--context", type=_whole, metavar="T", help="tokens a row")
    speed = command.add_mutually_exclusive_group()
    speed.add_argument(
        "--mfu", type=float, nargs=2, metavar=("LOW", "HIGH"), help="share of the dense peak; default: .22 .44"
    )
    speed.add_argument("--tflops", type=float, help="achieved, by each device, in place of a share of its peak")
    add("--usd-per-gpu-hour", type=float, help="default: the device's in stages/lm/accelerators.py")
    add("--people", type=float, default=0.0, help="who work on it; default: not counted")
    add("--usd-per-person", type=float, default=500_000.0, help="for the project; default: 500000")
    add("--pue", type=float, default=1.1, help="energy of the building by that of the boards; default: 1.1")
    add("--kg-per-kwh", type=float, default=0.38, help="CO2eq of the grid; default: 0.38")
    add("--json", action="store_true", help="every quantity with its range and assumption, as JSON")
    command.set_defaults(run=run)


def _whole(text: str) -> int:
    """As a number of parameters may be given: 16e3."""
    value = float(text)
    if not value.is_integer():
        raise argparse.ArgumentTypeError(f"{text} is no whole number")
    return int(value)


def run(options: argparse.Namespace) -> int:
    from stages.base.params import nearest
    from stages.scaling.budget.cost import Assumptions, Attention, estimate, render

    try:
        named(options.device)
    except ParamError:
        close = nearest(options.device.lower(), list(ACCELERATORS))
        raise ParamError(f"--device: no device `{options.device}`{close}") from None
    shape = [part for part in (options.layers, options.width, options.context) if part is not None]
    if len(shape) not in (0, 3):
        raise ParamError("give --layers, --width and --context together, or none of them")
    assumptions = Assumptions(
        tflops=options.tflops,
        usd_per_gpu_hour=options.usd_per_gpu_hour,
        people=options.people,
        usd_per_person=options.usd_per_person,
        pue=options.pue,
        kg_per_kwh=options.kg_per_kwh,
        **({"mfu": tuple(options.mfu)} if options.mfu else {}),
    )
    cost = estimate(
        options.params,
        options.tokens,
        gpus=options.gpus,
        device=options.device,
        active_params=options.active_params,
        attention=Attention(*shape) if shape else None,
        assumptions=assumptions,
    )
    print(json.dumps(cost.as_dict(), indent=2) + "\n" if options.json else render(cost), end="")
    return 0
