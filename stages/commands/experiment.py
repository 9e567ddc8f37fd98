"""`trainyard experiment`: claims that are declared, checked, run to a verdict and reported (docs/experiments.md)."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stages.experiment.declaration import Declaration
    from stages.experiment.runs.results import Store

FOLDER = Path("experiments")
CLAIMS = Path("reports/claims")
NAMES_SHOWN = 6


def register(subparsers: argparse._SubParsersAction) -> None:
    command = subparsers.add_parser("experiment", help="claims declared before they run, and their verdicts")
    actions = command.add_subparsers(dest="action", required=True, metavar="action")
    _register_check(actions)
    _register_run(actions)
    _register_checkout(actions)
    _register_report(actions)
    _register_gate(actions)
    _register_reruns(actions)
    _register_list(actions)
    _register_metrics(actions)


def _files(action: argparse.ArgumentParser) -> None:
    action.add_argument(
        "files", nargs="*", type=Path, default=[FOLDER], metavar="FILE",
        help=f"declarations, or folders of them; without any, {FOLDER}/",
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------- check


def _register_check(actions: argparse._SubParsersAction) -> None:
    action = actions.add_parser(
        "check",
        help="what is wrong with claims, what they can see and cost; runs nothing",
        epilog="example:\n  trainyard experiment check experiments/dedup.yaml\n",
    )
    _files(action)
    action.set_defaults(run=check)


def check(options: argparse.Namespace) -> int:
    """Exit status 2 where a claim is inadmissible."""
    from stages.base.params import PARAMS_FILE
    from stages.experiment.check import check as check_claims
    from stages.experiment.declaration import read_suite
    from stages.experiment.runs.outcomes import ClaimFolder
    from stages.experiment.runs.results import open_store
    from stages.sections import Sections

    declarations, problems = read_suite(options.files)
    sections = Sections()
    store = open_store()
    admissions, total = check_claims(declarations, sections, store)
    sections.save()
    of_project = [problem for one in admissions for problem in one.problems if problem.startswith(str(PARAMS_FILE))]
    for problem in [*problems, *dict.fromkeys(of_project)]:
        print(problem)
    for one in admissions:
        for problem in one.problems:
            if problem not in of_project:
                print(f"{one.declaration.path}: {problem}")
        verdict = "admissible" if one.admissible else "inadmissible"
        print(f"{one.declaration.name}: {verdict}")
        if edited := ClaimFolder(one.declaration.name, store).edited(one.declaration):
            print(f"  edited after its first run ({edited}): it will have deviated; restore it, or rename the claim")
        for line in (one.power, one.bill.line() if one.bill else ""):
            if line:
                print(f"  {line}")
    wrong = len(problems) + sum(not one.admissible for one in admissions)
    if len(admissions) + len(problems) > 1:
        print(f"{len(admissions) + len(problems) - wrong} claims admissible, {wrong} not")
        if total:
            print(f"together, what they share counted once, {total.line()}")
    return 2 if wrong else 0


# ---------------------------------------------------------------------------------------------------- run


def _register_run(actions: argparse._SubParsersAction) -> None:
    action = actions.add_parser(
        "run",
        help="run claims to their verdicts; what is known is not run again",
        epilog="example:\n  trainyard experiment run experiments/dedup.yaml\n",
    )
    _files(action)
    action.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Exit status 2 where a claim is inadmissible, 1 where a run failed."""
    import signal

    from stages.experiment.check import check as check_claims
    from stages.experiment.declaration import read_suite
    from stages.experiment.runs.progress import ProgressPage
    from stages.experiment.runs.results import open_store
    from stages.experiment.runs.suite import run as run_claims
    from stages.sections import Sections

    for number in (signal.SIGTERM, signal.SIGINT):  # a background job of a script is started deaf to the latter
        signal.signal(number, signal.default_int_handler)
    declarations, problems = read_suite(options.files)
    sections, store = Sections(), open_store()
    admissions, _ = check_claims(declarations, sections, store)
    sections.save()
    refused = {one.declaration.name: one.problems for one in admissions if not one.admissible}
    for problem in problems:
        print(problem)
    concluded = run_claims(
        declarations, sections.schema, store, lambda left, workers: ProgressPage(left, workers).show, refused
    )
    failed = False
    for one in concluded:
        print(f"{one.declaration.name}: {one.verdict.sentence}")
        for run in one.finished:
            if run.failed:
                failed = True
                print(f"  {run.run.name}: {run.failed}: {run.reason}")
                if (said := store.folder / "work" / run.keys.get(run.failed, "") / "stderr").is_file():
                    print(f"    all that it said: {said}")
        spent, saved = len(one.cost["executed"]), len(one.cost["reused"])
        print(f"  {spent} stage instances run ({one.cost['cpu_seconds'] / 60:.1f} CPU minutes), {saved} reused")
    return 2 if problems or refused else 1 if failed else 0


