"""A language model with a scalar head: the reward model, alone or several together, and PPO's value function, which
starts from it."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from stages.alignment.learning.batches import Exchange, Rows, answer_logprobs, lay_out
from stages.base.errors import InputError
from stages.base.files import atomic_path
from stages.base.record import StageRun
from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer
from stages.lm.checkpoint import load_model, save_model
from stages.lm.device import autocast
from stages.lm.forks import in_forks
from stages.lm.layout import Layout

REWARD = "data/alignment/reward"
HEAD = "head.safetensors"
ENSEMBLE = "ensemble.json"
Combine = Literal["mean", "worst", "uncertainty"]
Pooling = Literal["last", "mean", "likelihood"]


class ScalarModel(nn.Module):
    """A language model that gives a whole answer one number, its reward.

    pooling: what the head reads. Of the hidden states, the one at the answer's `last` position (Ouyang et al. 2022) or
    their `mean` over its positions; the head starts at zero, so that all rewards start equal. Or the `likelihood` of
    the answer: the mean log-probability of its tokens by the model itself, times a weight, plus a level (the reward of
    Meng et al. 2024, SimPO, eq. 4); weight 1 and level 0 at the start, so that before any training it prefers the
    answers of which the SFT model is surest (Huang et al. 2024, "Self-Improvement in Language Models: The Sharpening
    Mechanism").
    head_seed: a head on hidden states starts as N(0, 1 / (d_model + 1)) instead (Stiennon et al. 2020), by which
    members of an ensemble differ.
    """

    def __init__(self, decoder: LanguageModel, pooling: Pooling, head_seed: int | None = None) -> None:
        super().__init__()
        self.decoder, self.pooling = decoder, pooling
        reads_states = pooling != "likelihood"
        self.head = nn.Linear(decoder.config.d_model if reads_states else 1, 1).to(decoder.head_weight.device)
        if not reads_states:
            nn.init.ones_(self.head.weight)
        elif head_seed is None:
            nn.init.zeros_(self.head.weight)
        else:
            drawn = torch.randn(self.head.weight.shape, generator=torch.Generator().manual_seed(head_seed))
            self.head.weight.data.copy_(drawn / (decoder.config.d_model + 1) ** 0.5)
        nn.init.zeros_(self.head.bias)
        if reads_states and not decoder.config.tie_embeddings:
            decoder.head_weight.requires_grad_(False)  # the vocabulary head has no part in a scalar

    def forward(self, tokens: Tensor, layout: Layout | None = None) -> Tensor:
        """Token ids (B, T) → the head on the hidden state of each position (B, T), where it reads these."""
        with autocast():
            hidden = self.decoder.hidden(tokens, layout=layout)
        return self.head(hidden.float()).squeeze(-1)

    def reward(self, rows: Rows) -> Tensor:
        """The reward of each whole answer, [exchanges]; the rows have the ends of their exchanges."""
        if self.pooling == "likelihood":
            means = answer_logprobs(self.decoder, rows) / rows.lengths
            return self.head(means[:, None]).squeeze(-1)
        values = self(rows.tokens, rows.layout)[0]
        if self.pooling == "mean":
            return rows.sums(values[rows.places]) / rows.lengths
        return values[rows.places[rows.lengths.long().cumsum(0) - 1]]


def save_scalar(folder: Path, model: ScalarModel, tokenizer: ChatTokenizer) -> None:
    """A model folder plus `head.safetensors`: weight [1, C], of a likelihood [1, 1], bias [1], the pooling in its
    metadata."""
    save_model(folder, model.decoder, tokenizer)
    tensors = {
        name: value.detach().float().cpu().contiguous() for name, value in sorted(model.head.state_dict().items())
    }
    with atomic_path(folder / HEAD) as temporary:
        save_file(tensors, temporary, metadata={"pooling": model.pooling})


def load_scalar(folder: Path) -> ScalarModel:
    """Raises InputError if a file is missing, cut or of another shape, or does not say how answers are pooled."""
    decoder = load_model(folder)
    try:
        with safe_open(folder / HEAD, framework="pt") as file:
            said = (file.metadata() or {}).get("pooling")
            pooling = next((known for known in get_args(Pooling) if known == said), None)
            if pooling is None:
                raise InputError(
                    f"{folder / HEAD}: its metadata has to say `pooling`, {', '.join(get_args(Pooling))}, and says "
                    f"{said or 'none'}; run alignment.reward again"
                )
            model = ScalarModel(decoder, pooling)
            model.head.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (SafetensorError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{folder / HEAD}: not a readable scalar head ({reason}); run alignment.reward again"
        ) from None
    return model.eval()


def read_value_function(run: StageRun[Any]) -> ScalarModel:
    """PPO's value function as it starts: a copy of the reward model, of several the first; of one that reads the
    likelihood, its decoder with a head at zero. Registered in the run's record."""
    model = load_scalar(run.input(REWARD))
    return ScalarModel(model.decoder, "last").eval() if model.pooling == "likelihood" else model


@torch.inference_mode()
def rewards_of(model: ScalarModel, exchanges: list[Exchange], batch_size: int = 128) -> list[float]:
    """The reward of each exchange. Batches are of similar lengths and, on a CPU, shared among forked processes."""
    home = model.head.weight.device
    order = sorted(range(len(exchanges)), key=lambda index: (len(exchanges[index]), index))
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]

    def score(number: int) -> list[float]:
        return model.reward(lay_out([[exchanges[index]] for index in batches[number]], home, ends=True)).tolist()

    rewards = [0.0] * len(exchanges)
    for number, values in in_forks(score, len(batches)):
        for index, value in zip(batches[number], values, strict=True):
            rewards[index] = value
    return rewards


