"""What the reward model says of every judged answer, the controls' too: the proxy that methods were tuned to, beside
what judges and the truth say (Gao et al. 2022 call it so)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stages.alignment.learning.batches import encode_exchange
from stages.alignment.rewards.scalar import REWARD, Ensemble, load_ensemble
from stages.base import schemas
from stages.base.artifacts import BASELINE, JUDGED, RESPONSES, read_instructions
from stages.base.conversation import Asked
from stages.base.errors import InputError
from stages.base.recipe import Run
from stages.base.record import stage
from stages.base.stats import mean_interval
from stages.lm.chat import ChatTokenizer, load_tokenizer
from stages.lm.device import environment, set_threads

PARAMS = {"run": Run}
SPLIT = "test"


def agreement(
    rewards: Mapping[str, float], baseline: Mapping[str, float], preferences: Mapping[str, float]
) -> tuple[float | None, int]:
    """(Share of comparisons with the baseline in which the reward model and the judge prefer the same answer, how many
    there are), all by instruction; comparisons that either calls a draw, or the judge says nothing of, are left out.

    preferences: 1 (the baseline wins) to 2.
    """
    same = [
        (rewards[key] > baseline[key]) == (preference > 1.5)
        for key, preference in preferences.items()
        if key in rewards and key in baseline and not math.isnan(preference)
        if preference != 1.5 and rewards[key] != baseline[key]
    ]
    return (float(np.mean(same)) if same else None), len(same)


def of_model(
    rewards: Mapping[str, float], baseline: Mapping[str, float], preferences: Mapping[str, float]
) -> dict[str, float | int | None]:
    """Mean reward with its 95 % interval over questions, and how often it agrees with the judge."""
    found = mean_interval(list(rewards.values()))
    agreed, compared = agreement(rewards, baseline, preferences)
    return {
        "n": len(rewards),
        "reward": found.mean if rewards else None,
        "low": found.low if len(rewards) > 1 else None,
        "high": found.high if len(rewards) > 1 else None,
        "agreement": agreed,
        "compared": compared,
    }


def rewards_by_id(
    ensemble: Ensemble,
    tokenizer: ChatTokenizer,
    asked: Mapping[str, Asked],
    answers: Sequence[Mapping[str, Any]],
    path: str,
) -> dict[str, float]:
    """The reward of each test answer, by instruction; without those that have no room in the reward model's context.
    All are read as if they had ended. Raises InputError naming `path` for answers to other instructions."""
    limit = ensemble.members[0].decoder.config.max_seq_len
    texts = {row["id"]: row["output"] for row in answers if row["split"] == SPLIT}
    unknown = [key for key in texts if key not in asked]
    if unknown:
        raise InputError(
            f"{path}: {len(unknown)} of {len(texts)} answers are to instructions that are not there any more, as to "
            f"{unknown[0]!r}; run `dvc repro`"
        )
    fitting = [key for key, text in texts.items() if len(tokenizer.encode_example(asked[key], text)[0]) <= limit]
    exchanges = [encode_exchange(tokenizer, asked[key], texts[key], limit) for key in fitting]
    return dict(zip(fitting, ensemble.rewards(exchanges), strict=True))


def main() -> None:
    with stage("alignment.proxy_rewards", Run, section="run") as run:
        set_threads()
        folder = run.input(REWARD)
        ensemble, tokenizer = load_ensemble(folder), load_tokenizer(folder)
        asked = {row["id"]: row["messages"] or row["prompt"] for row in read_instructions(run)}
        references = run.read_table(BASELINE, schemas.OUTPUT).to_pylist()
        baseline = rewards_by_id(ensemble, tokenizer, asked, references, BASELINE)
        found = {}
        for key in run.items(RESPONSES):
            path = f"{RESPONSES}/{key}/outputs.parquet"
            answers = run.read_table(path, schemas.OUTPUT).to_pylist()
            judged = run.read_table(f"{JUDGED}/{key}/annotations.parquet", schemas.ANNOTATION).to_pylist()
            preferences = {row["id"]: row["preference"] for row in judged if row["split"] == SPLIT}
            found[key] = of_model(rewards_by_id(ensemble, tokenizer, asked, answers, path), baseline, preferences)
        run.write_json("proxy_rewards.json", found)
        run.write_json("metrics.json", {f"{key}_reward": one["reward"] for key, one in found.items()})
        run.note("environment", environment())


if __name__ == "__main__":
    main()
