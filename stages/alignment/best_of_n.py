"""Best of n: n answers of the SFT model to each prompt, of which the reward model picks one (Stiennon et al. 2020)."""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Annotated

import pyarrow as pa
from pydantic import Field

from stages.alignment.answers import Answer, Sampling, answer, exact, summarise
from stages.alignment.inputs import read_model
from stages.alignment.records import read_instructions, read_truth
from stages.alignment.scalar import read_reward
from stages.alignment.selection import validated
from stages.base import schemas
from stages.base.record import stage


class BestOfNParams(Sampling):
    n: Annotated[int, Field(ge=1)]
    """Answers of each prompt."""


PARAMS = {"alignment.best_of_n": BestOfNParams}
SPLITS = ("validation", "test")


def pick(groups: Sequence[Sequence[Answer]], rewards: Sequence[float]) -> list[Answer]:
    """The answer of each group with the highest reward, the first of equals; `rewards` runs over all groups."""
    chosen, at = [], 0
    for group in groups:
        own = rewards[at : at + len(group)]
        at += len(group)
        chosen.append(group[max(range(len(group)), key=lambda k: (own[k], -k))])
    return chosen


def kl_bound(n: int) -> float:
    """Upper bound on KL(best of n || SFT) in nats: log n - (n - 1) / n (Stiennon et al. 2020, appendix G.3)."""
    return math.log(n) - (n - 1) / n


def expected_best(values: Sequence[float], rewards: Sequence[float], n: int) -> float:
    """Mean value of the answer with the highest reward, over all choices of `n` of the samples (Gao et al. 2022,
    appendix E): of N sorted by reward, the i-th is the best of C(i − 1, n − 1) of the C(N, n) choices. Of equal
    rewards the first counts as the higher, as in `pick`."""
    order = sorted(range(len(rewards)), key=lambda k: (rewards[k], -k))
    chosen = [math.comb(place, n - 1) for place in range(len(order))]
    return math.fsum(share * values[k] for share, k in zip(chosen, order, strict=True)) / math.comb(len(order), n)


def over_optimisation(
    rewards: Sequence[Sequence[float]], scores: Sequence[Sequence[float] | None]
) -> list[dict[str, float | None]]:
    """What more choice brings by the reward model's count and by the truth, over the distance from the SFT model: a row
    for each n up to the number of samples. The true score is None where truth is not known of any prompt."""
    known = [(own, found) for own, found in zip(rewards, scores, strict=True) if found is not None]
    return [
        {
            "n": float(n),
            "kl_bound": kl_bound(n),
            "reward": fmean(expected_best(own, own, n) for own in rewards),
            "exact_score": fmean(expected_best(found, own, n) for own, found in known) if known else None,
        }
        for n in range(1, len(rewards[0]) + 1)
    ]


def main() -> None:
    with stage("alignment.best_of_n", BestOfNParams, seed="run.seed") as run:
        params = run.params
        rows = [row for row in read_instructions(run) if row.split in SPLITS]
        model, tokenizer = read_model(run, "sft")
        reward = read_reward(run)
        truth = read_truth(run)
        prompts = [row.asked for row in rows]
        groups = answer(model, tokenizer, prompts, params, seed=run.seed, samples=params.n, label=f"best of {params.n}")
        exchanges = [given.exchange(tokenizer.end_id) for group in groups for given in group]
        rewards = reward(exchanges)
        chosen = pick(groups, rewards)
        outputs = [
            {
                "id": row.id,
                "split": row.split,
                "prompt": row.prompt,
                "output": given.text,
                "tokens": len(given.ids),
            }
            for row, given in zip(rows, chosen, strict=True)
        ]
        run.write_table("outputs.parquet", pa.Table.from_pylist(outputs, schema=schemas.OUTPUT), schemas.OUTPUT)
        run.rows(len(rows), len(outputs), {}, max_drop=0.0)
        mine = [index for index, row in enumerate(rows) if row.split == "validation"]
        shown = [rows[index] for index in mine]
        samples = [exact(truth, shown, [groups[index][k].text for index in mine]) for k in range(params.n)]
        oracle = [max(s.score for s in scores if s) for scores in zip(*samples, strict=True) if any(scores)]
        picked, first = [chosen[i] for i in mine], [groups[i][0] for i in mine]
        run.write_json(
            "metrics.json",
            {
                "n": params.n,
                "kl_bound": kl_bound(params.n),
                **(validated(summarise(truth, shown, picked)) if mine else {}),
                **(validated(summarise(truth, shown, first), "one_") if mine else {}),
                "validation_oracle_exact_score": fmean(oracle) if oracle else None,
            },
        )
        by_prompt = [[float(one.score) for one in scores if one] or None for scores in zip(*samples, strict=True)]
        own = [rewards[index * params.n : (index + 1) * params.n] for index in mine]
        run.write_json("over_optimisation.json", over_optimisation(own, by_prompt) if mine else [])


if __name__ == "__main__":
    main()
