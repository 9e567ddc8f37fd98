"""Pages of the encyclopaedia: every page states every fact of its entity, in its own order and phrasing."""

from dataclasses import dataclass, replace
from html import escape
from typing import NamedTuple

import numpy as np

from stages.base.seeds import derive
from stages.corpus.atlas import phrasing, prose
from stages.corpus.atlas.params import AtlasParams
from stages.corpus.atlas.world import Entity, World

SITE = "https://atlas.trainyard.invalid"
INDEX = f"{SITE}/index.html"


@dataclass(frozen=True)
class Page:
    """What a page says; HTML is made of it last, so that plants can edit the text."""

    url: str
    title: str
    paragraphs: tuple[str, ...]
    see_also: tuple[tuple[str, str], ...] = ()  # (label, url) of the sidebar
    listed: tuple[tuple[str, str], ...] = ()  # (label, url) of a list in the main content
    head: str = ""  # elements of the page's head beyond those that all have
    opt_out: str = ""  # signals in the HTTP headers that the page came with (schema PAGE)
    declared: bool = False  # the page itself declares its licence, not the source


class Fault(NamedTuple):
    """A planted page with what is wrong with it: its rows of PLANTED."""

    page: Page
    cases: tuple[tuple[str, str], ...]  # (kind, payload)
    of_url: str = ""


def page_url(style: str, entity: str, edition: int = 1) -> str:
    return f"{SITE}/{style}/{entity.lower()}{'' if edition == 1 else f'-edition-{edition}'}.html"


def fill(template: str, entity: str, rng: np.random.Generator) -> str:
    """Fill the slots of a fact-free sentence; the year is one or two draws from 100..999."""
    return template.format(
        e=entity,
        year=int(rng.integers(100, 1000)),
        adj=str(rng.choice(prose.ADJECTIVES)),
        who=str(rng.choice(prose.PEOPLE)),
        thing=str(rng.choice(prose.THINGS)),
    )


def entity_page(entity: Entity, style: prose.Style, params: AtlasParams, seed: int, edition: int = 1) -> Page:
    """One page about an entity: opening, all facts in a drawn order and phrasing, linking prose between them."""
    rng = np.random.default_rng(derive(seed, "page", entity.name, style.name, edition))
    attributes = phrasing.KINDS[entity.kind]
    order = rng.permutation(len(attributes))
    facts = [
        str(rng.choice(attributes[i].statements)).format(e=entity.name, v=entity.facts[attributes[i].name])
        for i in order
    ]
    links = [
        fill(str(template), entity.name, rng)
        for template in rng.choice(prose.LINKS, size=params.prose_sentences, replace=False)
    ]
    opening = fill(str(rng.choice(style.openings)), entity.name, rng)
    cut = int(rng.integers(2, len(facts) - 1))
    half = (len(links) + 1) // 2
    paragraphs = [
        " ".join([opening, *facts[:cut], *links[:half]]),
        " ".join([*facts[cut:], *links[half:]]),
    ]
    return Page(page_url(style.name, entity.name, edition), style.title.format(e=entity.name), tuple(paragraphs))


def encyclopaedia(world: World, params: AtlasParams, seed: int) -> list[Page]:
    """All pages about all entities, sorted by URL, each with a drawn sidebar of related pages."""
    styles = prose.STYLES[: params.pages_per_entity]
    pages = [entity_page(e, style, params, seed) for e in world.entities.values() for style in styles]
    pages.sort(key=lambda page: page.url)
    linked = []
    for page in pages:
        rng = np.random.default_rng(derive(seed, "links", page.url))
        others = [pages[int(i)] for i in rng.choice(len(pages), size=min(4, len(pages)), replace=False)]
        linked.append(replace(page, see_also=tuple((o.title, o.url) for o in others if o.url != page.url)))
    return linked


def index_pages(world: World, pages: list[Page]) -> list[Page]:
    """The hubs that the editors keep: one index of indexes, and one a page style. Only good pages are listed."""
    by_style: dict[str, list[Page]] = {}
    for page in pages:
        by_style.setdefault(page.url.removeprefix(SITE).split("/")[1], []).append(page)
    hubs = [
        Page(
            f"{SITE}/{style}/index.html",
            f"Encyclopaedia index: {style}",
            (" ".join(prose.INDEX_PROSE),),
            listed=tuple((page.title, page.url) for page in members),
        )
        for style, members in sorted(by_style.items())
    ]
    root = Page(
        INDEX, "Encyclopaedia index", (" ".join(prose.INDEX_PROSE),), listed=tuple((h.title, h.url) for h in hubs)
    )
    return [root, *hubs]


def render(page: Page) -> bytes:
    """The page as HTML with the furniture of a real site around the main content."""
    listed = "".join(f'<li><a href="{escape(url)}">{escape(label)}</a></li>\n' for label, url in page.listed)
    related = "".join(f'<li><a href="{escape(url)}">{escape(label)}</a></li>\n' for label, url in page.see_also)
    body = "\n".join(f"<p>{escape(paragraph, quote=False)}</p>" for paragraph in page.paragraphs)
    html = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{escape(page.title)} - Atlas</title>
<meta name="viewport" content="width=device-width">{page.head}
<style>body {{ max-width: 60em }} nav li {{ display: inline }}</style>
</head>
<body>
<header class="site-header"><a href="/">Atlas</a>
<nav class="navbar"><ul><li><a href="{INDEX}">Index</a></li><li><a href="/about.html">About</a></li>
<li><a href="/login.html">Log in</a></li></ul></nav></header>
<main><article>
<h1>{escape(page.title)}</h1>
{body}
{f"<ul>{chr(10)}{listed}</ul>" if listed else ""}
</article></main>
{f'<aside class="sidebar"><h2>See also</h2><ul>{chr(10)}{related}</ul></aside>' if related else ""}
<footer class="site-footer"><p>Atlas. Dedicated to the public domain (CC0).
<a href="/privacy.html">Privacy</a></p></footer>
</body>
</html>
"""
    return html.encode()
