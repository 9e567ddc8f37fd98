"""Run in the peers' environment: word and byte perplexity and bits per byte of documents, by the LM Evaluation Harness.

`… <model folder> <documents.jsonl>`; each row of the file has `text`. Prints one JSON object.
"""

import json
import sys
import tempfile
from pathlib import Path

TASK = """task: rolled
dataset_path: json
dataset_kwargs: {{data_files: {{test: {documents}}}}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{text}}}}"
metric_list: [{{metric: word_perplexity}}, {{metric: byte_perplexity}}, {{metric: bits_per_byte}}]
"""
METRICS = ("word_perplexity", "byte_perplexity", "bits_per_byte")


def main() -> None:
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    folder, documents = sys.argv[1:]
    model = HFLM(folder, dtype="float32", device="cpu", batch_size=2)
    with tempfile.TemporaryDirectory() as home:
        Path(home, "rolled.yaml").write_text(TASK.format(documents=documents), encoding="utf-8")
        manager = TaskManager(include_path=home, include_defaults=False)
        found = simple_evaluate(model=model, tasks=["rolled"], bootstrap_iters=0, task_manager=manager)
    results = found["results"]["rolled"]
    print(json.dumps({name: results[f"{name},none"] for name in METRICS}))


if __name__ == "__main__":
    main()
