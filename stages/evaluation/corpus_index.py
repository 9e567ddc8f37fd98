"""The training text, indexed once for all that is looked for in it: `data/evaluation/corpus_index/`.

Every task and `trainyard contaminate` use it (`overlap/index.py`): a new task costs a lookup, not a pass over the
corpus.
"""

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from stages.base import schemas
from stages.base.artifacts import TRAIN
from stages.base.params import Section
from stages.base.progress import Progress
from stages.base.record import StageRun, stage
from stages.evaluation.overlap.corpora import batches_of
from stages.evaluation.overlap.index import write_index


class CorpusIndexParams(Section):
    shortest: Annotated[int, Field(ge=1, le=13)]
    """Words; shorter runs can't be looked up, and items of fewer words not be judged."""


PARAMS: dict[str, type[Section]] = {"evaluation.corpus_index": CorpusIndexParams}


def training_rows(run: StageRun[CorpusIndexParams], progress: Progress) -> Iterator[tuple[str, str, str, str]]:
    """(id, source, url, text) of each document that training read; the mixture knows no URLs."""
    for batch in run.batches(TRAIN, schemas.MIXED, ["id", "source", "text"]):
        for row in batch.to_pylist():
            yield row["id"], row["source"], "", row["text"]
        progress.advance(batch.num_rows)


def main() -> None:
    with stage("evaluation.corpus_index", CorpusIndexParams) as run:
        total = run.count_rows(TRAIN, schemas.MIXED)
        with Progress(total, "indexing the training text", unit="documents") as progress:
            batches = batches_of(training_rows(run, progress))
            write_index(run.output("index.json").parent, batches, run.params.shortest, {"corpus": TRAIN})


if __name__ == "__main__":
    main()
