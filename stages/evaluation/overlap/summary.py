"""What a search found of a set of items, as the contract tells it and as a table with a row an item."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa

from stages.base.contracts.contamination import ItemOverlap, Overlap, OverlapRule, Place
from stages.evaluation.overlap.search import Match, Rules

LISTED = 50  # items of a set that the contract names; the table has all
ORDER = {"dirty": 0, "suspect": 1, "clean": 2, "unknown": 3}

OVERLAP = pa.schema(
    [
        ("set", pa.string()),
        ("id", pa.string()),
        ("state", pa.string()),  # clean, suspect, dirty; unknown for an item too short to tell
        ("words", pa.int32()),  # that were looked for
        ("ngram", pa.bool_()),  # a run of 13 words is in the corpus
        ("share", pa.float64()),  # of its runs of 8 words, 0 .. 1
        ("spans", pa.float64()),  # of its words in spans of 10 and more, 0 .. 1
        ("runs", pa.int64()),  # pieces of 8 words and more that were found, each as long as it goes
        ("document", pa.string()),  # where the longest stands; "" where none does, as all below
        ("source", pa.string()),
        ("url", pa.string()),
        ("offset", pa.int64()),  # UTF-8 bytes of the document before it
        ("found", pa.int32()),  # words of the item that stand there
        ("with_answer", pa.bool_()),  # the right answer follows
        ("text", pa.string()),  # as the corpus has it, cut
    ]
)


def overlap_table(key: str, ids: Sequence[str], matches: Sequence[Match], urls: Mapping[str, str]) -> pa.Table:
    """Rows of OVERLAP. `urls` by document, where the corpus itself holds none."""
    rows = []
    for id, match in zip(ids, matches, strict=True):
        place = match.place
        row = {"set": key, "id": id, "state": match.state, "words": match.words, "ngram": match.ngram}
        row |= {"share": match.share, "spans": match.spans, "runs": match.runs}
        row |= {
            "document": place.document if place else "",
            "source": place.source if place else "",
            "url": (place.url or urls.get(place.document, "")) if place else "",
            "offset": place.offset if place else 0,
            "found": place.words if place else 0,
            "with_answer": place.with_answer if place else False,
            "text": place.text if place else "",
        }
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=OVERLAP)


def overlap_of(
    key: str, ids: Sequence[str], matches: Sequence[Match], rules: Rules, urls: Mapping[str, str]
) -> Overlap:
    """Counts by rule, and the items that aren't clean, the dirtiest first."""
    told = [(id, match) for id, match in zip(ids, matches, strict=True) if match.state != "unknown"]
    found = [match for _, match in told]
    dirty = sorted(id for id, match in told if match.state == "dirty")
    marked = sorted(
        (pair for pair in told if pair[1].state != "clean"),
        key=lambda pair: (ORDER[pair[1].state], -pair[1].spans, -pair[1].share, pair[0]),
    )
    return Overlap(
        set=key,
        items=len(found),
        ngram=rules.ngram,
        any_ngram=float(np.mean([match.ngram for match in found])) if found else None,
        share_ngram=rules.share_ngram,
        mean_share=float(np.mean([match.share for match in found])) if found else None,
        dirty=len(dirty) / len(found) if found else None,
        dirty_ids=dirty,
        suspect=len(marked) - len(dirty),
        too_short=len(matches) - len(found),
        rules=_by_rule(found, rules),
        found=[_item(id, match, rules, urls) for id, match in marked[:LISTED]],
        verdict="contaminated" if dirty else "clean" if found else "unknown",
        reason="" if found else "no item has enough words to be looked for" if matches else "no test questions",
    )


def _by_rule(found: Sequence[Match], rules: Rules) -> list[OverlapRule]:
    spans = Counter(
        "dirty" if m.spans >= rules.span_dirty else "suspect" if m.spans >= rules.span_suspect else "clean"
        for m in found
    )
    ngrams, shares = sum(m.ngram for m in found), sum(m.share >= rules.dirty_share for m in found)
    return [
        OverlapRule(
            rule=f"{rules.ngram}-gram",
            source="Brown et al. 2020",
            meaning=f"suspect with any run of {rules.ngram} words",
            clean=len(found) - ngrams,
            suspect=ngrams,
            dirty=0,
            mean_share=ngrams / len(found) if found else None,
        ),
        OverlapRule(
            rule=f"{rules.share_ngram}-gram share",
            source="Chowdhery et al. 2022",
            meaning=f"dirty from {rules.dirty_share:.0%} of its runs of {rules.share_ngram} words",
            clean=len(found) - shares,
            suspect=0,
            dirty=shares,
            mean_share=float(np.mean([m.share for m in found])) if found else None,
        ),
        OverlapRule(
            rule="token spans",
            source="Touvron et al. 2023",
            meaning=f"suspect from {rules.span_suspect:.0%}, dirty from {rules.span_dirty:.0%} of its words in spans "
            f"of {rules.span} and more, {rules.skips} of which may differ behind the first {rules.span}",
            clean=spans["clean"],
            suspect=spans["suspect"],
            dirty=spans["dirty"],
            mean_share=float(np.mean([m.spans for m in found])) if found else None,
        ),
    ]


def _item(id: str, match: Match, rules: Rules, urls: Mapping[str, str]) -> ItemOverlap:
    place = match.place
    shares = {
        f"{rules.ngram}-gram": float(match.ngram), f"{rules.share_ngram}-gram share": match.share,
        "token spans": match.spans,
    }  # fmt: skip
    places = (
        [
            Place(
                document=place.document, source=place.source, url=place.url or urls.get(place.document, ""),
                position=place.offset, unit="bytes", text=place.text, with_answer=place.with_answer,
            )
        ]
        if place
        else []
    )  # fmt: skip
    state: Literal["dirty", "suspect"] = "dirty" if match.state == "dirty" else "suspect"
    return ItemOverlap(id=id, state=state, shares=shares, places=places)
