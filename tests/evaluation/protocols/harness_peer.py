"""The LM Evaluation Harness on tasks of a folder, run by the peers' Python: `… <model folder> <folder> <task>…`.

Those whose name begins with `chat_` go through the model's chat template, examples as turns. Prints one JSON object:
task → items in order, each with its contexts, its (nats, greedy) or texts, and its scores by metric.
"""

import json
import sys


def main() -> None:
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    folder, yamls, *tasks = sys.argv[1:]
    model = HFLM(folder, dtype="float32", device="cpu", batch_size=4)
    manager = TaskManager(include_path=yamls, include_defaults=False)
    out = {}
    for chat in (False, True):
        found = simple_evaluate(
            model=model,
            tasks=[task for task in tasks if task.startswith("chat_") == chat],
            bootstrap_iters=0,
            fewshot_random_seed=1234,
            apply_chat_template=chat,
            fewshot_as_multiturn=chat,
            task_manager=manager,
        )
        for task, samples in found["samples"].items():
            rows: dict[int, dict] = {}
            for sample in samples:
                row = rows.setdefault(sample["doc_id"], {"scores": {}})
                row["found"] = [answer[0] for answer in sample["resps"]]
                row["contexts"] = [pair[0] for pair in sample["arguments"]]
                row["scores"] |= {f"{metric},{sample['filter']}": sample[metric] for metric in sample["metrics"]}
            out[task] = [rows[number] for number in sorted(rows)]
    print(json.dumps(out, default=float))


if __name__ == "__main__":
    main()
