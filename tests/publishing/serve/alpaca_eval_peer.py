"""Run by the peers' Python: alpaca_eval's decoder `openai_completions`, against a server. Prints one JSON line."""

import json
import os
import sys

os.environ |= {"OPENAI_API_KEY": "none", "OPENAI_API_BASE": f"{sys.argv[1]}/v1"}

from alpaca_eval.decoders.openai import openai_completions  # reads the environment

prompts = [f"<|im_start|>user\n{question}\n<|im_end|>" for question in json.loads(sys.argv[2])]
found = openai_completions(
    prompts, "red", max_tokens=12, is_strip=False, num_procs=1, price_per_token=0.0, temperature=0.0
)
print(json.dumps(found["completions"]))
