"""Fit the model of the extraction mode `blocks`: `python bench/corpus/fit_blocks.py [--write]`, from reference data.

Labels: a block of article-extraction-benchmark's 109 public pages is content if most of its words are aligned with the
gold text. A block of Trafilatura's 990 evaluation pages is content if it has a segment that must appear, none if it
has one that must not; of the others those are taken, at half the weight of a page, on which Trafilatura's `fast` and
`precision` agree. Printed is what the model reaches on pages of domains that it hasn't seen (five folds); --write puts
the weights fitted on all pages into stages/corpus/pages/block_weights.py. Numbers only: no text of a page leaves it.
"""

import argparse
import difflib
import re
import sys
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
TARGET = ROOT / "stages" / "corpus" / "pages" / "block_weights.py"
FOLDS = 5
STRENGTH = 0.05  # C of the logistic regression, on standardised features
GUESSED, TOLD = 0.5, 2.0  # weights of blocks labelled by Trafilatura and by a segment; 1 for those of a gold text
WORD = re.compile(r"\w+")


class Labelled(NamedTuple):
    """A page's blocks."""

    domain: str
    page: dict
    texts: list[str]
    blocks: np.ndarray
    containers: np.ndarray
    table: np.ndarray  # features
    content: np.ndarray  # bool
    weights: np.ndarray


def domain(url: str) -> str:
    return ".".join((urlsplit(url).hostname or url).split(".")[-2:])


def aligned(texts: list[str], wanted: str) -> np.ndarray:
    """Whether most words of each block stand in a text, in order."""
    words, owners = [], []
    for owner, text in enumerate(texts):
        found = WORD.findall(text)
        words += found
        owners += [owner] * len(found)
    hits, totals = np.zeros(len(texts)), np.bincount(owners, minlength=len(texts)) if owners else np.ones(len(texts))
    for match in difflib.SequenceMatcher(None, words, WORD.findall(wanted), autojunk=False).get_matching_blocks():
        for owner in owners[match.a : match.a + match.size]:
            hits[owner] += 1
    return hits > 0.5 * np.maximum(totals, 1)


def guessed(html: str, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """(Content by Trafilatura, whether its two modes agree) of each block."""
    from trafilatura import extract

    fast, precision = (
        aligned(texts, extract(html, include_comments=False, fast=quick, favor_precision=not quick) or "")
        for quick in (True, False)
    )
    return fast | precision, fast == precision


def label(page: dict) -> Labelled | None:
    """The blocks of a page, or None if it has none."""
    from resiliparse.parse.html import HTMLTree

    from stages.corpus.pages.block_features import features
    from stages.corpus.pages.block_names import scanned
    from stages.corpus.pages.block_text import prose, serialised
    from stages.corpus.pages.rewriting import rewrite

    tree = HTMLTree.parse(page["html"])
    rewrite(tree, page["html"].encode("utf-8", "replace").lower())
    markup = serialised(tree)
    blocks, containers = scanned(markup)
    if not len(blocks):
        return None
    spans = blocks[["start", "end"]].tolist()
    texts = [prose(markup[start:end].decode("utf-8", "replace")) for start, end in spans]
    share = np.sqrt(blocks["words"])
    share = share / share.sum()
    if "gold" in page:
        content, weights = aligned(texts, page["gold"]), share
    else:
        content, agreed = guessed(page["html"], texts)
        weights = np.where(agreed, GUESSED, 0) * share
        for place, text in enumerate(texts):
            wanted, unwanted = (any(segment in text for segment in page[key]) for key in ("with", "without"))
            if wanted or unwanted:
                content[place], weights[place] = wanted, 0 if wanted and unwanted else TOLD * share[place]
    return Labelled(
        domain(page["url"]), page, texts, blocks, containers, features(blocks, containers), content, weights
    )


def fit(pages: list[Labelled]) -> tuple[np.ndarray, float]:
    """(Coefficients, intercept) of a logistic regression over the features as they are."""
    from sklearn.linear_model import LogisticRegression

    table, content, weights = (
        np.concatenate([getattr(page, part) for page in pages]) for part in ("table", "content", "weights")
    )
    mean, deviation = table.mean(axis=0), table.std(axis=0) + 1e-6
    model = LogisticRegression(C=STRENGTH, solver="newton-cholesky", max_iter=50)
    model.fit((table - mean) / deviation, content, sample_weight=weights / weights.mean())
    coefficients = model.coef_[0] / deviation
    return coefficients, float(model.intercept_[0] - mean @ coefficients)


def text_of(page: Labelled, coefficients: np.ndarray, intercept: float) -> str:
    from stages.corpus.pages.block_model import data_tables, vote

    content = page.table @ coefficients + intercept > 0
    keep = vote(content, page.blocks, page.containers, data_tables(page.blocks, page.containers))
    return "\n".join(text for text, wanted in zip(page.texts, keep, strict=True) if wanted)


def cross_validate(pages: list[Labelled]) -> None:
    from bench.corpus.extraction import f1, interval, precision_recall, segment_scores

    domains = sorted({page.domain for page in pages})
    np.random.default_rng(0).shuffle(domains)
    fold = {name: place % FOLDS for place, name in enumerate(domains)}
    texts = [""] * len(pages)
    for held_out in range(FOLDS):
        model = fit([page for page in pages if fold[page.domain] != held_out])
        for place, page in enumerate(pages):
            if fold[page.domain] == held_out:
                texts[place] = text_of(page, *model)
        print(f"fold {held_out + 1} of {FOLDS}", file=sys.stderr)
    both = list(zip(texts, pages, strict=True))
    pairs = np.array([precision_recall(text, page.page["gold"]) for text, page in both if "gold" in page.page])
    low, high = interval(pairs)
    precision, recall = pairs.mean(axis=0)
    print(f"gold texts: F1 {f1(pairs):.4f} ({low:.3f}–{high:.3f}), P {precision:.3f}, R {recall:.3f}")
    asked = [(text, page.page) for text, page in both if "with" in page.page]
    scores = segment_scores([text for text, _ in asked], [page for _, page in asked])
    print("segments: F1 {:.3f}, P {:.3f}, R {:.3f}".format(*scores))


def write(coefficients: np.ndarray, intercept: float) -> None:
    from stages.corpus.pages.block_features import FEATURE_NAMES

    lines = [f"    {value:.5g},  # {name}\n" for value, name in zip(coefficients, FEATURE_NAMES, strict=True)]
    TARGET.write_text(
        '"""The model of `block_model`, as bench/corpus/fit_blocks.py writes it: one weight for each of '
        'FEATURE_NAMES."""\n\n'
        f"INTERCEPT = {intercept:.5g}\nWEIGHTS = (\n{''.join(lines)})\n"
    )


def main() -> None:
    from bench.corpus.extraction import article_pages, reference_folder, segment_pages

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="replace stages/corpus/pages/block_weights.py")
    arguments = parser.parse_args()
    folder = reference_folder()
    if not folder.is_dir():
        sys.exit(f"{folder} is missing: set TRAINYARD_REFERENCE to the folder of reference data")
    found = [label(page) for page in article_pages(folder) + segment_pages(folder)]
    pages = [page for page in found if page is not None]
    print(f"{len(pages)} pages, {sum(len(page.texts) for page in pages):,} blocks", file=sys.stderr)
    cross_validate(pages)
    if arguments.write:
        write(*fit(pages))


if __name__ == "__main__":
    main()
