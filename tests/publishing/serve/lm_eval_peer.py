"""Run by the peers' Python: lm-eval's model `local-completions`, against a server. Prints one JSON line."""

import json
import sys

from lm_eval.api.instance import Instance
from lm_eval.models.openai_completions import LocalCompletionsAPI

url, folder, pairs, contexts = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), json.loads(sys.argv[4])
model = LocalCompletionsAPI(
    base_url=f"{url}/v1/completions", model="red", tokenizer=folder, tokenizer_backend="huggingface", max_length=256,
    num_concurrent=2, batch_size=2, add_bos_token=True,
)  # fmt: skip
scored = model.loglikelihood([Instance("loglikelihood", {}, tuple(pair), n) for n, pair in enumerate(pairs)])
until = {"until": ["."], "max_gen_toks": 12, "temperature": 0.0}
asked = [Instance("generate_until", {}, (context, dict(until)), n) for n, context in enumerate(contexts)]
print(json.dumps({"scored": scored, "generated": model.generate_until(asked)}))