# ---------------------------------------------------------------------------------------------------- checkout


def _register_checkout(actions: argparse._SubParsersAction) -> None:
    action = actions.add_parser(
        "checkout",
        help="params.yaml and dvc.lock of an arm's run, for the work tree",
        epilog="example:\n  trainyard experiment checkout experiments/dedup.yaml without 1\n",
    )
    action.add_argument("claim", type=Path, metavar="FILE", help="declaration")
    action.add_argument("arm")
    action.add_argument("seed", nargs="?", help="as the pages name it; without it, the first")
    action.set_defaults(run=checkout)


def checkout(options: argparse.Namespace) -> int:
    from stages.base.errors import ParamError
    from stages.base.params import nearest
    from stages.experiment.declaration import read_declaration
    from stages.experiment.runs.lock import check_out
    from stages.experiment.runs.outcomes import seed_label
    from stages.experiment.runs.results import open_store
    from stages.experiment.runs.suite import expand
    from stages.sections import Sections

    declaration, store = read_declaration(options.claim), open_store()
    runs = [run for run in expand([declaration], Sections().schema, store) if run.arm == options.arm]
    if not runs:
        raise ParamError(f"{options.claim}: no arm `{options.arm}`{nearest(options.arm, list(declaration.arms))}")
    labels = {seed_label(run.seed): run for run in runs}
    seed = options.seed or next(iter(labels))
    if seed not in labels:
        raise ParamError(f"{options.claim}: no seed `{seed}`; there are {', '.join(labels)}")
    written = check_out(labels[seed], store)
    print(f"written: {', '.join(path.name for path in written)}; `dvc checkout` puts the run's files in place")
    print("back to what was: git restore params.yaml dvc.lock && dvc checkout")
    return 0


# ---------------------------------------------------------------------------------------------------- report


def _register_report(actions: argparse._SubParsersAction) -> None:
    action = actions.add_parser(
        "report",
        help=f"the pages of claims that have run: reports/claims.html and {CLAIMS}/",
        epilog="example:\n  trainyard experiment report dedup\n",
    )
    action.add_argument("names", nargs="*", metavar="NAME", help=f"claims of {FOLDER}/; without any, all that have run")
    action.set_defaults(run=report)


def report(options: argparse.Namespace) -> int:
    """Exit status 1 where a claim that was named hasn't run."""
    from stages.base.errors import InputError
    from stages.base.params import load, nearest
    from stages.experiment.runs.outcomes import ClaimFolder
    from stages.experiment.runs.results import open_store
    from stages.experiment.summary import across_scales, summarise
    from stages.experiment.verdict import over_suite
    from stages.publishing.claims.publish import claim_file, read_claim, write_claim, write_suite
    from stages.publishing.claims.record import read_record, unedited, write_record
    from stages.publishing.html.site import SiteParams
    from stages.sections import Sections

    site, store, schema = load("publishing.site", SiteParams), open_store(), Sections().schema
    declared = {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}
    waiting, told, folders, record = [], [], {}, read_record()
    for name in dict.fromkeys(path.removesuffix(".yaml").rpartition("/")[2] for path in options.names or declared):
        if name not in declared:
            raise InputError(f"{FOLDER}/{name}.yaml: not found{nearest(name, list(declared))}")
        folder = ClaimFolder(name, store)
        if not folder.has_verdict and not options.names and claim_file(name).exists():  # it ran elsewhere
            unedited(name, record)
            write_claim(read_claim(name), site)
            continue
        if not folder.has_verdict:  # runs of a killed runner are kept; the rest is still to run
            waiting.append(name)
            continue
        folders[name] = (declared[name], folder.path)
        claim = summarise(declared[name], schema, store)
        write_claim(claim, site)
        told.append(name)
        print(f"{name}: {claim.verdict.sentence}")
    claims = [read_claim(name) for name in declared if claim_file(name).exists()]
    suite = over_suite({claim.name: claim.verdict for claim in claims})
    adjusted = {name: one.adjusted_p for name, one in suite.items() if one.adjusted_p is not None}
    write_suite(claims, adjusted, across_scales(claims), site)
    write_record(folders, [claim.name for claim in claims])
    if waiting:
        more = f" and {len(waiting) - NAMES_SHOWN} more" if len(waiting) > NAMES_SHOWN else ""
        print(f"not run yet: {', '.join(waiting[:NAMES_SHOWN])}{more}")
    print("reports/claims.html: written")
    _ship(told)
    for name in told:
        for arm, run in mlflow_runs(store.folder / "claims" / name / "mlflow.json").items():
            print(f"MLflow run of {name}, arm {arm}: {run}")
    return 1 if options.names and waiting else 0


