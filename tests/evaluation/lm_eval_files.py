"""Run in the peers' environment: lm-eval's own files, and its own readers over ours.

Arguments: folder of task files, folder to write to, a folder that `write_harness` filled. Standard output, last line:
what lm-eval's readers made of the latter, as JSON.
"""

import json
import os
import sys
from pathlib import Path

os.environ |= {"HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}

import datasets
import lm_eval
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager
from lm_eval.utils import (
    get_file_datetime,
    get_file_task_name,
    get_latest_filename,
    get_results_filenames,
    get_sample_results_filenames,
    make_table,
)

tasks, theirs, ours = sys.argv[1:]
names = sorted(path.stem for path in Path(tasks).glob("*.yaml"))
tracker = EvaluationTracker(output_path=theirs)
found = lm_eval.simple_evaluate(
    model="dummy",  # random log-likelihoods, the same words for every answer
    tasks=names,
    num_fewshot=2,
    task_manager=TaskManager(include_path=tasks, include_defaults=False),
    log_samples=True,
    evaluation_tracker=tracker,
)
samples = found.pop("samples")
tracker.save_results_aggregated(results=found, samples=samples)
for name in names:
    tracker.save_results_samples(task_name=name, samples=samples[name])

files = [str(path) for path in sorted(Path(ours).rglob("*"))]
results = get_latest_filename(get_results_filenames(files))
table = make_table(json.loads(Path(results).read_text()))
rows = {}
for file in get_sample_results_filenames(files):
    loaded = datasets.load_dataset("json", data_files=file, split="train", cache_dir=str(Path(theirs, "cache")))
    rows[get_file_task_name(Path(file).name)] = [loaded.num_rows, loaded[0]["arguments"], loaded.column_names]
print(json.dumps({"table": table, "rows": rows, "date": get_file_datetime(Path(results).name)}))
