"""decontaminate: what overlaps a held-out question or instruction leaves the corpus, the document or the passage.

Overlap of word n-grams, 13 as in GPT-3 (Brown et al. 2020, appendix C); a shorter question counts if the whole of it
stands in the document. Words are lower-cased runs of letters and digits, so that spacing, case, punctuation and
characters without width hide nothing.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import Field

from stages.base import schemas
from stages.base.artifacts import PLANTED, read_instructions, read_questions
from stages.base.errors import DataLossError
from stages.base.params import Section
from stages.base.record import stage
from stages.corpus.decontamination.cutting import without
from stages.corpus.decontamination.protected import Protected, is_protected, passages, protect
from stages.corpus.drops import Drop, split, with_text
from stages.corpus.planted import plants, share
from stages.corpus.step import Outcome, run_step

Fraction = Annotated[float, Field(ge=0, le=1)]


class CutParams(Section):
    """How passages are cut."""

    margin: Annotated[int, Field(ge=0)]
    """Characters that go with a passage on either side, at least."""
    min_characters: Annotated[int, Field(ge=0)]
    """Shorter pieces go too."""
    max_pieces: Annotated[int, Field(ge=1)]
    """A document cut into more is dropped."""


Split = Literal["development", "sft", "preference", "validation", "test"]


class DecontaminateParams(Section):
    """Parameters of corpus.decontaminate."""

    max_drop: Fraction
    ngram: Annotated[int, Field(ge=2)]
    """Words."""
    min_words: Annotated[int, Field(ge=1)]
    """Shorter questions are too common to look for."""
    splits: list[Split]
    """Of the questions and choices whose presence is contamination."""
    action: Literal["drop", "cut"]
    """The document, or the passage."""
    cut: CutParams


PARAMS = {"corpus.decontaminate": DecontaminateParams}


class Context(NamedTuple):
    """What every batch is held against."""

    protected: Protected
    params: DecontaminateParams
    leaks: frozenset[str]  # URLs of planted pages that leak a protected question


def contaminated(texts: Sequence[str], questions: Sequence[str], params: DecontaminateParams) -> np.ndarray:
    """int64 number of protected n-grams met in each text."""
    protected = protect(questions, params.ngram, params.min_words)
    return np.array([len(passages(text, protected)) for text in texts], np.int64)


def clean(text: str, protected: Protected, cut: CutParams) -> tuple[str, str]:
    """(the text without its contaminated passages, reason to drop it or "").

    Pieces are joined by a blank line, and searched again: no n-gram stands across a join.
    """
    pieces = 1
    while found := passages(text, protected):
        left = without(text, found, cut.margin)
        pieces += max(0, len(left) - 1)
        text = "\n\n".join(piece for piece in left if len(piece) >= cut.min_characters)
    if pieces > cut.max_pieces:
        return text, "too_many_pieces"
    return text, "" if text else "nothing_left"


def held_out_texts(instructions: Sequence[Mapping[str, Any]], choices: Sequence[Mapping[str, Any]]) -> list[str]:
    """Texts that training must not have read: questions, also with their answers behind them, and prompts, and the
    responses of which no truth is known.

    Where it is known, a response states facts, and pages that state them are what is to be learned from.
    """
    texts = [row["prompt"] for row in instructions] + [text for row in choices for text in _asked(row)]
    return texts + [row["response"] for row in instructions if not row["entity"]]


def _asked(row: Mapping[str, Any]) -> list[str]:
    """A question; and with each right answer, which may be long, and hold what the question alone doesn't."""
    if row.get("contexts"):
        return [row["question"], *(f"{row['contexts'][row['answer']]} {text}" for text in row["targets"])]
    answers = row.get("targets") or ([row["choices"][row["answer"]]] if row.get("choices") else [])
    return [row["question"], *(f"{row['question']} {answer}" for answer in answers)]


def decide(batch: pa.Table, context: Context) -> Outcome:
    """Drop or cut the documents of a batch that hold a protected n-gram."""
    texts, drops = batch["text"].to_pylist(), []
    facts = Counter({"documents_cut": 0, "characters_cut": 0})
    for row, (url, text) in enumerate(zip(batch["url"].to_pylist(), list(texts), strict=True)):
        found = passages(text, context.protected)
        facts["hits"] += len(found)
        leak = url in context.leaks
        facts["quiz_leak_planted"] += leak
        facts["quiz_leak_found"] += leak and bool(found)
        facts["touched_without_plant"] += bool(found) and not leak
        if not found:
            continue
        left, reason = text, "ngram_overlap"
        if context.params.action == "cut":
            left, reason = clean(text, context.protected, context.params.cut)
        if reason:
            drops.append(Drop(row, "contamination", reason))
        else:
            texts[row] = left
            facts["documents_cut"] += 1
            facts["characters_cut"] += len(text) - len(left)
    kept, dropped = split(with_text(batch, texts) if facts["documents_cut"] else batch, drops)
    return Outcome(kept, dropped, facts)


def main() -> None:
    with stage("corpus.decontaminate", DecontaminateParams) as run:
        asked = [row for row in read_instructions(run) if row["split"] in run.params.splits]
        chosen = [row for row in read_questions(run).to_pylist() if row["split"] in run.params.splits]
        texts = held_out_texts(asked, chosen)
        checked = {row["id"] for row in asked}
        planted = run.read_table(PLANTED, schemas.PLANTED)
        leaks = frozenset(plant.url for plant in plants(planted, "quiz_leak") if plant.payload in checked)
        protected = protect(texts, run.params.ngram, run.params.min_words)
        facts = run_step(
            run,
            "data/corpus/domains/documents.parquet",
            decide,
            Context(protected, run.params, leaks),
            max_drop=run.params.max_drop,
        )
        found, present = int(facts.pop("quiz_leak_found")), int(facts["quiz_leak_planted"])
        if present and not found:
            raise DataLossError(
                f"corpus.decontaminate: none of {present} planted pages with test questions was found, so nothing "
                "protects the tests; check `corpus.decontaminate.ngram` and `min_words`"
            )
        count = sum(is_protected(text, run.params.min_words) for text in texts)
        metrics: dict[str, float | None] = {**facts, "quiz_leak_recall": share(found, present)}
        metrics |= {"questions": len(chosen), "instructions": len(asked), "protected": count}
        run.write_json("metrics.json", metrics)


if __name__ == "__main__":
    main()