def _ship(names: list[str]) -> None:
    """Claims as runs of MLflow, by a process of its own: a tracker that is down or slow costs no page."""
    if names and os.environ.get("TRAINYARD_TRACK", "on") != "off":
        words = [sys.executable, "-m", "stages.publishing.tracking.track", "--claims", *names]
        subprocess.run(words, stdout=subprocess.DEVNULL, check=False)


def mlflow_runs(path: Path) -> dict[str, str]:
    """Arm → its run, as the tracker noted them; none where it hasn't."""
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}


# ---------------------------------------------------------------------------------------------------- gate


def _register_gate(actions: argparse._SubParsersAction) -> None:
    action = actions.add_parser(
        "gate",
        help="keep (exit status 0) or discard (1) a change, with a stated error rate; 3: undecided, 2: error",
        epilog="example:\n  trainyard experiment gate alignment.dpo.beta=0.05 --metric dpo/right --seeds 3,5 --json\n",
    )
    add = action.add_argument
    add(
        "change",
        nargs="+",
        metavar="CHANGE",
        help="a YAML file of params, key=value …, a git revision, or . (as it is)",
    )
    add("--baseline", default=".", metavar="REVISION", help="what it is compared with (default: the project as it is)")
    add("--metric", default="dpo/right", help="see `trainyard experiment metrics` (default: dpo/right)")
    add("--better", choices=("higher", "lower"), help="which way the metric is better, where its unit doesn't say")
    add("--margin", type=float, help="the smallest improvement that is worth keeping")
    add(
        "--seeds", default="3,5,8", metavar="N[,N …]",
        help="seeds an arm at which to look: it stops at the first that decides (default: 3,5,8)",
    )  # fmt: skip
    add(
        "--axis", default="run.seed", choices=("run.seed", "corpus.seed"),
        help="which seed is drawn anew: corpus.seed for metrics of the corpus and the tokenizer (default: run.seed)",
    )  # fmt: skip
    add("--alpha", type=float, default=0.05, help="how often a change that is no better may be kept (default: 0.05)")
    add("--json", action="store_true", help="print the decision as JSON")
    action.set_defaults(run=gate)


def gate(options: argparse.Namespace) -> int:
    """One line, or its JSON, and an exit status."""
    from stages.base.errors import ParamError
    from stages.base.params import read_params
    from stages.experiment import gate as gates
    from stages.experiment.check import check as check_claims
    from stages.experiment.metrics import find
    from stages.experiment.runs.progress import ProgressPage
    from stages.experiment.runs.results import open_store
    from stages.experiment.runs.suite import run as run_claims
    from stages.sections import Sections

    try:
        seeds = [int(one) for one in options.seeds.split(",")]
    except ValueError:
        raise ParamError(f"--seeds must be numbers with commas between them, got {options.seeds}") from None
    direction = options.better or gates.better(find(options.metric, read_params()).unit, options.metric)
    declared = gates.declaration(
        options.change, metric=options.metric, direction=direction, seeds=seeds, alpha=options.alpha,
        margin=options.margin, baseline=options.baseline, axis=options.axis,
    )  # fmt: skip
    sections, store = Sections(), open_store()
    admissions, _ = check_claims([declared], sections, store)
    sections.save()
    if problems := admissions[0].problems:
        raise ParamError("; ".join(problems))
    done = run_claims([declared], sections.schema, store, lambda left, n: ProgressPage(left, n).show)[0]
    decided = gates.conclude(declared, done.verdict, options.change, options.baseline, store.folder / gates.LEDGER)
    print(decided.model_dump_json() if options.json else decided.line)
    return gates.EXIT[decided.decision]


