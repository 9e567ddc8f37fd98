"""What keeps a policy near the model it began as: the controller by hand, and policies that are stopped."""

import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
import yaml

from stages.alignment import grpo, ppo
from stages.alignment.answering.answers import Answer
from stages.alignment.data.records import Instruction
from stages.alignment.grpo import Groups, GrpoParams
from stages.alignment.learning.restraint import Collapse, KlWeight, require_finite
from stages.alignment.learning.tuning import Tuning
from stages.alignment.ppo import ActorCritic, PpoParams, Rollouts
from stages.alignment.rewards.scalar import ScalarModel
from stages.base.errors import InputError
from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer
from stages.lm.checkpoint import load_model
from stages.lm.loop import StopTraining


def test_the_weight_moves_by_the_papers_equation() -> None:
    """Ziegler et al. 2019: e = clip((KL − target) / target, −0.2, 0.2), β ← β (1 + K e)."""
    weight, by_hand = KlWeight(0.2, 6.0, 0.1), [0.2]
    for kl, error in ((12.0, 0.2), (5.4, -0.1), (0.0, -0.2), (6.0, 0.0), (6.6, 0.1)):
        weight.update(kl)
        by_hand.append(by_hand[-1] * (1 + 0.1 * error))
        assert weight.value == pytest.approx(by_hand[-1], rel=1e-12)
    fixed = KlWeight(0.2, None, 0.1)
    fixed.update(100.0)
    assert fixed.value == 0.2


def said(*ids: int) -> Answer:
    return Answer((1,), ids, "", True)


def test_answers_that_are_all_alike_end_training_unless_the_first_were() -> None:
    varied = Collapse(None)
    varied.check(0, [said(1), said(2)], 0.0)
    varied.check(1, [said(1), said(1), said()], 1e9)
    with pytest.raises(StopTraining, match="iteration 2: all 2 answers are the same"):
        varied.check(2, [said(3), said(3)], 0.0)
    with pytest.raises(StopTraining, match="iteration 3: all 3 answers are empty"):
        varied.check(3, [said(), said(), said()], 0.0)
    alike = Collapse(2.0)
    alike.check(0, [said(1), said(1)], 0.0)
    alike.check(1, [said(1), said(1)], 2.0)
    for kl in (2.1, math.inf, math.nan):
        with pytest.raises(StopTraining, match=r"iteration 1: .* above `max_kl` 2"):
            alike.check(1, [said(1), said(2)], kl)


def test_rewards_that_are_no_numbers_are_refused() -> None:
    require_finite([0.0, -1.0])
    with pytest.raises(InputError, match="2 of 3 answers no finite reward"):
        require_finite([math.nan, 1.0, -math.inf])


def asked(number: int) -> Instruction:
    return Instruction(str(number), "preference", "own", "", [], f"{number}?", "")


def letter_a(_: Sequence[Instruction], groups: Sequence[Sequence[Answer]]) -> list[list[float]]:
    return [[float(given.text == "a") for given in group] for group in groups]


def test_a_policy_that_says_one_thing_only_is_stopped(
    tokenizer: ChatTokenizer, make_model: Callable[..., LanguageModel]
) -> None:
    """One letter alone is paid for, and nothing is asked for distance: after some iterations it is all that is said."""
    policy = make_model(seed=3)
    params = GrpoParams(
        iterations=200, prompts=8, samples=12, epochs=1, minibatch_size=8, lr=2e-2, kl=0.0, max_kl=None,
        clip_ratio=0.2, clip=1.0, validations=200, max_new_tokens=1,
    )  # fmt: skip
    groups = Groups(policy, make_model(seed=3), tokenizer, [asked(k) for k in range(8)], letter_a, params, seed=5)
    visited: list[int] = []
    result = grpo.improve(policy, groups, Tuning(params, 5, 2, "test"), visited.append)
    assert result.stopped == f"iteration {len(result.rows)}: all 96 answers are the same"
    assert 0 < len(result.rows) < 200 and visited == [row["step"] for row in result.rows]
    entropies = [row["entropy"] for row in result.rows]
    assert entropies[0] > 3 and entropies[-1] < 0.5 and policy.training is False


def test_an_adapted_weight_holds_the_divergence_in_its_band(
    tokenizer: ChatTokenizer, make_model: Callable[..., LanguageModel]
) -> None:
    """Small letters are paid for. To say nothing else takes more than 2 nats: the target is 1."""
    policy, reference = make_model(seed=3), make_model(seed=3)
    params = PpoParams(
        iterations=45, rollouts=96, epochs=1, minibatch_size=48, lr=3e-3, value_lr=3e-3, kl=0.3, kl_target=1.0,
        kl_gain=0.5, max_kl=None, gamma=1.0, lam=0.95, clip_ratio=0.2, clip_value=0.2, value_weight=0.5,
        missing_end_penalty=0.0, clip=1.0, validations=1, max_new_tokens=1, reward="score",
    )  # fmt: skip

    def reward(answers: Sequence[Answer]) -> list[float]:
        return [float(given.text.isascii() and given.text.islower()) for given in answers]

    model = ActorCritic(policy, ScalarModel(make_model(seed=3), "last"))
    rollouts = Rollouts(model, reference, tokenizer, [f"{k}?" for k in range(16)], reward, params, seed=5)
    rows = ppo.improve(model, rollouts, Tuning(params, 5, 2, "test"), lambda _: None).rows
    sampled = [row for row in rows if "kl" in row]
    weights = [row["kl_weight"] for row in sampled]
    assert weights[0] == 0.3 and weights[1] == pytest.approx(0.3 * (1 - 0.5 * 0.2))  # at first no answer is far
    late = [row["kl"] for row in sampled[-15:]]
    assert max(row["kl"] for row in sampled) > 2  # before the weight had grown
    assert sum(late) / len(late) == pytest.approx(1.0, rel=0.3)


@pytest.mark.parametrize(("name", "validations"), [("ppo", 4), ("ppo", 1), ("grpo", 1)])
def test_a_stage_that_is_stopped_keeps_the_best_checkpoint(
    name: str,
    validations: int,
    prepared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(prepared, tmp_path / "run")
    monkeypatch.chdir(tmp_path / "run")
    monkeypatch.setenv("TRAINYARD_TRACK", "off")
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["alignment"][name] |= {"max_kl": 1e-9, "validations": validations, "lr": 0.01}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    (ppo if name == "ppo" else grpo).main()
    found = json.loads(Path(f"data/alignment/{name}/metrics.json").read_text())
    record = json.loads(Path(f"data/alignment/{name}/record.json").read_text())
    rows = [json.loads(line) for line in Path(f"data/alignment/{name}/steps.jsonl").read_text().splitlines()]
    assert found["stopped"] == record["notes"]["stopped"] and "above `max_kl` 1e-09" in found["stopped"]
    assert found["stopped"] in capsys.readouterr().err
    assert len(rows) in (4, 8, 12)  # whole iterations: a sampled divergence may be negative
    kept, started = (load_model(f"data/models/{key}").state_dict() for key in (name, "sft"))
    same = all(map(torch.equal, kept.values(), started.values()))
    if validations == 1:  # only the last iteration would have been measured
        assert found["best_step"] == -1 and found["validation_kl_to_sft"] == 0.0 and same
    else:
        assert found["best_step"] in (3, 7, 11) and not same
        seen = [row for row in rows if "validation_kl_to_sft" in row]
        assert len(seen) == len(rows) / 4 and all("validation_reward" in row for row in seen)
        assert found["validation_kl_to_sft"] == next(
            row["validation_kl_to_sft"] for row in seen if row["step"] == found["best_step"]
        )
