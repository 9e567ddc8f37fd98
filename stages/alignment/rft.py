"""Rejection-sampling fine-tuning: the SFT model learns from those of its own answers that are right.

Several answers of each prompt are sampled, checked, and the distinct right ones learned as SFT learns (Yuan et al.
2023, "Scaling Relationship on Learning Mathematical Reasoning", section 3.3). Where nothing can be checked, the reward
model's favourite of each prompt is taken (Touvron et al. 2023, Llama 2, section 3.2.3).
"""

import sys
from collections.abc import Sequence
from statistics import fmean
from typing import Annotated

from pydantic import Field

from stages.alignment.answering.answers import Answer, Measured, Sampling, Validation, answer
from stages.alignment.answering.kept_answers import kept_answers
from stages.alignment.answering.verifier import Verifier
from stages.alignment.best_of_n import pick
from stages.alignment.data.inputs import read_model
from stages.alignment.data.records import Instruction, read_instructions, read_truth
from stages.alignment.learning.improvement import prompted, with_room
from stages.alignment.learning.restraint import require_finite
from stages.alignment.learning.selection import VALIDATION_LOSS, Selection, chosen_by, validated
from stages.alignment.learning.tuning import TuningParams, tuning_of
from stages.alignment.rewards.scalar import read_reward
from stages.alignment.sft import fine_tune
from stages.base.recipe import Run
from stages.base.record import stage
from stages.base.seeds import derive
from stages.lm.checkpoint import save_model
from stages.lm.device import environment


class RftParams(TuningParams):
    samples: Annotated[int, Field(ge=1)]
    """Answers of each prompt."""
    temperature: Annotated[float, Field(gt=0)]
    """They are drawn at."""
    max_new_tokens: Annotated[int, Field(ge=1)]
    """Longest answer."""
    validations: Annotated[int, Field(ge=1)]
    """Checkpoints compared on the validation split, the last step included."""


PARAMS = {"alignment.rft": RftParams, "run": Run}


def kept(rows: Sequence[Instruction], groups: Sequence[Sequence[Answer]], verifier: Verifier) -> list[Answer]:
    """The right answers that have ended, each text of a prompt once: those of the most that can be earned."""
    found = []
    for row, group in zip(rows, groups, strict=True):
        right = {one.text: one for one in reversed(group) if one.ended and verifier.reward(row, one.text) == 1.0}
        found += [one for one in group if right.get(one.text) is one]
    return found


def main() -> None:
    with stage("alignment.rft", RftParams, seed="run") as run:
        params = run.params
        instructions = read_instructions(run)
        (reference, tokenizer), (model, _) = read_model(run, "sft"), read_model(run, "sft")
        reward = read_reward(run)
        truth = read_truth(run)
        verifier = Verifier(truth)
        every = prompted(instructions)
        rows = with_room(every, tokenizer, model.config.max_seq_len)
        checkable = [row for row in rows if verifier.knows(row)]
        asked = checkable or rows
        keep = kept_answers(run)
        sampling = Sampling(temperature=params.temperature, top_p=1.0, max_new_tokens=params.max_new_tokens)
        prompts = [row.asked for row in asked]
        groups = answer(reference, tokenizer, prompts, sampling, seed=run.seed, samples=params.samples, keep=keep)
        if checkable:
            learned = kept(asked, groups, verifier)
        else:
            flat = [one.exchange(tokenizer.end_id) for group in groups for one in group]
            rewards = reward(flat)
            require_finite(rewards)
            learned = [one for one in pick(groups, rewards) if one.ended]
        exchanges = [one.exchange(tokenizer.end_id) for one in learned]
        validation = Validation(tokenizer, truth, instructions, params.max_new_tokens, model.config.max_seq_len, keep)

        def measure() -> Measured:
            return {"loss": validation.loss(model), **validation.summary(validation.answers(model))}

        selection = Selection(model, chosen_by(VALIDATION_LOSS, validation.knows_truth), measure)
        before = measure()
        if exchanges:
            tuning = tuning_of(run)
            carried = {"selection": selection}
            steps = fine_tune(model, exchanges, tuning, params.validations, selection.visit, carried=carried)
        else:
            print(
                "alignment.rft: none of the sampled answers is right, so nothing is learned and the SFT model stays as "
                "it is; raise `alignment.rft.samples` or tune a better SFT model",
                file=sys.stderr,
            )
            steps = []
            selection.keep(reference, before)
        selection.restore()
        save_model(run.model_folder("rft"), model, tokenizer)
        run.write_jsonl("steps.jsonl", selection.joined(steps))
        run.write_json(
            "metrics.json",
            {
                "prompts": len(asked),
                "sampled": len(asked) * params.samples,
                "kept": len(exchanges),
                "prompts_kept": len({one.prompt_ids for one in learned}),
                "kept_tokens": fmean(len(one.ids) for one in learned) if learned else None,
                **selection.found(),
                "validation_kl_to_sft": validation.divergence(model, reference, derive(run.seed, "divergence")),
                **validated(before, "sft_"),
            },
        )
        run.note("chosen_by", selection.chosen_by)
        run.note("rewards", "checked" if checkable else "reward model")
        run.rows(len(every), len(rows), {"too_long": len(every) - len(rows)}, params.max_drop)
        run.note("not_checkable", len(rows) - len(asked))
        run.note("environment", environment())


if __name__ == "__main__":
    main()
