"""Best of n: n answers of the SFT model to each prompt, of which the reward model picks one (Stiennon et al. 2020)."""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Annotated

import pyarrow as pa
from pydantic import Field

from stages.alignment.answering.answers import Answer, Sampling, answer, exact, summarise
from stages.alignment.answering.kept_answers import kept_answers
from stages.alignment.data.inputs import read_model
from stages.alignment.data.records import read_instructions, read_truth
from stages.alignment.learning.improvement import with_room
from stages.alignment.learning.selection import validated
from stages.alignment.rewards.scalar import read_reward
from stages.base import schemas
from stages.base.record import stage


class BestOfNParams(Sampling):
    n: Annotated[int, Field(ge=1)]
    """Answers of each prompt."""


PARAMS = {"alignment.best_of_n": BestOfNParams}
SPLITS = ("validation", "test")
NOTHING = Answer((), (), "", ended=False)  # to a prompt that leaves no room for an answer


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
        roomy = with_room(rows, tokenizer, model.config.max_seq_len)
        prompts = [row.asked for row in roomy]
        label, keep = f"best of {params.n}", kept_answers(run)
        given = answer(model, tokenizer, prompts, params, seed=run.seed, samples=params.n, label=label, keep=keep)
        rewards = reward([one.exchange(tokenizer.end_id) for group in given for one in group])
        own = [rewards[at : at + params.n] for at in range(0, len(rewards), params.n)]
        groups = {row.id: group for row, group in zip(roomy, given, strict=True)}
        picked = {row.id: one for row, one in zip(roomy, pick(given, rewards), strict=True)}
        chosen = [picked.get(row.id, NOTHING) for row in rows]
        outputs = [
            {"id": row.id, "split": row.split, "prompt": row.prompt, "output": one.text, "tokens": len(one.ids)}
            for row, one in zip(rows, chosen, strict=True)
        ]
        run.write_table("outputs.parquet", pa.Table.from_pylist(outputs, schema=schemas.OUTPUT), schemas.OUTPUT)
        run.rows(len(rows), len(outputs), {}, max_drop=0.0)
        without = [row for row in rows if row.id not in picked]
        run.note("no_room", {"rows": len(without), "first": [row.id for row in without[:10]]})
        shown = [row for row in rows if row.split == "validation"]
        known = [row for row in shown if row.id in groups]
        samples = [exact(truth, known, [groups[row.id][k].text for row in known]) for k in range(params.n)]
        by_prompt = [[float(one.score) for one in scores if one] or None for scores in zip(*samples, strict=True)]
        oracle = [max(scores) for scores in by_prompt if scores]
        best = [picked.get(row.id, NOTHING) for row in shown]
        first = [groups[row.id][0] if row.id in groups else NOTHING for row in shown]
        mine = [found for row, found in zip(roomy, own, strict=True) if row.split == "validation"]
        curve = over_optimisation(mine, by_prompt) if mine else []
        run.write_json(
            "metrics.json",
            {
                "n": params.n,
                "kl_bound": kl_bound(params.n),
                "no_room": len(without),
                **(validated(summarise(truth, shown, best)) if shown else {}),
                **(validated(summarise(truth, shown, first), "one_") if shown else {}),
                "validation_oracle_exact_score": fmean(oracle) if oracle else None,
                "validation_reward": curve[-1]["reward"] if curve else None,
                "validation_one_reward": fmean(found[0] for found in mine) if mine else None,
            },
        )
        run.write_json("over_optimisation.json", curve)


if __name__ == "__main__":
    main()
