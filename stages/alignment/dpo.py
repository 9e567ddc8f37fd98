"""Direct preference optimisation of the SFT model (Rafailov et al. 2023); what that finds of the pairs is read."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from stages.alignment.answering.answers import Measured, Validation
from stages.alignment.answering.kept_answers import kept_answers
from stages.alignment.data.inputs import read_model
from stages.alignment.data.records import read_instructions, read_preferences, read_truth
from stages.alignment.learning.batches import answer_logprobs, lay_out
from stages.alignment.learning.pairs import Pair, accuracy, encode_pairs, hold_out
from stages.alignment.learning.selection import PREFERENCE_ACCURACY, Selection, chosen_by, validated
from stages.alignment.learning.tuning import Report, Tuning, TuningParams, tune, tuning_of
from stages.alignment.losses import DpoKind, dpo_loss
from stages.alignment.reference import logprobs_of, read_reference
from stages.base.recipe import Run
from stages.base.record import stage
from stages.base.seeds import derive
from stages.lm.build import LanguageModel
from stages.lm.checkpoint import Stateful, save_model
from stages.lm.device import environment


class DpoParams(TuningParams):
    loss: DpoKind
    """sigmoid (Rafailov et al. 2023), ipo (Azar et al. 2023) or hinge (Zhao et al. 2023)."""
    length_normalised: bool
    """Whether an answer's log-ratio is its mean over tokens, not its sum; ipo is usually fitted so."""
    betas: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)]
    """Weights of the distance to the SFT model; each is trained, and validation chooses."""
    nll_weight: Annotated[float, Field(ge=0)]
    """Of the chosen answer's mean token loss (Pang et al. 2024), 0: plain DPO."""
    held_out: Annotated[float, Field(gt=0, lt=1)]
    """Share of the prompts that are never trained on."""
    validations: Annotated[int, Field(ge=1)]
    """Checkpoints of each beta that are compared, the last step included."""
    max_new_tokens: Annotated[int, Field(ge=1)]
    """Longest answer on the validation split."""
    max_kl: Annotated[float, Field(gt=0)] | None
    """Nats an answer from the SFT model above which no checkpoint is kept; null for any. Held-out pairs don't tell: a
    policy that has lost its language may prefer every chosen answer."""


PARAMS = {"alignment.dpo": DpoParams, "run": Run}


@dataclass(frozen=True)
class ComparedPair:
    """A pair with the reference model's log-probabilities of both answers."""

    pair: Pair
    reference: tuple[float, float]

    def __len__(self) -> int:
        return len(self.pair)


def batch_loss(
    model: LanguageModel, batch: Sequence[ComparedPair], beta: float, params: DpoParams
) -> tuple[Tensor, Report]:
    """DPO loss of a batch of pairs, mean per pair, and what to log of it. A pair's prompt is read once."""
    home = model.head_weight.device
    rows = lay_out([one.pair.sides for one in batch], home)
    sums = answer_logprobs(model, rows)
    chosen, rejected = sums[::2], sums[1::2]
    reference = torch.tensor([one.reference for one in batch], device=home, dtype=torch.float32)
    lengths = (rows.lengths[::2], rows.lengths[1::2]) if params.length_normalised else None
    found = dpo_loss(chosen, rejected, reference[:, 0], reference[:, 1], beta, params.loss, lengths)
    loss = found.loss
    if params.nll_weight:
        loss = loss - params.nll_weight * (chosen / rows.lengths[::2]).mean()
    return loss, {
        "accuracy": found.accuracy,
        "margin": found.margin,
        "chosen_reward": float(found.chosen_reward.mean()),
        "rejected_reward": float(found.rejected_reward.mean()),
        "tokens": float(rows.tokens.numel()),
    }


