"""heuristics: the web rules that Gopher, C4 and FineWeb drop pages by, and texts with an odd distribution of words."""

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import Field

from stages.base import schemas
from stages.base.params import Section, parse
from stages.base.record import stage
from stages.corpus import gopher, outliers, web_rules
from stages.corpus.drops import Drop, count_reasons, for_source, split, with_text
from stages.corpus.words import words

Fraction = Annotated[float, Field(ge=0, le=1)]


class Rules(Section):
    """A source's rules, applied in this order (FineWeb's); null switches a family off."""

    gopher_repetition: gopher.GopherRepetition | None
    gopher_quality: gopher.GopherQuality | None
    c4_quality: web_rules.C4 | None
    fineweb_quality: web_rules.FineWeb | None


class HeuristicsParams(Section):
    """Parameters of corpus.heuristics."""

    max_drop: Fraction
    rules: dict[str, Rules]  # source (or `default`) -> its rules
    max_outlier_score: dict[str, Annotated[float, Field(gt=0)] | None]  # source (or `default`) -> bound; null: off


PARAMS = {"corpus.heuristics": HeuristicsParams}


class Decision(NamedTuple):
    """What the rules say of one text."""

    kept: bool
    rule: str  # "gopher_quality", …; "" if kept
    reason: str  # in datatrove's words; "" if kept
    text: str  # rewritten by the rules that cut lines (C4); unchanged if they dropped the text


def apply_rules(texts: list[str], rules: Rules | Mapping[str, Any]) -> list[Decision]:
    """One decision a text, in order: the first rule that a text breaks drops it.

    `rules` is a Rules section or a mapping of its fields; families missing from a mapping are off. Raises ParamError
    for an unknown field or a value out of bounds.
    """
    if not isinstance(rules, Rules):
        off = dict.fromkeys(Rules.model_fields)
        rules = parse("corpus.heuristics.rules", off | dict(rules), Rules)
    return [_decide(text, rules) for text in texts]


def _decide(text: str, rules: Rules) -> Decision:
    tokens = words(text) if rules.gopher_repetition or rules.gopher_quality else None
    if rules.gopher_repetition and (reason := gopher.repeats(text, tokens or [], rules.gopher_repetition)):
        return Decision(False, "gopher_repetition", reason, text)
    if rules.gopher_quality and (reason := gopher.quality(text, tokens or [], rules.gopher_quality)):
        return Decision(False, "gopher_quality", reason, text)
    if rules.c4_quality:
        reason, rewritten = web_rules.c4(text, rules.c4_quality)
        if reason:
            return Decision(False, "c4_quality", reason, text)
        if rewritten != text:
            text, tokens = rewritten, None
    if rules.fineweb_quality:
        tokens = words(text) if tokens is None else tokens
        if reason := web_rules.fineweb(text, tokens, rules.fineweb_quality):
            return Decision(False, "fineweb_quality", reason, text)
    return Decision(True, "", "", text)


def filter_documents(documents: pa.Table, params: HeuristicsParams) -> tuple[pa.Table, pa.Table, dict[str, Any]]:
    """(kept documents, drops, metrics): each source by its own rules, outliers judged among what the rules kept."""
    sources, texts = documents["source"].to_pylist(), documents["text"].to_pylist()
    decisions: dict[int, Decision] = {}
    scores = np.zeros(len(texts))
    drops: list[Drop] = []
    metrics: dict[str, Any] = {}
    for source in sorted(set(sources)):
        mine = [row for row, name in enumerate(sources) if name == source]
        rules = for_source(params.rules, source, "corpus.heuristics.rules")
        decisions |= zip(mine, apply_rules([texts[row] for row in mine], rules), strict=True)
        kept = [row for row in mine if decisions[row].kept]
        bound = for_source(params.max_outlier_score, source, "corpus.heuristics.max_outlier_score")
        if bound is not None:
            entropies = outliers.cross_entropies([words(decisions[row].text.lower()) for row in kept])
            scores[kept] = outliers.robust_scores(entropies)
            drops += [
                Drop(row, "token_distribution", "cross_entropy_high" if scores[row] > 0 else "cross_entropy_low")
                for row in kept
                if abs(scores[row]) > bound
            ]
            metrics[f"{source}_cross_entropy_median"] = float(np.nanmedian(entropies)) if kept else None
        metrics[f"{source}_kept_by_rules"] = len(kept) / len(mine)
    drops += [Drop(row, decision.rule, decision.reason) for row, decision in decisions.items() if not decision.kept]
    rewritten = with_text(documents, [decisions[row].text for row in range(len(texts))])
    return *split(rewritten, drops), metrics


def main() -> None:
    with stage("corpus.heuristics", HeuristicsParams) as run:
        documents = run.read_table("data/corpus/dedup/documents.parquet", schemas.DOCUMENT)
        kept, drops, metrics = filter_documents(documents, run.params)
        run.write_table("documents.parquet", kept, schemas.DOCUMENT)
        run.write_table("drops.parquet", drops, schemas.DROP)
        run.write_json("metrics.json", metrics)
        run.rows(documents.num_rows, kept.num_rows, count_reasons(drops), run.params.max_drop)


if __name__ == "__main__":
    main()
