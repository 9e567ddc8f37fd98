"""Run in the peers' environment: what lm-eval makes of tasks on local files.

Standard input: a list of {yaml (below lm_eval/tasks), files (split → jsonl), shots}. Standard output: for each, for
each document, the arguments of its requests and its gold answer.
"""

import json
import logging
import sys
from pathlib import Path

logging.disable(logging.CRITICAL)

import lm_eval.tasks  # noqa: E402
from lm_eval.api.task import ConfigurableTask  # noqa: E402
from lm_eval.tasks._yaml_loader import load_yaml  # noqa: E402

TASKS = Path(lm_eval.tasks.__file__).parent


def asked(case):
    config = load_yaml(TASKS / case["yaml"])
    for key in ("tag", "group", "task_list"):
        config.pop(key, None)
    config |= {"dataset_path": "json", "dataset_name": None, "dataset_kwargs": {"data_files": case["files"]}}
    task = ConfigurableTask(config=config)
    task.set_fewshot_seed(1234)
    for number, doc in enumerate(task.eval_docs):
        context = task.fewshot_context(doc, num_fewshot=case["shots"], gen_prefix=task.doc_to_prefix(doc))
        found = task.construct_requests(doc=doc, ctx=context, metadata=(None, number, 1))
        gold = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
        yield {
            "requests": [list(one.args) for one in (found if isinstance(found, list) else [found])],
            "gold": gold,
        }


if __name__ == "__main__":
    cases = json.load(sys.stdin)
    if not cases:
        print(TASKS)
    else:
        json.dump([list(asked(case)) for case in cases], sys.stdout)
