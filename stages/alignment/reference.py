"""What the SFT model finds of each preferred and rejected answer, once for every setting and rerun of DPO."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pyarrow as pa
import torch

from stages.alignment.data.inputs import read_model
from stages.alignment.data.records import Preference, read_preferences
from stages.alignment.learning.batches import answer_logprobs, lay_out
from stages.alignment.learning.pairs import Pair, encode_pairs, that_fit
from stages.base.errors import InputError
from stages.base.recipe import Run
from stages.base.record import StageRun, stage
from stages.lm.build import LanguageModel
from stages.lm.device import environment
from stages.lm.forks import in_forks

BATCH_TOKENS = 4096
REFERENCE = "data/alignment/reference/logprobs.parquet"
SCHEMA = pa.schema(
    [
        ("place", pa.int32()),  # of the pair among the preferences of all sources
        ("id", pa.string()),  # of its instruction
        ("chosen", pa.float64()),  # summed log-probability of the answer, nats
        ("rejected", pa.float64()),
    ]
)


PARAMS = {"run": Run}


def logprobs_of(model: LanguageModel, pairs: Sequence[Pair]) -> list[tuple[float, float]]:
    """Summed log-probabilities of chosen and rejected answer, in nats; a pair's prompt is read once. On a CPU as many
    processes as there are workers share the batches, with the same result."""
    batches = _batches(pairs)

    @torch.inference_mode()
    def score(number: int) -> list[float]:
        rows = lay_out([pairs[place].sides for place in batches[number]], model.head_weight.device)
        return answer_logprobs(model, rows).tolist()

    found = dict(in_forks(score, len(batches)))
    flat = [value for number in range(len(batches)) for value in found[number]]
    return list(zip(flat[::2], flat[1::2], strict=True))


def _batches(pairs: Sequence[Pair]) -> list[range]:
    """Places of pairs that follow each other, of at most about BATCH_TOKENS tokens together."""
    edges, tokens = [0], 0
    for place, pair in enumerate(pairs):
        tokens += sum(map(len, pair.sides))
        if tokens > BATCH_TOKENS and place > edges[-1]:
            edges.append(place)
            tokens = sum(map(len, pair.sides))
    return [range(*span) for span in pairwise([*edges, len(pairs)])] if pairs else []


def read_reference(run: StageRun[Any], preferences: Sequence[Preference]) -> dict[int, tuple[float, float]]:
    """Log-probabilities of chosen and rejected answer by the pair's place. Raises InputError for a table of others."""
    rows = run.read_table(REFERENCE, SCHEMA).to_pylist()
    if any(row["place"] >= len(preferences) or preferences[row["place"]].id != row["id"] for row in rows):
        raise InputError(f"{REFERENCE}: its pairs are not those of the preferences; run alignment.reference again")
    return {row["place"]: (row["chosen"], row["rejected"]) for row in rows}


def main() -> None:
    with stage("alignment.reference", Run, section="run") as run:
        model, tokenizer = read_model(run, "sft")
        preferences = read_preferences(run)
        limit = model.config.max_seq_len
        places = [place for place, row in enumerate(preferences) if that_fit(tokenizer, [row], limit)]
        pairs = encode_pairs(tokenizer, [preferences[place] for place in places], limit)
        rows = [
            {"place": place, "id": preferences[place].id, "chosen": chosen, "rejected": rejected}
            for place, (chosen, rejected) in zip(places, logprobs_of(model, pairs), strict=True)
        ]
        run.write_table("logprobs.parquet", pa.Table.from_pylist(rows, schema=SCHEMA), SCHEMA)
        too_long = len(preferences) - len(rows)
        run.rows(len(preferences), len(rows), {"too_long": too_long}, max_drop=1.0)  # DPO bounds it
        run.note("environment", environment())


if __name__ == "__main__":
    main()
