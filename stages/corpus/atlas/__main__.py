"""corpus.atlas: write the invented encyclopaedia, its truth, its questions and the list of its planted faults."""

import pyarrow as pa

from stages.base import schemas
from stages.base.record import stage
from stages.corpus.atlas.pages import Page, encyclopaedia, index_pages, render
from stages.corpus.atlas.params import PARAMS, AtlasParams
from stages.corpus.atlas.planted import plant
from stages.corpus.atlas.questions import ask
from stages.corpus.atlas.reserved import robots
from stages.corpus.atlas.world import build
from stages.corpus.sources.occurrences import document_id
from stages.corpus.sources.robots import ROBOTS

__all__ = ["PARAMS"]


def page_table(pages: list[Page], licence: str) -> pa.Table:
    """Pages as HTML (schema PAGE). URLs are distinct, so the occurrence is always 0."""
    return pa.Table.from_pylist(
        [
            {
                "id": document_id("atlas", page.url, 0),
                "source": "atlas",
                "url": page.url,
                "licence": "" if page.declared else licence,
                "opt_out": page.opt_out,
                "html": render(page),
            }
            for page in pages
        ],
        schema=schemas.PAGE,
    )


def main() -> None:
    with stage("corpus.atlas", AtlasParams, seed="corpus.seed") as run:
        world = build(run.params, run.seed)
        questions = ask(world, run.params, run.seed)
        good = encyclopaedia(world, run.params, run.seed)
        pages, planted = plant(world, good, questions, run.params, run.seed)
        pages = sorted(pages + index_pages(world, good), key=lambda page: page.url)
        run.write_table("pages.parquet", page_table(pages, run.params.licence), schemas.PAGE)
        run.write_table("robots.parquet", robots(), ROBOTS)
        run.write_table("questions.parquet", questions, schemas.QUESTION)
        run.write_table("planted.parquet", planted, schemas.PLANTED)
        run.write_json("truth.json", world.truth())
        run.note("facts", sum(len(entity.facts) for entity in world.entities.values()))
        run.note("pages", len(pages))


if __name__ == "__main__":
    main()
