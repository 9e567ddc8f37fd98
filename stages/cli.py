"""The `trainyard` command. Each subcommand imports what it needs when it runs, so that `--help` is instant."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from stages.base.errors import TrainyardError
from stages.scaling.devices import DEVICES


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="trainyard", description="From a raw crawl to a published leaderboard of assistants."
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="command")

    chat = commands.add_parser("chat", help="talk to a trained model, or pipe prompts in")
    chat.add_argument("model", nargs="?", default="dpo", help="base, sft, dpo, ppo, or a model folder (default: dpo)")
    chat.add_argument("--temperature", type=float, default=0.0, help="0 is greedy (default)")
    chat.add_argument("--top-p", type=float, default=0.95)
    chat.add_argument("--max-new-tokens", type=int, default=128)
    chat.add_argument("--seed", type=int, default=0)

    extend = commands.add_parser("extend", help="add tokens to a trained model's vocabulary")
    extend.add_argument("model", help="base, sft, dpo, ppo, or a model folder")
    extend.add_argument("--tokens", metavar="FILE", help="new ordinary tokens, one a line, blanks included")
    extend.add_argument("--special", metavar="FILE", help="new special tokens, never found in a text, one a line")
    extend.add_argument("--out", required=True, metavar="FOLDER", help="a new folder for the larger model")
    extend.add_argument("--seed", type=int, default=0, help="of the noise in rows that no text belongs to")

    trace = commands.add_parser(
        "trace", help="follow a leaderboard row back to the source documents, verifying every hash"
    )
    trace.add_argument(
        "row", help="a model's name or lineage id on the leaderboard, or a packed token: train:ROW:COLUMN"
    )
    trace.add_argument("--json", action="store_true", help="the whole chain as JSON")

    judge = commands.add_parser("judge", help="have one file of AlpacaEval outputs judged against another")
    judge.add_argument("outputs", help="JSON list of {instruction, output, generator}")
    judge.add_argument("--baseline", required=True, metavar="FILE", help="outputs to compare with, in the same format")
    judge.add_argument("--out", required=True, metavar="FILE", help="annotations to write, in AlpacaEval's format")
    judge.add_argument("--max-cost", type=float, metavar="USD", help="instead of judging.judge.annotator.max_cost_usd")

    board = commands.add_parser("leaderboard", help="rank models by AlpacaEval annotation files")
    board.add_argument("annotations", nargs="+", help="annotations.json files, or folders that hold some")
    board.add_argument("--out", required=True, metavar="FOLDER", help="for leaderboard.html, .csv, .json, .md")
    board.add_argument("--baseline", metavar="NAME", help="default: the most frequent generator_1")
    board.add_argument("--annotator", metavar="NAME", help="of several judges, the one whose verdicts count")
    board.add_argument("--difficulty", metavar="CSV", help="instruction_index, instruction_difficulty")
    board.add_argument("--gamed", metavar="CSV", help="regularising rows, as AlpacaEval's df_gamed")
    board.add_argument("--arena", action="store_true", help="ratings over implied battles: slow for many models")
    board.add_argument("--title", default="Leaderboard")

    commands.add_parser("doctor", help="is this machine fit for the run, and how far has it run?")

    cost = commands.add_parser("cost", help="what a training run costs: GPU-hours, days, dollars, CO2")
    cost.add_argument("--params", type=float, required=True, metavar="N", help="parameters, e.g. 405e9")
    cost.add_argument("--tokens", type=float, required=True, metavar="D", help="training tokens, e.g. 15.6e12")
    cost.add_argument(
        "--active-params", type=float, metavar="N", help="of a mixture of experts: those that one token uses"
    )
    cost.add_argument("--device", default="h100", metavar="NAME", help=f"default: h100; known: {', '.join(DEVICES)}")
    cost.add_argument("--gpus", type=_whole, default=1, help="devices, e.g. 16e3; default: 1")
    cost.add_argument("--layers", type=_whole, metavar="L", help="with --width and --context: count attention too")
    cost.add_argument("--width", type=_whole, metavar="W", help="query heads x head size")
    cost.add_argument("--context", type=_whole, metavar="T", help="tokens a row")
    speed = cost.add_mutually_exclusive_group()
    speed.add_argument(
        "--mfu", type=float, nargs=2, metavar=("LOW", "HIGH"), help="share of the dense peak; default: .22 .44"
    )
    speed.add_argument("--tflops", type=float, help="achieved, by each device, in place of a share of its peak")
    cost.add_argument("--usd-per-gpu-hour", type=float, help="default: the device's in docs/scaling.md")
    cost.add_argument("--people", type=float, default=0.0, help="who work on it; default: not counted")
    cost.add_argument("--usd-per-person", type=float, default=500_000.0, help="for the project; default: 500000")
    cost.add_argument(
        "--pue", type=float, default=1.1, help="energy of the building by that of the boards; default: 1.1"
    )
    cost.add_argument("--kg-per-kwh", type=float, default=0.38, help="CO2eq of the grid; default: 0.38")
    cost.add_argument("--json", action="store_true", help="every quantity with its range and assumption, as JSON")

    scaling = commands.add_parser("scaling", help="scaling laws of anyone's table of runs")
    actions = scaling.add_subparsers(dest="action", required=True, metavar="action")
    fit = actions.add_parser("fit", help="fit the laws and write their page")
    fit.add_argument(
        "runs", nargs="+",
        help="CSV with N, D or C, loss (nats per token), optionally recipe, run, lr, batch, …; or ladders to compare, "
        "each [NAME=]data/scaling/ladder of a project",
    )  # fmt: skip
    fit.add_argument("--out", required=True, metavar="DIR", help="gets scaling.html and scaling.json")
    fit.add_argument(
        "--column", action="append", default=[], metavar="NAME=COLUMN",
        help="which column of the file holds what, e.g. loss=c4_val; may be repeated",
    )  # fmt: skip
    fit.add_argument("--huber-delta", type=float, default=1e-3, help="of log residuals (default: 1e-3)")
    fit.add_argument("--level", type=float, default=0.9, help="of intervals (default: 0.9)")
    fit.add_argument("--seed", type=int, default=0)

    commands.add_parser("check", help="check params.yaml, the sources and the machine")

    commands.add_parser("track", help="ship what MLflow lacks")
    commands.add_parser("where", help="where the pages are and how to open MLflow")
    return top


def _whole(text: str) -> int:
    """As a number of parameters may be given: 16e3."""
    value = float(text)
    if not value.is_integer():
        raise argparse.ArgumentTypeError(f"{text} is no whole number")
    return int(value)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        status = _run(options)
        sys.stdout.flush()  # here, where a closed pipe is caught, and not at the interpreter's end
        return status
    except TrainyardError as error:
        print(f"trainyard: {options.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output has gone; what is still buffered goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _run(options: argparse.Namespace) -> int:
    match options.command:
        case "chat":
            from stages.commands import chat

            return chat.main(options.model, options.temperature, options.top_p, options.max_new_tokens, options.seed)
        case "extend":
            return _extend(options)
        case "trace":
            from stages.commands import trace

            return trace.main(options.row, as_text=not options.json)
        case "judge":
            from stages.commands import alpaca_eval as leaderboard

            return leaderboard.judge(Path(options.outputs), Path(options.baseline), Path(options.out), options.max_cost)
        case "leaderboard":
            return _leaderboard(options)
        case "doctor":
            from stages.commands import doctor

            return doctor.main()
        case "cost":
            return _cost(options)
        case "scaling":
            return _scaling(options)
        case "check":
            from stages.check import check

            check()
            print("params.yaml fits every stage; sources, disk and memory are enough")
            return 0
        case "track":
            from stages.publishing.tracking import track

            return track.ship_now()
        case _:
            return _where()


def _leaderboard(options: argparse.Namespace) -> int:
    from stages.commands import alpaca_eval as leaderboard
    from stages.judging.alpaca_eval.board import Options

    difficulty, gamed = (Path(name) if name else None for name in (options.difficulty, options.gamed))
    chosen = Options(options.baseline, options.annotator, difficulty, gamed, options.arena)
    paths = [Path(name) for name in options.annotations]
    return leaderboard.leaderboard(paths, Path(options.out), chosen, options.title)


def _extend(options: argparse.Namespace) -> int:
    from stages.commands import extend

    tokens, special = (Path(name) if name else None for name in (options.tokens, options.special))
    return extend.main(options.model, tokens, special, Path(options.out), options.seed)


def _cost(options: argparse.Namespace) -> int:
    from stages.base.errors import ParamError
    from stages.scaling.budget.cost import Assumptions, Attention, estimate, render

    shape = (options.layers, options.width, options.context)
    given_parts = [part for part in shape if part is not None]
    if given_parts and None in shape:
        raise ParamError("give --layers, --width and --context together, or none of them")
    given = Assumptions(
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
        attention=Attention(*given_parts) if given_parts else None,
        assumptions=given,
    )
    print(json.dumps(cost.as_dict(), indent=2) + "\n" if options.json else render(cost), end="")
    return 0


def _scaling(options: argparse.Namespace) -> int:
    from stages.commands import scaling as laws
    from stages.scaling.laws.estimate import Options

    chosen = Options(huber_delta=options.huber_delta, level=options.level, seed=options.seed)
    return laws.fit(options.runs, Path(options.out), options.column, chosen)


def _where() -> int:
    from stages.publishing.tracking.store import open_line

    page = Path("reports/index.html")
    print(
        f"leaderboard: {page.resolve()}" if page.exists() else "leaderboard: not made yet; run `dvc repro`", end="   "
    )
    print(open_line())
    for name in ("corpus", "scaling"):
        other = Path(f"reports/{name}.html")
        if other.exists():
            print(f"{name}: {other.resolve()}")
    return 0 if page.exists() else 1


if __name__ == "__main__":
    sys.exit(main())
