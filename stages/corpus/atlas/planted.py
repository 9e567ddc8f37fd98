"""Faults planted in the crawl, each written down, so that filters are counted and not believed.

| kind | what it is | what should happen to it |
|---|---|---|
| exact_duplicate | a page mirrored under another URL | dropped by exact dedup |
| near_duplicate | a mirrored page with one word of its prose changed | dropped by near dedup |
| edition | a page told anew in other sentences | kept: it is no duplicate |
| boilerplate | a line repeated in the main content of many pages | removed as a repeated line |
| pii_email, … | a contact line with an e-mail address, a telephone number, an IP address and a key | masked |
| spam | an advert; the payload says what can find it: its address, its keywords, or a classifier | dropped |
| opt_out | a mirrored page whose owner reserves it; the payload is the signal | dropped |
| licence | a mirrored page under a licence that isn't free, named by the payload | dropped |
| quiz_leak | a page that quotes questions of the test split with their answers | dropped by decontamination |
"""

import re
from dataclasses import replace

import numpy as np
import pyarrow as pa

from stages.base.schemas import PLANTED
from stages.base.seeds import derive
from stages.corpus.atlas import prose
from stages.corpus.atlas.adverts import adverts
from stages.corpus.atlas.contacts import contact, contact_pages
from stages.corpus.atlas.pages import SITE, Page, entity_page, fill
from stages.corpus.atlas.params import AtlasParams
from stages.corpus.atlas.reserved import reserved
from stages.corpus.atlas.world import World

MIRROR = "https://mirror.trainyard.invalid"
REPRINTS = "https://reprints.trainyard.invalid"
QUIZ = "https://quiz.trainyard.invalid"
YEAR = re.compile(r"\b[1-9][0-9]{2}\b")


def plant(
    world: World, pages: list[Page], questions: pa.Table, params: AtlasParams, seed: int
) -> tuple[list[Page], pa.Table]:
    """All pages with the faults among them, and the list of faults (schema PLANTED)."""
    plants = params.plants
    order = [int(i) for i in np.random.default_rng(derive(seed, "plants")).permutation(len(pages))]
    edited, rows = _edit(pages, order, params, seed)
    copied = order[: plants.exact_duplicates]
    reworded = order[plants.exact_duplicates : plants.exact_duplicates + plants.near_duplicates]
    extra: list[Page] = []
    for index in copied:
        page = edited[index]
        extra.append(replace(page, url=page.url.replace(SITE, MIRROR)))
        rows.append(_row(extra[-1], "exact_duplicate", page.url))
    for index in reworded:
        page = edited[index]
        extra.append(_reword(page, np.random.default_rng(derive(seed, "near", page.url))))
        rows.append(_row(extra[-1], "near_duplicate", page.url))
    extra += _editions(world, params, seed, rows)
    for planted in (*adverts(pages, plants, seed), *contact_pages(plants, seed), *reserved(edited, order, plants)):
        extra.append(planted.page)
        rows += [_row(planted.page, kind, planted.of_url, payload) for kind, payload in planted.cases]
    extra += _leaks(questions, params, seed, rows)
    rows.sort(key=lambda row: (row["url"], row["kind"], row["payload"]))
    return sorted(edited + extra, key=lambda page: page.url), pa.Table.from_pylist(rows, schema=PLANTED)


def _row(page: Page, kind: str, of_url: str = "", payload: str = "") -> dict[str, str]:
    return {"url": page.url, "kind": kind, "of_url": of_url, "payload": payload}


def _edit(pages: list[Page], order: list[int], params: AtlasParams, seed: int) -> tuple[list[Page], list[dict]]:
    """Boilerplate lines and contact lines go into the main content of existing pages, which stay good pages.

    Pages that have a copy are left clean, so that each fault is counted apart: the last of the order are taken.
    """
    edited, rows = list(pages), []
    free = order[params.plants.exact_duplicates + params.plants.near_duplicates :]
    for index in free[: params.plants.pii_pages]:
        rng = np.random.default_rng(derive(seed, "pii", pages[index].url))
        line, cases = contact(rng)
        edited[index] = replace(edited[index], paragraphs=(*edited[index].paragraphs, line))
        rows += [_row(edited[index], kind, "", payload) for kind, payload in cases]
    for index in free[params.plants.pii_pages :]:
        rng = np.random.default_rng(derive(seed, "boilerplate", pages[index].url))
        if rng.random() < params.plants.boilerplate_share:
            line = str(rng.choice(prose.BOILERPLATE))
            edited[index] = replace(edited[index], paragraphs=(*edited[index].paragraphs, line))
            rows.append(_row(edited[index], "boilerplate", "", line))
    return edited, rows


def _reword(page: Page, rng: np.random.Generator) -> Page:
    """Another printing: the year in the opening changed, which spoils the n-grams around one word and no fact."""
    first = YEAR.sub(
        lambda match: str((int(match[0]) - 100 + int(rng.integers(1, 900))) % 900 + 100), page.paragraphs[0], 1
    )
    return replace(page, url=page.url.replace(SITE, REPRINTS), paragraphs=(first, *page.paragraphs[1:]))


def _editions(world: World, params: AtlasParams, seed: int, rows: list[dict]) -> list[Page]:
    rng = np.random.default_rng(derive(seed, "editions"))
    names = list(world.entities)
    pages = []
    for index in rng.permutation(len(names))[: params.plants.editions]:
        style = prose.STYLES[int(rng.integers(0, params.pages_per_entity))]
        entity = world.entities[names[int(index)]]
        first = entity_page(entity, style, params, seed)
        pages.append(replace(entity_page(entity, style, params, seed, edition=2), see_also=((first.title, first.url),)))
        rows.append(_row(pages[-1], "edition", first.url))
    return pages


def _leaks(questions: pa.Table, params: AtlasParams, seed: int, rows: list[dict]) -> list[Page]:
    tests = [row for row in questions.to_pylist() if row["split"] == "test" and row["kind"] == "single"]
    rng = np.random.default_rng(derive(seed, "leaks"))
    order = [tests[int(i)] for i in rng.permutation(len(tests))]
    pages = []
    for number in range(params.plants.quiz_leak_pages):
        chosen = order[number * params.plants.leaks_per_page : (number + 1) * params.plants.leaks_per_page]
        if not chosen:
            break
        opening = fill("Quiz night number {year} was written by {adj} {who}, and here is what was asked.", "", rng)
        lines = [f"Question: {row['prompt']} Answer: {row['reference']}" for row in chosen]
        pages.append(Page(f"{QUIZ}/night-{number}.html", f"Quiz night {number}", (opening, *lines)))
        rows += [_row(pages[-1], "quiz_leak", "", row["id"]) for row in chosen]
    return pages
