"""`trainyard why STAGE`: what changed since a stage last ran, in words; of one that is up to date, why it last ran."""

import argparse

from stages.base.terminal import one_line, shown_json


def register(subparsers: argparse._SubParsersAction) -> None:
    command = subparsers.add_parser(
        "why",
        help="what changed since a stage last ran: params, code, what it reads, its command",
        epilog="examples:\n  trainyard why judge@dpo\n  trainyard why sft --json\n",
    )
    add = command.add_argument
    add("stage", help="as `dvc stage list` names it: sft, judge@dpo, judge (all its items), or judging.judge@dpo")
    add("--json", action="store_true", help="every reason, as JSON")
    command.set_defaults(run=run)


TITLES = {
    "never": "",
    "command": "command: ",
    "param": "params: ",
    "code": "code: ",
    "dependency": "reads: ",
    "output": "wrote: ",
    "upstream": "before it: ",
}


def run(options: argparse.Namespace) -> int:
    from stages.publishing.lineage.project import Project
    from stages.publishing.lineage.reasons import Reasons, as_json, find_stages

    project = Project()
    stages = find_stages(options.stage, project)
    reasons = Reasons(project)
    told = []
    for one in stages:
        found = reasons.now(one)
        ran = reasons.last(one) if not found else None
        told.append(as_json(one, found, ran))
        if options.json:
            continue
        print(f"{one.label}: {'would run again' if found else 'nothing changed since it last ran'}")
        for reason in found or (ran.reasons if ran else []):
            if ran and reason is ran.reasons[0]:
                print(one_line(f"it last ran after {ran.commit or 'all commits of dvc.lock'}, as"))
            name = (
                f"`{reason.name}` "
                if reason.kind == "upstream"
                else f"{reason.name} "
                if reason.kind != "never"
                else ""
            )
            print(f"  {TITLES[reason.kind]}{one_line(f'{name}{reason.what}')}")
    if options.json:
        print(shown_json(told))
    return 0
