"""screen: addresses, licences, languages and content that the corpus must not have; personal data replaced."""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any

import pyarrow as pa
from pydantic import Field

from stages.base import schemas
from stages.base.params import Section
from stages.base.record import stage
from stages.corpus import language, pii, undesirable
from stages.corpus.drops import Drop, count_reasons, for_source, split, with_column, with_text
from stages.corpus.planted import dropped_recall, plants, share
from stages.corpus.url import canonical, host

Fraction = Annotated[float, Field(ge=0, le=1)]


class LanguageParams(Section):
    """Which languages stay."""

    keep: dict[str, list[str]]  # source (or `default`) -> ISO 639-1 codes; an empty list keeps every language
    sample_characters: Annotated[int, Field(ge=100)]
    min_characters: Annotated[int, Field(ge=0)]  # shorter texts are not judged: the identifier guesses on them
    min_confidence: Fraction  # below it a text is kept whatever its language seems to be


class UndesirableParams(Section):
    """Bounds of the keyword rule."""

    max_density: Annotated[float, Field(gt=0)]  # summed term weight a thousand words
    min_terms: Annotated[int, Field(ge=1)]  # distinct terms that a page must have to be dropped


class ScreenParams(Section):
    """Parameters of corpus.screen."""

    max_drop: Fraction
    blocked_hosts: list[str]  # a host and everything below it
    blocked_url_words: list[str]  # whole words of the path, lower case
    denied_licences: list[str]  # compared without case
    unknown_licence: Annotated[str, Field(pattern="^(keep|drop)$")]
    language: LanguageParams
    undesirable: UndesirableParams
    pii: list[Annotated[str, Field(pattern="^(key|email|ip|phone)$")]]


PARAMS = {"corpus.screen": ScreenParams}


def blocked(url: str, hosts: Sequence[str], words: Sequence[str]) -> str:
    """Why a URL is on the block list ("blocked_host", "blocked_url_word"), "" if it isn't."""
    name = host(url)
    if any(name == entry or name.endswith(f".{entry}") for entry in hosts):
        return "blocked_host"
    path = canonical(url).partition("/")[2].lower()
    tokens = set("".join(c if c.isalnum() else " " for c in path).split())
    return "blocked_url_word" if tokens.intersection(words) else ""


def verdict(document: dict[str, Any], params: ScreenParams) -> tuple[str, str, str]:
    """(rule, reason, language) of one document; rule "" where it stays. Language is identified for every document."""
    text, source = document["text"], document["source"]
    code, confidence = language.identify(text, params.language.sample_characters)
    keep = for_source(params.language.keep, source, "corpus.screen.language.keep")
    reason = blocked(document["url"], params.blocked_hosts, params.blocked_url_words)
    if reason:
        return "url", reason, code
    licence = document["licence"].strip().lower()
    if licence in {denied.lower() for denied in params.denied_licences}:
        return "licence", "denied_licence", code
    if not licence and params.unknown_licence == "drop":
        return "licence", "unknown_licence", code
    judged = len(text) >= params.language.min_characters and confidence >= params.language.min_confidence
    if keep and judged and code not in keep:
        return "language", f"language_{code}", code
    content = undesirable.judge(text)
    if content.density > params.undesirable.max_density and content.terms >= params.undesirable.min_terms:
        return "undesirable", content.category, code
    return "", "", code


def screen(
    documents: pa.Table, params: ScreenParams
) -> tuple[pa.Table, pa.Table, dict[str, list[pii.Finding]], dict[str, int]]:
    """(kept documents with language set and personal data replaced, drops, findings by document id, licence counts)."""
    rows = documents.to_pylist()
    verdicts = [verdict(row, params) for row in rows]
    documents = with_column(documents, "language", [code for _, _, code in verdicts])
    drops = [Drop(row, rule, reason) for row, (rule, reason, _) in enumerate(verdicts) if rule]
    kept, dropped = split(documents, drops)
    kinds = tuple(kind for kind in pii.KINDS if kind in params.pii)
    redacted = [pii.redact(text, kinds) for text in kept["text"].to_pylist()]
    findings = {
        identifier: found for identifier, (_, found) in zip(kept["id"].to_pylist(), redacted, strict=True) if found
    }
    licences = Counter(row["licence"].strip() or "unknown" for row in rows)
    return with_text(kept, [text for text, _ in redacted]), dropped, findings, dict(sorted(licences.items()))


def pii_metrics(
    planted: pa.Table, before: pa.Table, after: pa.Table, findings: dict[str, list[pii.Finding]]
) -> dict[str, float | int | None]:
    """Replacements by kind; recall and precision on planted payloads.

    Recall: planted strings that stood in a text that came in and stayed, and don't stand in it now. Precision: strings
    replaced on pages of the sources that have plants, that overlap a planted string.
    """
    metrics: dict[str, float | int | None] = {
        f"pii_{kind}_replaced": sum(f.kind == kind for found in findings.values() for f in found) for kind in pii.KINDS
    }
    old = dict(zip(before["url"].to_pylist(), before["text"].to_pylist(), strict=True))
    new = dict(zip(after["url"].to_pylist(), after["text"].to_pylist(), strict=True))
    cases = [plant for plant in plants(planted, "pii") if plant.url in new and plant.payload in old[plant.url]]
    metrics["pii_planted"] = len(cases)
    metrics["pii_recall"] = share(sum(case.payload not in new[case.url] for case in cases), len(cases))
    payloads: dict[str, list[str]] = {}
    for case in cases:
        payloads.setdefault(case.url, []).append(case.payload)
    source_of = dict(zip(after["id"].to_pylist(), after["source"].to_pylist(), strict=True))
    url_of = dict(zip(after["id"].to_pylist(), after["url"].to_pylist(), strict=True))
    planted_sources = {source_of[identifier] for identifier in source_of if url_of[identifier] in payloads}
    for kind in pii.KINDS:
        mine = [
            any(finding.text in payload or payload in finding.text for payload in payloads.get(url_of[identifier], []))
            for identifier, found in findings.items()
            if source_of[identifier] in planted_sources
            for finding in found
            if finding.kind == kind
        ]
        metrics[f"pii_{kind}_precision"] = share(sum(mine), len(mine))
    return metrics


def main() -> None:
    with stage("corpus.screen", ScreenParams) as run:
        documents = run.read_table("data/corpus/extract/documents.parquet", schemas.DOCUMENT)
        planted = run.read_table("data/corpus/atlas/planted.parquet", schemas.PLANTED)
        kept, drops, findings, licences = screen(documents, run.params)
        metrics = pii_metrics(planted, documents, kept, findings)
        metrics |= dropped_recall(planted, "spam", documents["url"].to_pylist(), kept["url"].to_pylist())
        run.write_table("documents.parquet", kept, schemas.DOCUMENT)
        run.write_table("drops.parquet", drops, schemas.DROP)
        run.write_json("metrics.json", metrics)
        run.note("licences", licences)
        run.rows(documents.num_rows, kept.num_rows, count_reasons(drops), run.params.max_drop)


if __name__ == "__main__":
    main()
