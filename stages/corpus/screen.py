"""screen: addresses, licences, languages and content that the corpus must not have; personal data replaced."""

from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import Field

from stages.base import schemas
from stages.base.artifacts import PLANTED
from stages.base.artifacts import ROBOTS as ROBOTS_FILES
from stages.base.params import Section
from stages.base.record import StageRun, stage
from stages.corpus.drops import Bound, Drop, split, with_column, with_text
from stages.corpus.screening import language, pii, undesirable
from stages.corpus.screening.address_lists import Blocklist, read_lists
from stages.corpus.screening.content_model import ContentModel, Labeller, UndesirableParams, learn
from stages.corpus.screening.figures import Figures, histograms, legality_record, metrics_of
from stages.corpus.screening.language import Language, LanguageParams
from stages.corpus.screening.legality import Legality, LegalityParams, Standing, legality
from stages.corpus.screening.plants import Plants, count_drop, count_personal, planted_metrics
from stages.corpus.sources.robots import ROBOTS
from stages.corpus.step import Outcome, run_step

DOCUMENTS = "data/corpus/extract/documents.parquet"


class ScreenParams(Section):
    """Parameters of corpus.screen."""

    max_drop: Annotated[float, Field(ge=0, le=1)]
    """Share of a source's documents that one rule (url, licence, opt_out, undesirable) may drop."""
    lists: Annotated[str, Field(min_length=1)]
    """Folder of lists: hosts and words of addresses that are blocked, owners who opted out (lists/README.md)."""
    legality: LegalityParams
    language: LanguageParams
    undesirable: UndesirableParams
    pii: list[Annotated[str, Field(pattern=f"^({'|'.join(pii.KINDS)})$")]]
    """Kinds of personal data that are replaced."""


PARAMS = {"corpus.screen": ScreenParams}
RULES = ("url", "licence", "opt_out", "undesirable")


class Context(NamedTuple):
    """What the screen of a batch needs."""

    params: ScreenParams
    blocklist: Blocklist
    legality: Legality
    model: ContentModel
    plants: Plants


class Verdict(NamedTuple):
    """What the rules say of one document; `rule` is "" where it stays."""

    rule: str
    reason: str
    language: Language
    standing: Standing


def verdict(document: dict[str, Any], context: Context) -> Verdict:
    """The first rule that applies, the classifier aside. Language and legal record are taken of every document."""
    text, url, bounds = document["text"], document["url"], context.params.undesirable
    found = language.judge(text, document["source"], context.params.language)
    standing = context.legality.standing(url, document["licence"], document["opt_out"])
    if reason := context.blocklist.reason(url):
        return Verdict("url", reason, found, standing)
    if standing.rule:
        return Verdict(standing.rule, standing.reason, found, standing)
    if not found.stays:
        return Verdict("language", f"language_{found.code}", found, standing)
    content = undesirable.judge(text)
    if content.density > bounds.max_density and content.terms >= bounds.min_terms:
        return Verdict("undesirable", content.category, found, standing)
    return Verdict("", "", found, standing)


def screen(documents: pa.Table, context: Context) -> Outcome:
    """The documents that stay, with language and signals set and personal data replaced; drops; figures."""
    rows = documents.to_pylist()
    verdicts = [verdict(row, context) for row in rows]
    scores = judge_content(documents, verdicts, context.model)
    drops = [Drop(row, one.rule, one.reason) for row, one in enumerate(verdicts) if one.rule]
    above = np.flatnonzero(scores > context.params.undesirable.max_probability)  # nan is above nothing
    drops += [Drop(int(row), "undesirable", "classifier") for row in above]
    documents = with_column(documents, "language", [one.language.code for one in verdicts])
    documents = with_column(documents, "opt_out", [" ".join(one.standing.signals) for one in verdicts])
    kept, dropped = split(documents, drops)
    kinds = tuple(kind for kind in pii.KINDS if kind in context.params.pii)
    redacted = [pii.redact(text, kinds) for text in kept["text"].to_pylist()]
    figures = Figures()
    gone, new = {drop.row: drop for drop in drops}, iter(redacted)
    for row, (document, one) in enumerate(zip(rows, verdicts, strict=True)):
        drop = gone.get(row)
        figures.take(document["source"], one.language, one.standing, drop.rule if drop else "", float(scores[row]))
        count_drop(figures, context.plants, document, drop)
        if drop is None:
            count_personal(figures, context.plants, document, *next(new))
    return Outcome(with_text(kept, [text for text, _ in redacted]), dropped, figures.counts)


def judge_content(documents: pa.Table, verdicts: list[Verdict], model: ContentModel) -> np.ndarray:
    """float32 probability of each row that no rule drops, nan for the others."""
    result = np.full(documents.num_rows, np.nan, np.float32)
    rows = np.array([row for row, one in enumerate(verdicts) if not one.rule], np.int64)
    scores = model.scores(documents.take(pa.array(rows)))
    if scores is not None:
        result[rows] = scores
    return result


def prepare(run: StageRun[ScreenParams]) -> tuple[Context, dict[str, Any]]:
    """Read the lists and train the classifier; its metrics."""
    params = run.params
    blocklist, opted_out = read_lists(run.input(params.lists))

    def read(columns: list[str]) -> Iterator[pa.Table]:
        return run.batches(DOCUMENTS, schemas.DOCUMENT, columns)

    model, metrics = learn(read, Labeller(blocklist, params.language, params.undesirable), run.seed)
    plants = Plants.of(run.read_table(PLANTED, schemas.PLANTED))
    rules = legality(params.legality, opted_out, run.batches(ROBOTS_FILES, ROBOTS))
    return Context(params, blocklist, rules, model, plants), metrics


def main() -> None:
    with stage("corpus.screen", ScreenParams, seed="corpus.seed") as run:
        context, metrics = prepare(run)
        bounds = {rule: Bound(run.params.max_drop, "corpus.screen.max_drop") for rule in RULES}
        bounds["language"] = Bound(run.params.language.max_drop, "corpus.screen.language.max_drop")
        facts = run_step(run, DOCUMENTS, screen, context, max_drop=run.params.max_drop, rule_bounds=bounds)
        run.write_json("metrics.json", metrics | metrics_of(facts) | planted_metrics(facts))
        thresholds = {
            "undesirable_probability": run.params.undesirable.max_probability,
            "language_confidence": run.params.language.min_confidence,
        }
        run.write_json("histograms.json", histograms(facts, thresholds))
        run.write_json("legality.json", legality_record(facts))


if __name__ == "__main__":
    main()
