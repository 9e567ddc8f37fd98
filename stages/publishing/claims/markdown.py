"""Claims as Markdown, beside their pages."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from stages.base.contracts.claim import Across, Claim
from stages.publishing.claims.figures import probability, sizes
from stages.publishing.claims.page import (
    MEANINGS,
    TOPICS,
    comparisons_table,
    cost_facts,
    effect_line,
    instances_table,
    metrics_table,
    missing,
    params_table,
    seeds_table,
)
from stages.publishing.claims.suite import cost_line, counted, headline, holm_line, open_table
from stages.publishing.claims.transfer import transfer_view

SPECIAL = re.compile(r"[|\[\]<>`*_\\]")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def plain(text: str) -> str:
    """Words from outside as text on one line: what would begin a link, a tag or a cell is escaped."""
    return SPECIAL.sub(r"\\\g<0>", CONTROL.sub(" ", text)).strip()


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rule = "|".join(["---", *["--:"] * (len(head) - 1)])
    first, *lines = [f"| {' | '.join(map(plain, row))} |" for row in (head, *rows)]
    return [first, f"|{rule}|", *lines]


def fenced(text: str) -> list[str]:
    """A block of code whose fence is longer than any in the text."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return [f"{fence}yaml", text.rstrip("\n"), fence]


def _section(title: str, content: Mapping[str, Any] | None) -> list[str]:
    return [f"## {title}", "", *table(content["head"], content["rows"]), ""] if content and content["rows"] else []


def claim_markdown(claim: Claim) -> str:
    verdict, word = claim.verdict, claim.verdict.verdict.capitalize()
    lines = [f"# {plain(claim.claim)}", ""]
    lines += [f"Where it comes from: {plain(claim.source)}", ""] if claim.source else []
    lines += [plain(claim.question), ""] if claim.question else []
    lines += [
        f"**{word}**: {plain(verdict.sentence.removeprefix(f'{word}: '))}",
        "",
        f"- rule, as declared: `{claim.rule}` on `{claim.metric}`",
        *[f"- {plain(effect_line(claim))}, {100 * verdict.level:g} % interval"] * (verdict.effect is not None),
        f"- {sizes(claim)}{' an arm' * bool(verdict.n_seeds)}",
        *[f"- {plain(line)}" for line in (verdict.estimator, *verdict.notes, *claim.changes) if line],
        "",
    ]
    lines += _section("Effects", comparisons_table(claim))
    lines += _section("Arms", metrics_table(claim))
    lines += _section("What the arms differ in", params_table(claim))
    lines += _section(f"Every run: {claim.metric}", seeds_table(claim))
    lines += [f"- {plain(line)}" for line in missing(claim)] + [""] * bool(missing(claim))
    lines += _section("Stage instances", instances_table(claim))
    lines += ["## Cost", "", *(f"- {name}: {value}" for name, value in cost_facts(claim)), ""]
    lines += ["## Declaration", "", *fenced(claim.declaration), "", f"sha256 of its content: `{claim.digest}`", ""]
    if claim.deviation:
        lines += ["It was edited after runs had started, and says now:", "", *fenced(claim.deviation.declaration), ""]
    lines += [*(f"- {name}: {plain(value)}" for name, value in sorted(claim.environment.items())), ""]
    return "\n".join(lines)


def suite_markdown(claims: Sequence[Claim], adjusted: Mapping[str, float], across: Sequence[Across]) -> str:
    lines = [f"# {headline(claims)}", "", ", ".join(f"{n} {word}" for word, n in counted(claims)), ""]
    lines += [cost_line(claims), ""]
    if line := holm_line(claims, adjusted):
        lines += [line, ""]
    for topic, name in TOPICS.items():
        rows = [
            f"| [{plain(claim.claim)}](claims/{claim.name}.md) | {claim.verdict.verdict} | "
            f"{plain(effect_line(claim))} | {probability(claim.verdict.p) or '–'} | {sizes(claim)} |"
            for claim in claims
            if claim.topic == topic
        ]
        if rows:
            lines += [
                f"## {name}",
                "",
                "| Claim | Verdict | Effect | p | Runs an arm |",
                "|---|---|---|--:|--:|",
                *rows,
                "",
            ]
    lines += _section("What is open", open_table(claims))
    told = transfer_view(claims, across)
    lines += ["## Does small predict large?", "", told["pooled"], ""]
    for content in (told["scales"], told["ladders"], told["signals"]):
        lines += [*table(content["head"], content["rows"]), ""] if content else []
    lines += [*(f"- {word}: {MEANINGS[word]}" for word, _ in counted(claims)), ""]
    return "\n".join(lines)
