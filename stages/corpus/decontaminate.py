"""decontaminate: documents that contain a question of the evaluation sets leave the corpus.

Overlap of word n-grams, 13 as in GPT-3 (Brown et al. 2020, appendix C); a shorter question counts if the whole of it
stands in the document. Words are lower-cased runs of letters and digits, so that spacing, case and punctuation hide
nothing.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from stages.base import schemas
from stages.base.params import Section
from stages.base.record import stage
from stages.corpus.drops import Drop, count_reasons, split
from stages.corpus.ngrams import WordHasher, ngram_hashes
from stages.corpus.planted import plants, share

Fraction = Annotated[float, Field(ge=0, le=1)]


class DecontaminateParams(Section):
    """Parameters of corpus.decontaminate."""

    max_drop: Fraction
    ngram: Annotated[int, Field(ge=2)]  # words
    min_words: Annotated[int, Field(ge=1)]  # shorter questions are too common to look for
    splits: list[str]  # of the questions and choices whose presence is contamination


PARAMS = {"corpus.decontaminate": DecontaminateParams}


class Index:
    """Hashed n-grams of the protected texts, by length."""

    def __init__(self, texts: Sequence[str], ngram: int, min_words: int) -> None:
        self._hasher = WordHasher()
        grams: dict[int, list[np.ndarray]] = {}
        self.skipped = 0
        for text in texts:
            words = self._hasher(text)
            if len(words) < min_words:
                self.skipped += 1
                continue
            length = min(ngram, len(words))
            grams.setdefault(length, []).append(ngram_hashes(words, length))
        self._grams = {length: np.unique(np.concatenate(parts)) for length, parts in sorted(grams.items())}

    def hits(self, text: str) -> int:
        """Number of positions of a text at which a protected n-gram starts."""
        words = self._hasher(text)
        found = 0
        for length, known in self._grams.items():
            hashes = ngram_hashes(words, length)
            place = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
            found += int((known[place] == hashes).sum())
        return found


def contaminated(texts: Sequence[str], protected: Sequence[str], params: DecontaminateParams) -> np.ndarray:
    """int64 number of protected n-grams met in each text."""
    index = Index(protected, params.ngram, params.min_words)
    return np.array([index.hits(text) for text in texts], np.int64)


def planted_metrics(planted: pa.Table, checked: set[str], seen: list[str], kept: list[str]) -> dict[str, Any]:
    """Recall on planted pages that leak a checked question, and how many pages without one went."""
    leaks = {plant.url for plant in plants(planted, "quiz_leak") if plant.payload in checked}
    present, gone = leaks.intersection(seen), set(seen) - set(kept)
    return {
        "quiz_leak_planted": len(present),
        "quiz_leak_recall": share(len(present & gone), len(present)),
        "dropped_without_plant": len(gone - leaks),
    }


def main() -> None:
    with stage("corpus.decontaminate", DecontaminateParams) as run:
        documents = run.read_table("data/corpus/domains/documents.parquet", schemas.DOCUMENT)
        choices = run.read_table("data/evaluation/sets/multiple_choice.parquet", schemas.CHOICE).to_pylist()
        questions = run.read_table("data/corpus/atlas/questions.parquet", schemas.QUESTION).to_pylist()
        planted = run.read_table("data/corpus/atlas/planted.parquet", schemas.PLANTED)
        asked = [question for question in questions if question["split"] in run.params.splits]
        protected = [question["prompt"] for question in asked]
        protected += [choice["question"] for choice in choices if choice["split"] in run.params.splits]
        counts = contaminated(documents["text"].to_pylist(), protected, run.params)
        drops = [Drop(int(row), "contamination", "ngram_overlap") for row in np.flatnonzero(counts)]
        kept, dropped = split(documents, drops)
        metrics = {"protected": len(protected), "hits": int(counts.sum())}
        metrics |= planted_metrics(
            planted, {question["id"] for question in asked}, documents["url"].to_pylist(), kept["url"].to_pylist()
        )
        run.write_table("documents.parquet", kept, schemas.DOCUMENT)
        run.write_table("drops.parquet", dropped, schemas.DROP)
        run.write_json("metrics.json", metrics)
        run.rows(documents.num_rows, kept.num_rows, count_reasons(dropped), run.params.max_drop)


if __name__ == "__main__":
    main()
