"""What a model makes of the beginnings of held-out documents: a few greedy continuations, for a reader to look at."""

from stages.base.contracts.pack import Pack
from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer
from stages.lm.generate import generate
from stages.pretraining.material import SampleParams
from stages.pretraining.validation import Validation


def continuations(
    model: LanguageModel, tokenizer: ChatTokenizer, validation: Validation, pack: Pack, params: SampleParams
) -> list[dict[str, str]]:
    """source, prompt, continuation (the model's) and reference (the document's) of each source's first documents that
    are long enough.
    """
    length = params.prompt_tokens + 1
    chosen: list[tuple[str, list[int], list[int]]] = []
    counts: dict[str, int] = {}
    for place in validation.placements.select(["source", "row", "offset", "length"]).to_pylist():
        source = place["source"]
        if counts.get(source, 0) < params.per_source and place["length"] >= length:
            counts[source] = counts.get(source, 0) + 1
            row = validation.rows.rows[place["row"]]
            ids = row[place["offset"] : place["offset"] + place["length"]].tolist()
            chosen.append((source, ids[: params.prompt_tokens], ids[params.prompt_tokens :][: params.new_tokens]))
    answers = generate(
        model,
        [[pack.bos_id, *prompt] for _, prompt, _ in chosen],
        max_new_tokens=params.new_tokens,
        temperature=0.0,
        top_p=1.0,
        seed=0,
        stop_ids=[pack.bos_id],
        label="sampling",
    )
    return [
        {
            "source": source,
            "prompt": tokenizer.decode(prompt),
            "continuation": tokenizer.decode(answer),
            "reference": tokenizer.decode(reference),
        }
        for (source, prompt, reference), answer in zip(chosen, answers, strict=True)
    ]
