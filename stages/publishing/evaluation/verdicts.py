"""What the verdicts on the base model say of the others."""

from collections.abc import Collection, Sequence

from stages.base.contracts.contamination import TaskVerdict


def for_all_models(
    own: Sequence[TaskVerdict], models: Sequence[str], imported: Collection[str], start: str
) -> list[TaskVerdict]:
    """The base model's verdicts for what was tuned from it, `unknown` for models of others and what was tuned from one.

    own: of the base model, which was trained on the corpus. start: the model that alignment started from.
    """
    found = list(own)
    for model in models:
        origin = model if model in imported else start
        for verdict in own:
            if model == verdict.model:
                continue
            if origin in imported:
                told = {"verdict": "unknown", "reason": f"the training text of {origin} isn't known here"}
            else:
                told = {"reason": f"{verdict.reason} (of {verdict.model}, on which it stands)"}
            found.append(verdict.model_copy(update={"model": model, **told}))
    return found
