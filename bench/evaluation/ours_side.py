"""Our side of the benches: as `harness_side.py`, on the engine."""

import json
import os
import sys
import time
from pathlib import Path

FIELDS = Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()
STARTED = int(FIELDS[19]) / os.sysconf("SC_CLK_TCK")  # of this process, in seconds since the machine's start
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def main() -> None:
    from stages.evaluation.scoring.local import open_folder
    from stages.evaluation.scoring.requests import Choices

    engine = open_folder(sys.argv[1])
    engine.likelihoods([Choices(("Question: Where is Paris?\nAnswer:",), (" France",))], "left")
    ready = time.clock_gettime(time.CLOCK_BOOTTIME) - STARTED
    print(json.dumps({"ready": ready, "cpu": time.process_time()}), flush=True)
    requests = [json.loads(line) for line in sys.stdin]
    choices = [Choices((r["context"],), tuple(r["continuations"])) for r in requests if "context" in r]
    texts = [r["text"] for r in requests if "text" in r]
    begun, cpu = time.perf_counter(), time.process_time()
    found, rolling = iter(engine.likelihoods(choices, "left")), iter(engine.rolling(texts, engine.limit))
    took = {"seconds": time.perf_counter() - begun, "cpu": time.process_time() - cpu}
    for request in requests:
        if "text" in request:
            print(json.dumps({"nats": [next(rolling).nats]}))
        else:
            values = next(found)
            print(json.dumps({"nats": [one.nats for one in values], "greedy": [one.greedy for one in values]}))
    print(json.dumps(took))


if __name__ == "__main__":
    main()
