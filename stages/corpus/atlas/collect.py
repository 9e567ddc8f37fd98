"""The atlas as a source: pages with planted faults, questions, and what is true."""

from stages.corpus.atlas.pages import encyclopaedia, index_pages, render
from stages.corpus.atlas.params import AtlasParams
from stages.corpus.atlas.planted import plant
from stages.corpus.atlas.questions import ask
from stages.corpus.atlas.reserved import ROBOTS_FILES
from stages.corpus.atlas.world import build
from stages.corpus.sources.intake import Found
from stages.corpus.sources.raw import Raw
from stages.corpus.sources.robots import Robots


def collect(params: AtlasParams, seed: int) -> Found:
    """All of the encyclopaedia, its pages sorted by URL; no two have the same."""
    world = build(params, seed)
    questions = ask(world, params, seed)
    good = encyclopaedia(world, params, seed)
    pages, planted = plant(world, good, questions, params, seed)
    pages = sorted(pages + index_pages(world, good), key=lambda page: page.url)
    raws = [Raw(page.url, render(page), "" if page.declared else params.licence, page.opt_out) for page in pages]
    robots = [Robots(host, text) for host, text in ROBOTS_FILES.items()]
    return Found([*raws, *robots], truth=world.truth(), questions=questions, planted=planted)
