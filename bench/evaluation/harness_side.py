"""lm-evaluation-harness's side of the benches, run by the peers' Python: JSON lines in, JSON lines out.

    python bench/evaluation/harness_side.py <model folder> <batch size> < requests.jsonl > answers.jsonl

A request: {"context", "continuations"} or {"text"}. First line out: {"ready": seconds since this process started, when
it had its first score}. Last: {"seconds", "cpu"} of scoring the rest.
"""

import json
import os
import sys
import time
from pathlib import Path

FIELDS = Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()
STARTED = int(FIELDS[19]) / os.sysconf("SC_CLK_TCK")  # of this process, in seconds since the machine's start
os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_VERBOSITY"] = "1"


def main() -> None:
    import torch
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    torch.set_num_threads(1)
    model = HFLM(pretrained=sys.argv[1], batch_size=int(sys.argv[2]), device="cpu", dtype="float32")

    def instances(rows: list, kind: str) -> list:
        return [Instance(kind, {}, arguments, 0) for arguments in rows]

    model.loglikelihood(instances([("Question: Where is Paris?\nAnswer:", " France")], "loglikelihood"), True)
    ready = time.clock_gettime(time.CLOCK_BOOTTIME) - STARTED
    print(json.dumps({"ready": ready, "cpu": time.process_time()}), flush=True)
    requests = [json.loads(line) for line in sys.stdin]
    pairs = [(r["context"], c) for r in requests if "context" in r for c in r["continuations"]]
    texts = [(r["text"],) for r in requests if "text" in r]
    begun, cpu = time.perf_counter(), time.process_time()
    found = iter(model.loglikelihood(instances(pairs, "loglikelihood"), True) if pairs else [])
    model.add_bos_token = False  # else it scores the BOS that a tokenizer adds: one that stands behind another
    rolling = iter(model.loglikelihood_rolling(instances(texts, "loglikelihood_rolling"), True) if texts else [])
    took = {"seconds": time.perf_counter() - begun, "cpu": time.process_time() - cpu}
    for request in requests:
        if "text" in request:
            print(json.dumps({"nats": [next(rolling)]}))
        else:
            values = [next(found) for _ in request["continuations"]]
            print(json.dumps({"nats": [nats for nats, _ in values], "greedy": [greedy for _, greedy in values]}))
    print(json.dumps(took))


if __name__ == "__main__":
    main()
