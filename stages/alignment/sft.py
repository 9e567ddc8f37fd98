"""Supervised fine-tuning of a model on instructions: loss on the answers only, in its own chat format."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from torch import Tensor

from stages.alignment.answering.answers import Measured, Validation
from stages.alignment.answering.kept_answers import kept_answers
from stages.alignment.data.inputs import read_model
from stages.alignment.data.records import Instruction, of_split, read_generated, read_instructions, read_truth
from stages.alignment.learning.batches import Exchange, Rows, encode_turns, lay_out
from stages.alignment.learning.selection import VALIDATION_LOSS, Selection, chosen_by, validated
from stages.alignment.learning.tuning import Report, Tuning, TuningParams, tune, tuning_of
from stages.base.params import Section
from stages.base.recipe import Run
from stages.base.record import stage
from stages.base.seeds import derive
from stages.lm.build import LanguageModel
from stages.lm.checkpoint import Stateful, save_model
from stages.lm.device import autocast, environment
from stages.lm.lora import adapt, merge
from stages.lm.loss import linear_cross_entropy
from stages.lm.rates import Kind, Rates


class Lora(Section):
    """Low-rank adapters in place of all weights (Hu et al. 2021), merged when done."""

    rank: Annotated[int, Field(ge=1)]
    """Width of the thin matrices."""
    alpha: Annotated[float, Field(gt=0)]
    """Their product counts alpha / rank times."""


class SftParams(TuningParams):
    lora: Lora | None
    """null: all weights are tuned."""
    optimizer: Literal["muon", "adamw"]
    """Muon for the matrices of the blocks and AdamW for the rest, or AdamW for all."""
    adam_lr: Annotated[float, Field(gt=0)]
    """Of what Muon leaves over; unused with adamw."""
    validations: Annotated[int, Field(ge=1)]
    """Checkpoints compared on the validation split, the last step included."""
    max_new_tokens: Annotated[int, Field(ge=1)]
    """Longest answer there."""
    self_instruct_share: Annotated[float, Field(ge=0)]
    """Machine-written examples for every human one, as far as there are."""
    examples: Annotated[int, Field(ge=1)] | None
    """Human-written examples that are learned from, a seeded choice; null: all."""


PARAMS = {"alignment.sft": SftParams, "alignment.base": str, "run": Run}


def choose(human: Sequence[Instruction], examples: int | None, seed: int) -> list[Instruction]:
    """A seeded choice of so many rows, in their order; more rows are chosen by the same seed on top of these."""
    order = np.random.default_rng(derive(seed, "examples")).permutation(len(human))[:examples]
    return [human[index] for index in sorted(order.tolist())]


def mix(human: Sequence[Instruction], machine: Sequence[Instruction], share: float, seed: int) -> list[Instruction]:
    """All human rows, and of the machine-written ones a seeded choice of `share` times as many, as far as there are."""
    wanted = min(len(machine), round(share * len(human)))
    chosen = sorted(np.random.default_rng(derive(seed, "mix")).permutation(len(machine))[:wanted].tolist())
    return [*human, *(machine[index] for index in chosen)]


def completion_loss(model: LanguageModel, rows: Rows) -> tuple[Tensor, Report]:
    """Mean negative log-likelihood of the answers' tokens, in nats. The vocabulary's head runs at those only."""
    with autocast():
        hidden = model.hidden(rows.tokens, layout=rows.layout)[0, rows.before]
        loss = linear_cross_entropy(hidden, model.head_weight, rows.targets) / len(rows.targets)
    return loss, {"tokens": float(rows.tokens.numel())}


def fine_tune(
    model: LanguageModel,
    exchanges: Sequence[Exchange],
    tuning: Tuning[TuningParams],
    validations: int,
    on_checkpoint: Callable[[int], None],
    *,
    kind: Kind = "adamw",
    rates: Rates | None = None,
    carried: Mapping[str, Stateful] | None = None,
) -> list[Report]:
    """Train `model` in place; one row a step."""
    home = model.head_weight.device

    def loss(batch: list[int]) -> tuple[Tensor, Report]:
        return completion_loss(model, lay_out([[exchanges[index]] for index in batch], home))

    return tune(
        model,
        loss,
        [len(exchange) for exchange in exchanges],
        [exchange.learned_length for exchange in exchanges],
        tuning,
        kind=kind,
        rates=rates,
        validations=validations,
        on_checkpoint=on_checkpoint,
        carried=carried,
        uniform=math.log(model.config.vocab_size),
    )


def main() -> None:
    with stage("alignment.sft", SftParams, seed="run") as run:
        params = run.params
        instructions = read_instructions(run)
        human = choose(of_split(instructions, "sft"), params.examples, run.seed)
        machine = read_generated(run)
        rows = mix(human, machine, params.self_instruct_share, run.seed)
        model, tokenizer = read_model(run, run.section("alignment.base", str))
        limit = model.config.max_seq_len
        validation = Validation(
            tokenizer, read_truth(run), instructions, params.max_new_tokens, limit, kept_answers(run)
        )
        encoded = [encode_turns(tokenizer, row.asked, row.response) for row in rows]
        exchanges = [exchange for exchange in encoded if len(exchange) <= limit]
        run.rows(len(rows), len(exchanges), {"too_long": len(rows) - len(exchanges)}, params.max_drop)

        def measure() -> Measured:
            return {"loss": validation.loss(model), **validation.summary(validation.answers(model))}

        before = measure()
        if params.lora is not None:
            adapt(model, params.lora.rank, params.lora.alpha, derive(run.seed, "lora"))
        selection = Selection(model, chosen_by(VALIDATION_LOSS, validation.knows_truth), measure)
        rates = Rates.uniform(params.lr, params.adam_lr if params.optimizer == "muon" else None)
        tuning = tuning_of(run)
        steps = fine_tune(
            model, exchanges, tuning, params.validations, selection.visit,
            kind=params.optimizer, rates=rates, carried={"selection": selection},
        )  # fmt: skip
        selection.restore()
        merge(model)
        save_model(run.model_folder("sft"), model, tokenizer)
        run.write_jsonl("steps.jsonl", selection.joined(steps))
        run.write_json(
            "metrics.json",
            {
                "examples": len(exchanges),
                "machine_examples": len(rows) - len(human),
                "final_loss": steps[-1]["loss"],
                **selection.found(),
                **validated(before, "base_"),
            },
        )
        run.note("validation_too_long", validation.too_long)
        run.note("chosen_by", selection.chosen_by)
        run.note("environment", environment())


if __name__ == "__main__":
    main()
