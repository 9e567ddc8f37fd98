"""How many of lm-eval's own task files are read unchanged, and why the others aren't.

    python bench/evaluation/task_files.py [FOLDER] [--list REASON]

FOLDER holds YAML files as lm_eval/tasks does; by default that of the peers' environment. A file that others include and
that names no task is left out. "Plain" are those whose includes, too, name no Python function and no class.
"""

import argparse
import re
import time
from collections import Counter
from pathlib import Path

from stages.base.errors import InputError
from stages.evaluation.tasks.yaml_file import read_group_file, read_task_file

PEERS = next(Path().glob(".venv-peers/lib/python*/site-packages/lm_eval/tasks"), None)
CODE = "class|custom_dataset|process_docs|process_results|unsafe_code|doc_to_image|doc_to_audio|recipe"
REASONS = {r"is code \(!function": "a Python function", rf": `({CODE})`:": "code, or other things than text"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=PEERS)
    parser.add_argument("--list", default=None, help="print files and messages of refusals that hold this text")
    arguments = parser.parse_args()
    counts: Counter[str] = Counter()
    start = time.process_time()
    for path in sorted(arguments.folder.rglob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        if not re.search(r"^[\"']?(task|group)[\"']?\s*:", text, re.MULTILINE):
            continue
        is_group = re.search(r"^[\"']?group[\"']?\s*:", text, re.MULTILINE) is not None
        try:
            if is_group:
                read_group_file(path)
            else:
                read_task_file(path)
            counts["groups read" if is_group else "tasks read"] += 1
        except InputError as error:
            message = str(error).replace(str(arguments.folder), "")
            reason = next((said for pattern, said in REASONS.items() if re.search(pattern, message)), None)
            reason = reason or re.sub(r"^[^ ]* ", "", message)[:90]
            counts[("groups" if is_group else "tasks") + f" refused: {reason}"] += 1
            if arguments.list is not None and arguments.list in reason:
                print(message)
    seconds = time.process_time() - start
    for name, count in counts.most_common():
        print(f"{count:7,} {name}")
    tasks = sum(count for name, count in counts.items() if name.startswith("tasks"))
    code = sum(counts[f"tasks refused: {said}"] for said in set(REASONS.values()))
    print(f"{counts['tasks read']:,} of {tasks - code:,} plain tasks read ({tasks:,} in all); {seconds:.0f} CPU s")


if __name__ == "__main__":
    main()
