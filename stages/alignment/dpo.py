"""Direct preference optimisation of the SFT model (Rafailov et al. 2023), reference log-probabilities computed once."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import torch
from pydantic import Field

from stages.alignment.answers import Validation
from stages.alignment.batches import Exchange, bucketed, encode_exchange, pad
from stages.alignment.inputs import (
    SFT,
    read_instructions,
    read_model,
    read_preferences,
    read_tokenizer,
    read_truth,
)
from stages.alignment.losses import dpo_loss
from stages.base.params import Section
from stages.base.record import stage
from stages.base.seeds import derive
from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer
from stages.lm.checkpoint import save_model
from stages.lm.device import environment
from stages.lm.loop import train
from stages.lm.optim import build_optimizer
from stages.lm.rates import cosine
from stages.lm.scoring import completion_logprobs, sequence_logprobs


class DpoParams(Section):
    betas: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)]  # each is trained; validation chooses
    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]  # pairs
    lr: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    warmup: Annotated[float, Field(ge=0, le=1)]
    clip: Annotated[float, Field(ge=0)]
    nll_weight: Annotated[float, Field(ge=0)]  # of the chosen answer's mean token loss (Pang et al. 2024), 0: plain DPO
    validations: Annotated[int, Field(ge=1)]  # checkpoints of each beta that are compared on the validation split
    max_new_tokens: Annotated[int, Field(ge=1)]


PARAMS = {"alignment.dpo": DpoParams}


class ComparedPair:
    """A pair with the reference model's log-probabilities of both answers."""

    def __init__(self, chosen: Exchange, rejected: Exchange, reference: tuple[float, float]) -> None:
        self.chosen, self.rejected, self.reference = chosen, rejected, reference

    def __len__(self) -> int:
        return max(len(self.chosen), len(self.rejected))


def compare_pairs(
    reference: LanguageModel, tokenizer: ChatTokenizer, preferences: Sequence[dict[str, Any]]
) -> list[ComparedPair]:
    """Encode the preferences and let the reference model score them, once for all betas and epochs.

    Raises InputError for an exchange longer than the model's context.
    """
    limit = reference.config.max_seq_len
    encoded = [
        encode_exchange(tokenizer, row["prompt"], row[side], limit)
        for row in preferences
        for side in ("chosen", "rejected")
    ]
    logprobs = sequence_logprobs(reference, [(list(exchange.ids), exchange.start) for exchange in encoded])
    return [
        ComparedPair(encoded[at], encoded[at + 1], (logprobs[at], logprobs[at + 1])) for at in range(0, len(encoded), 2)
    ]


def batch_loss(
    model: LanguageModel, batch: Sequence[ComparedPair], beta: float, nll_weight: float, padding: int
) -> tuple[torch.Tensor, dict[str, float]]:
    """DPO loss of a batch of pairs, mean per pair, and what to log of it."""
    home = model.head_weight.device
    rows, mask = pad([pair.chosen for pair in batch] + [pair.rejected for pair in batch], padding)
    chosen, rejected = completion_logprobs(model, rows.to(home), mask.to(home)).chunk(2)
    reference = torch.tensor([pair.reference for pair in batch], device=home, dtype=torch.float32)
    found = dpo_loss(chosen, rejected, reference[:, 0], reference[:, 1], beta)
    loss = found.loss
    if nll_weight:
        loss = loss - nll_weight * chosen.sum() / mask[: len(batch)].sum().to(home)
    return loss, {
        "accuracy": found.accuracy,
        "margin": found.margin,
        "chosen_reward": float(found.chosen_reward.mean()),
        "rejected_reward": float(found.rejected_reward.mean()),
        "tokens": float(rows.numel()),
    }


def optimise(
    model: LanguageModel,
    pairs: Sequence[ComparedPair],
    params: DpoParams,
    beta: float,
    padding: int,
    seed: int,
    on_checkpoint: Callable[[int], None],
    name: str,
) -> list[dict[str, float]]:
    """Train `model` in place; one row a step.

    `on_checkpoint(step)` is called `validations` times, the last step included.
    """
    lengths = [len(pair) for pair in pairs]
    batches = [batch for epoch in range(params.epochs) for batch in bucketed(lengths, params.batch_size, seed, epoch)]
    steps = len(batches)
    marks = {round(steps * (k + 1) / params.validations) for k in range(params.validations)} - {0}

    def loss(current: Any, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        return batch_loss(current, [pairs[index] for index in batches[step]], beta, params.nll_weight, padding)

    optimizer = build_optimizer(model, params.lr, kind="adamw", weight_decay=params.weight_decay)
    warmup = round(params.warmup * steps)
    result = train(
        model,
        optimizer,
        lambda step: cosine(step, steps, warmup),
        loss,
        steps,
        name=name,
        clip=params.clip,
        on_step=lambda done: on_checkpoint(done - 1) if done in marks else None,
    )
    model.eval()
    return result.rows


def main() -> None:
    with stage("alignment.dpo", DpoParams, seed="run.seed") as run:
        params = run.params
        instructions = read_instructions(run)
        preferences = read_preferences(run)
        tokenizer = read_tokenizer(run)
        reference, model = read_model(run, SFT), read_model(run, SFT)
        start = {key: value.detach().clone() for key, value in model.state_dict().items()}
        truth = read_truth(run)
        validation = Validation(tokenizer, truth, instructions, params.max_new_tokens)
        pairs = compare_pairs(reference, tokenizer, preferences)
        padding = tokenizer.pad_id
        checkpoints: list[dict[str, float]] = []
        steps: list[dict[str, float]] = []
        best: dict[str, Any] = {}

        for beta in params.betas:
            offset = len(steps)

            def keep_best(step: int, beta: float = beta, offset: int = offset) -> None:
                found = validation.greedy(model)
                if not checkpoints or found["exact_score"] > max(row["exact_score"] for row in checkpoints):
                    best.update({key: value.detach().clone() for key, value in model.state_dict().items()})
                checkpoints.append({"beta": beta, "step": offset + step, **found})

            model.load_state_dict(start)
            rows = optimise(model, pairs, params, beta, padding, run.seed, keep_best, "alignment.dpo")
            steps.extend({**row, "step": offset + row["step"], "beta": beta} for row in rows)

        model.load_state_dict(best)
        model.eval()
        chosen = max(checkpoints, key=lambda row: (row["exact_score"], -row["step"]))
        at = {
            row["step"]: {f"validation_{k}": v for k, v in row.items() if k not in ("step", "beta")}
            for row in checkpoints
        }
        save_model(run.output(""), model)
        run.write_jsonl("steps.jsonl", [row | at.get(row["step"], {}) for row in steps])
        run.write_json(
            "metrics.json",
            {
                "pairs": len(pairs),
                "best_beta": chosen["beta"],
                "best_step": chosen["step"],
                "validation_kl_to_sft": validation.divergence(model, reference, derive(run.seed, "divergence")),
                **{f"validation_{key}": value for key, value in chosen.items() if key not in ("step", "beta")},
                **{f"validation_sft_{key}": value for key, value in validation.greedy(reference).items()},
            },
        )
        run.rows(len(preferences), len(pairs), {}, max_drop=0.0)
        run.note("environment", environment())


if __name__ == "__main__":
    main()
