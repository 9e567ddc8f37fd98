"""Our side of `training.py`: `our_side.py METHOD MODEL ROWS.jsonl STEPS`, a line of JSON as `trl_side.py` prints it."""

import json
import resource
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from torch import Tensor

from stages.alignment import dpo, reward, sft
from stages.alignment.data.records import Preference
from stages.alignment.learning.batches import encode_turns, lay_out
from stages.alignment.learning.pairs import Pair, encode_pairs
from stages.alignment.learning.tuning import BatchLoss, Report, Tuning, TuningParams, tune
from stages.alignment.reference import logprobs_of
from stages.alignment.rewards.scalar import ScalarModel
from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer, load_tokenizer
from stages.lm.checkpoint import load_model
from stages.lm.device import set_threads

COMMON: dict[str, Any] = {
    "epochs": 1,
    "batch_size": 4,
    "lr": 1e-5,
    "weight_decay": 0.0,
    "warmup": 0.0,
    "clip": 1.0,
    "max_drop": 0.0,
}
PARAMS = TuningParams(**COMMON)
DPO = dpo.DpoParams(
    **COMMON, betas=[0.1], loss="sigmoid", length_normalised=False, nll_weight=0.0, held_out=0.1, validations=1,
    max_new_tokens=1, max_kl=None,
)  # fmt: skip


def sft_loss(model: LanguageModel, tokenizer: ChatTokenizer, rows: list[dict[str, str]]) -> tuple[BatchLoss, list[int]]:
    exchanges = [encode_turns(tokenizer, row["prompt"], row["completion"]) for row in rows]
    home = model.head_weight.device

    def loss(batch: list[int]) -> tuple[Tensor, Report]:
        return sft.completion_loss(model, lay_out([[exchanges[index]] for index in batch], home))

    return loss, [len(one) for one in exchanges]


def pairs_of(tokenizer: ChatTokenizer, rows: list[dict[str, str]], limit: int) -> list[Pair]:
    preferences = [
        Preference(str(n), row["prompt"], row["chosen"], row["rejected"], 1.0, None, None, "")
        for n, row in enumerate(rows)
    ]
    return encode_pairs(tokenizer, preferences, limit)


def main() -> None:
    method, folder, path, steps = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
    set_threads()
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()][: 4 * steps]
    trained: LanguageModel | ScalarModel = model
    if method == "sft":
        loss, lengths = sft_loss(model, tokenizer, rows)
    else:
        pairs = pairs_of(tokenizer, rows, model.config.max_seq_len)
        lengths = [len(pair) for pair in pairs]
        if method == "dpo":
            scored = logprobs_of(model, pairs)
            compared = [dpo.ComparedPair(*both) for both in zip(pairs, scored, strict=True)]

            def loss(batch: list[int]) -> tuple[Tensor, Report]:
                return dpo.batch_loss(model, [compared[index] for index in batch], 0.1, DPO)
        else:
            trained = ScalarModel(model, "last")
            loss = reward.pair_loss(trained, pairs, 0.0)
    marks: list[float] = []

    def timed(batch: list[int]) -> tuple[Tensor, Report]:
        marks.append(time.process_time())
        return loss(batch)

    tune(trained.train(), timed, lengths, [1.0] * len(lengths), Tuning(PARAMS, 1, 1, method))
    marks.append(time.process_time())
    seconds = [after - before for before, after in pairwise(marks)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "start": marks[0], "peak_mib": peak}))


if __name__ == "__main__":
    main()
