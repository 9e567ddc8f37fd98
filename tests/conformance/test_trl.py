"""SFT, DPO and the reward model take the same path as TRL's trainers: loss after loss of the same steps on one batch.

The losses of later steps depend on the gradients of the earlier ones, so that these agree, too.
"""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from stages.alignment.learning.batches import Rows, answer_logprobs, encode_exchange, encode_turns, lay_out
from stages.alignment.losses import DpoKind, dpo_loss, reward_loss
from stages.alignment.rewards.scalar import ScalarModel
from stages.alignment.sft import completion_loss
from stages.lm.chat import TEMPLATE
from stages.lm.checkpoint import load_model, save_model
from tests.alignment.conftest import byte_tokenizer, tiny_model

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
STEPS, RATE = 4, 1e-2
BETA = {"sigmoid": 0.3, "ipo": 0.3, "hinge": 0.01}  # at a larger one the hinge is soon at rest
ASKED = [("Where?", "There.", "No, here."), ("Who was it", "Ann", "Bob or Ann"), ("a b c", "d", "e f g h i")]
# Conversations of several turns, with and without a system's; every answer is learned.
TALKS = [
    [("system", "Be."), ("user", "a?"), ("assistant", "b c"), ("user", "And d?"), ("assistant", "ef")],
    [("user", "Who?"), ("assistant", "Ann"), ("user", "So?"), ("assistant", "Bob"), ("user", "x"), ("assistant", "yz")],
    [("system", "No."), ("user", "Hm"), ("assistant", "That")],
]
ANSWER = "{{ '<|assistant|>' + message['content'] + '<|end|>' }}"  # of our template; the peers' tells what is learned
MARKED = "{{ '<|assistant|>' }}{% generation %}{{ message['content'] + '<|end|>' }}{% endgeneration %}"
KINDS: dict[str, DpoKind] = {"dpo_sigmoid": "sigmoid", "dpo_ipo": "ipo", "dpo_hinge": "hinge"}


def path(model: nn.Module, loss: Callable[[], Tensor]) -> list[float]:
    """As the peers' trainer takes its steps: AdamW with torch's defaults and no decay, gradients clipped to norm 1."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.0)
    found = []
    for _ in range(STEPS):
        value = loss()
        found.append(float(value.detach()))
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """(Ours, TRL's): losses of each step by name."""
    python = os.environ.get("TRAINYARD_PEERS_PYTHON") or str(ROOT / ".venv-peers" / "bin" / "python")
    if not Path(python).exists():
        pytest.skip("no peers' environment: set TRAINYARD_PEERS_PYTHON, or make .venv-peers")
    folder = tmp_path_factory.mktemp("trl")
    tokenizer = byte_tokenizer(folder / "tokenizer")
    save_model(folder / "model", tiny_model(tokenizer), tokenizer)

    def rows(*sides: str) -> list[dict[str, list[dict[str, str]]]]:
        said = [dict(zip(("chosen", "rejected"), answers, strict=True)) for _, *answers in ASKED]
        return [
            {"prompt": [{"role": "user", "content": prompt}]}
            | {
                name: [{"role": "assistant", "content": answers["chosen" if name == "completion" else name]}]
                for name in sides
            }
            for (prompt, *_), answers in zip(ASKED, said, strict=True)
        ]

    pairs = rows("chosen", "rejected")
    talks = [[{"role": role, "content": content} for role, content in talk] for talk in TALKS]
    assert ANSWER in TEMPLATE
    job = {
        "model": str(folder / "model"),
        "steps": STEPS,
        "lr": RATE,
        "rows": {
            "sft": rows("completion"),
            "sft_turns": [{"messages": talk} for talk in talks],
            "dpo": pairs,
            "reward": pairs,
        },
        "templates": {"sft_turns": TEMPLATE.replace(ANSWER, MARKED)},
        "runs": {
            "sft": {"completion_only_loss": True},
            "sft_turns": {"assistant_only_loss": True},
            "reward": {"center_rewards_coefficient": 0.01},
        }
        | {name: {"loss_type": [kind], "beta": BETA[kind]} for name, kind in KINDS.items()},
    }
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    done = subprocess.run(
        [python, str(Path(__file__).with_name("trl_peer.py")), str(folder / "job.json")],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = json.loads(done.stdout.splitlines()[-1])

    exchanges = [[encode_exchange(tokenizer, prompt, answer, 64) for answer in answers] for prompt, *answers in ASKED]
    single, both = lay_out([group[:1] for group in exchanges], CPU), lay_out(exchanges, CPU)
    model = load_model(folder / "model")
    ours = {"sft": path(model, lambda: completion_loss(model, single)[0])}
    turns = lay_out([[encode_turns(tokenizer, talk[:-1], talk[-1]["content"])] for talk in talks], CPU)
    talker = load_model(folder / "model")
    ours["sft_turns"] = path(talker, lambda: completion_loss(talker, turns)[0])
    for name, kind in KINDS.items():
        ours[name] = preferred(folder / "model", both, kind)
    scalar = ScalarModel(load_model(folder / "model"), "last")
    ends = lay_out(exchanges, CPU, ends=True)

    def rewarded() -> Tensor:
        values = scalar.reward(ends)
        return reward_loss(values[::2], values[1::2], 0.01).loss

    scalar.head.bias.requires_grad_(False)  # theirs has none
    ours["reward"] = path(scalar, rewarded)
    return ours, theirs


def preferred(folder: Path, rows: Rows, kind: DpoKind) -> list[float]:
    model = load_model(folder)
    with torch.no_grad():
        reference = answer_logprobs(model, rows)
    lengths = (rows.lengths[::2], rows.lengths[1::2]) if kind == "ipo" else None

    def loss() -> Tensor:
        sums = answer_logprobs(model, rows)
        return dpo_loss(sums[::2], sums[1::2], reference[::2], reference[1::2], BETA[kind], kind, lengths).loss

    return path(model, loss)


@pytest.mark.parametrize("name", ["sft", "sft_turns", "reward", *KINDS])
def test_the_losses_of_the_same_steps_agree(
    name: str, trained: tuple[dict[str, list[float]], dict[str, list[float]]]
) -> None:
    ours, theirs = (losses[name] for losses in trained)
    assert len(theirs) == STEPS and len(set(theirs)) == STEPS, "each step has changed the loss"
    assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-4)