@dataclass(frozen=True)
class Ensemble:
    """Reward models that were trained alike from other seeds (Coste et al. 2023, "Reward Model Ensembles Help Mitigate
    Overoptimization"), and how their rewards become one.

    combine: their `mean`; the `worst`, the lowest of them; or the mean minus `uncertainty` times their variance.
    levels: of each member, what is taken from its rewards first, since the likelihood leaves their level free.
    """

    members: Sequence[ScalarModel]
    combine: Combine = "mean"
    uncertainty: float = 0.0
    levels: Sequence[float] = (0.0,)

    def each(self, exchanges: Sequence[Exchange]) -> np.ndarray:
        """Rewards by every member, [members, exchanges]."""
        found = [rewards_of(member, list(exchanges)) for member in self.members]
        return np.array(found, dtype=np.float64) - np.asarray(self.levels)[:, None]

    def combined(self, rewards: np.ndarray) -> list[float]:
        """[members, exchanges] → a reward an exchange."""
        if self.combine == "worst":
            return [float(value) for value in rewards.min(axis=0)]
        penalty = self.uncertainty * rewards.var(axis=0) if self.combine == "uncertainty" else 0.0
        return [float(value) for value in rewards.mean(axis=0) - penalty]

    def rewards(self, exchanges: Sequence[Exchange]) -> list[float]:
        """Raises InputError where one is NaN or infinite."""
        found = self.combined(self.each(exchanges))
        broken = sum(not math.isfinite(value) for value in found)
        if broken:
            raise InputError(
                f"{REWARD}: the reward model gives {broken} of {len(found)} answers no finite reward; run "
                "alignment.reward again with a lower `lr`"
            )
        return found


def member_folder(folder: Path, member: int) -> Path:
    """The first is the folder itself, a model folder like any other; the others lie below it."""
    return folder / f"member_{member}" if member else folder


def load_ensemble(folder: Path) -> Ensemble:
    """Of `alignment.reward`'s folder; one member where there is no `ensemble.json`. Raises InputError for a file that
    is missing, cut or of another shape."""
    path = folder / ENSEMBLE
    if not path.exists():
        return Ensemble([load_scalar(folder)])
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        combine, uncertainty, levels = found["combine"], float(found["uncertainty"]), list(map(float, found["levels"]))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not an ensemble ({error!r}); run alignment.reward again") from None
    members = [load_scalar(member_folder(folder, member)) for member in range(len(levels))]
    return Ensemble(members, combine, uncertainty, levels)


RewardOf = Callable[[Sequence[Exchange]], list[float]]


def read_reward(run: StageRun[Any]) -> RewardOf:
    """What gives each exchange its reward, registered in the run's record; by all members where there are several.
    It raises InputError where a reward isn't finite."""
    return load_ensemble(run.input(REWARD)).rewards