# ---------------------------------------------------------------------------------------------------- reruns


def _register_reruns(actions: argparse._SubParsersAction) -> None:
    action = actions.add_parser(
        "reruns",
        help="hand a claim's trainings to the leaderboard, which then covers reruns",
        epilog="example:\n  trainyard experiment reruns experiments/dedup.yaml --arm with\n",
    )
    add = action.add_argument
    add("file", type=Path, metavar="FILE", help="a declaration that has run; its seeds must be of run.seed")
    add("--arm", help="whose runs (default: the baseline)")
    action.set_defaults(run=reruns)


def reruns(options: argparse.Namespace) -> int:
    from stages.base.params import lookup, read_params
    from stages.experiment.declaration import read_declaration
    from stages.experiment.reruns import export
    from stages.experiment.runs.results import open_store
    from stages.sections import Sections

    declared, values = read_declaration(options.file), read_params()
    models = [key for kind in ("models.trained", "models.import", "judging.answerers") for key in lookup(values, kind)]
    out = Path(lookup(values, "judging.leaderboard.reruns"))
    arm = options.arm or declared.baseline
    written = export(declared, arm, models, values, Sections().schema, open_store(), out)
    for one in written:
        print(f"{out / one}.parquet")
    print("run `dvc repro board`: rows of models that are there get intervals over seeds and questions")
    return 0


# ---------------------------------------------------------------------------------------------------- lists


def _register_list(actions: argparse._SubParsersAction) -> None:
    action = actions.add_parser(
        "list", help="the claims and where each stands", epilog="example:\n  trainyard experiment list\n"
    )
    _files(action)
    action.set_defaults(run=list_claims)


def list_claims(options: argparse.Namespace) -> int:
    from stages.experiment.declaration import read_suite
    from stages.experiment.runs.results import open_store

    declarations, problems = read_suite(options.files)
    store = open_store()
    rows = [(one.name, _standing(one, store), one.rule, one.claim) for one in declarations]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    for row in rows:
        print("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=False)), row[3], sep="  ")
    for problem in problems:
        print(problem)
    return 2 if problems else 0


def _standing(declaration: "Declaration", store: "Store") -> str:
    """The verdict, or how far the runs have come; a claim that was edited after its first run has no verdict."""
    from stages.base.errors import InputError
    from stages.experiment.runs.outcomes import ClaimFolder

    folder = ClaimFolder(declaration.name, store)
    try:
        if folder.edited(declaration):
            return "deviated"
        if folder.has_verdict:
            return folder.verdict().verdict
    except InputError:
        return "unreadable"
    done = sum(line["status"] == "finished" for line in folder.runs().values())
    return f"{done} of {len(declaration.arm) * len(declaration.seed_values())} runs" if done else "not run"


def _register_metrics(actions: argparse._SubParsersAction) -> None:
    action = actions.add_parser(
        "metrics", help="what a claim may be about", epilog="example:\n  trainyard experiment metrics dpo\n"
    )
    action.add_argument("name", nargs="?", help="part of a name: only those")
    action.set_defaults(run=metrics)


def metrics(options: argparse.Namespace) -> int:
    """Without a name, the forms of names; with one, the names that params.yaml makes of them."""
    from stages.base.params import read_params
    from stages.experiment.metrics import CATALOGUE, catalogue

    found: dict[str, Any] = CATALOGUE
    if options.name:
        found = {name: metric for name, metric in catalogue(read_params()).items() if options.name in name}
        if not found:
            print(f"no metric has `{options.name}` in its name; `trainyard experiment metrics` lists all forms")
            return 1
    width = max(map(len, found))
    for name, metric in found.items():
        per = f", per {metric.item}" if metric.item else ""
        print(f"{name:{width}}  {metric.says} ({metric.unit or 'no unit'}{per})")
    return 0