def preferred(model: LanguageModel, pairs: Sequence[ComparedPair]) -> dict[str, float]:
    """`preference_accuracy`: share of the pairs whose chosen answer has gained more on the reference than the rejected
    one; `preference_loss`: of DPO at beta 1, mean per pair."""
    found = torch.tensor(logprobs_of(model, [one.pair for one in pairs]))
    reference = torch.tensor([one.reference for one in pairs])
    loss = dpo_loss(found[:, 0], found[:, 1], reference[:, 0], reference[:, 1], beta=1.0)
    margins = (loss.chosen_reward - loss.rejected_reward).tolist()
    return {"preference_accuracy": accuracy(margins), "preference_loss": float(loss.loss)}


def fine_tune(
    model: LanguageModel,
    pairs: Sequence[ComparedPair],
    beta: float,
    tuning: Tuning[DpoParams],
    on_checkpoint: Callable[[int], None],
    carried: Mapping[str, Stateful] | None = None,
) -> list[Report]:
    """Train `model` in place; one row a step."""
    params, lengths, weights = tuning.params, [len(pair) for pair in pairs], [1.0] * len(pairs)

    def loss(batch: list[int]) -> tuple[Tensor, Report]:
        return batch_loss(model, [pairs[index] for index in batch], beta, params)

    return tune(
        model, loss, lengths, weights, tuning,
        validations=params.validations, on_checkpoint=on_checkpoint, carried=carried,
    )  # fmt: skip


def main() -> None:
    with stage("alignment.dpo", DpoParams, seed="run") as run:
        params = run.params
        reference, tokenizer = read_model(run, "sft")
        model, _ = read_model(run, "sft")
        limit = model.config.max_seq_len
        preferences = read_preferences(run)
        scored = read_reference(run, preferences)
        fitting = [preferences[place] for place in scored]
        pairs = encode_pairs(tokenizer, fitting, limit)
        compared = [ComparedPair(pair, both) for pair, both in zip(pairs, scored.values(), strict=True)]
        kept, away = hold_out([row.prompt for row in fitting], params.held_out, run.seed)
        training, held_out = [compared[place] for place in kept], [compared[place] for place in away]
        start = {key: value.detach().clone() for key, value in model.state_dict().items()}
        validation = Validation(
            tokenizer, read_truth(run), read_instructions(run), params.max_new_tokens, limit, kept_answers(run)
        )

        def measured() -> Measured:
            return {**preferred(model, held_out), **validation.summary(validation.answers(model))}

        def measure() -> Measured:
            seed = derive(run.seed, "divergence")
            return {**measured(), "kl_to_sft": validation.divergence(model, reference, seed)}

        by = chosen_by(PREFERENCE_ACCURACY, validation.knows_truth)
        selection = Selection(model, by, measure, params.max_kl)
        before = measured()
        steps: list[Report] = []
        for number, beta in enumerate(params.betas):
            offset = len(steps)

            def visit(step: int, beta: float = beta, offset: int = offset) -> None:
                selection.visit(offset + step, beta=beta)

            model.load_state_dict(start)
            tuning = replace(tuning_of(run), setting={"beta": number})
            rows = fine_tune(model, training, beta, tuning, visit, {"selection": selection})
            steps.extend({**row, "step": offset + row["step"], "beta": beta} for row in rows)
        selection.keep(reference, {**before, "kl_to_sft": 0.0})
        if selection.best is not None and selection.best.step < 0:
            print(
                f"alignment.dpo: every checkpoint is more than `max_kl` {params.max_kl:g} nats an answer from the SFT "
                "model, which is kept; lower `alignment.dpo.lr`, or raise a beta",
                file=sys.stderr,
            )
        selection.restore()
        save_model(run.model_folder("dpo"), model, tokenizer)
        run.write_jsonl("steps.jsonl", selection.joined(steps))
        run.write_json(
            "metrics.json",
            {
                "pairs": len(training),
                "held_out_pairs": len(held_out),
                **selection.found(),
                **validated(before, "sft_"),
            },
        )
        too_long = {"too_long": len(preferences) - len(fitting)}
        run.rows(len(preferences), len(training) + len(held_out), too_long, params.max_drop)
        run.note("validation_too_long", validation.too_long)
        run.note("chosen_by", selection.chosen_by)
        run.note("environment", environment())


if __name__ == "__main__":
    main()
