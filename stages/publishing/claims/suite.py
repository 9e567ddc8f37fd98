"""The page of all claims, as plain values for its template."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from stages.base.contracts.claim import Across, Claim, Word
from stages.publishing.claims.figures import (
    between,
    duration,
    effect_places,
    effect_unit,
    effect_value,
    probability,
    shown,
    sizes,
)
from stages.publishing.claims.page import MEANINGS, TOPICS
from stages.publishing.claims.transfer import transfer_view
from stages.publishing.html.numbers import Scale, Value, count


def suite_view(
    claims: Sequence[Claim], adjusted: Mapping[str, float], across: Sequence[Across]
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The view of claims.html and (id, name) of its sections. `adjusted`: claim → Holm's p over the whole suite;
    `across`: claims that ran at two scales."""
    counts = Counter(claim.verdict.verdict for claim in claims)
    verdicts = [{"word": word, "n": counts[word], "meaning": MEANINGS[word]} for word in get_args(Word) if counts[word]]
    groups: list[dict[str, Any]] = []
    for topic, name in TOPICS.items():
        rows = [_row(claim, adjusted.get(claim.name)) for claim in claims if claim.topic == topic]
        if rows:
            groups.append({"id": topic or "other", "name": name, "rows": rows})
    view = {
        "verdicts_found": verdicts,
        "tiles": suite_tiles(claims),
        "groups": groups,
        "headline": headline(claims),
        "holm": holm_line(claims, adjusted),
        "open": open_table(claims),
        "transfer": transfer_view(claims, across),
    }
    sections = [(str(group["id"]), str(group["name"])) for group in groups]
    sections += [("open", "What is open")] if view["open"] else []
    return view, [*sections, ("transfer", "Small and large"), ("reading", "How to read it")]


def headline(claims: Sequence[Claim]) -> str:
    return f"{count(len(claims))} claim{'s' * (len(claims) != 1)}, put to the test"


def counted(claims: Sequence[Claim]) -> list[tuple[Word, int]]:
    """How often each verdict was reached, those that were."""
    counts = Counter(claim.verdict.verdict for claim in claims)
    return [(word, counts[word]) for word in get_args(Word) if counts[word]]


def suite_tiles(claims: Sequence[Claim]) -> list[dict[str, str]]:
    runs = [run for claim in claims for run in claim.runs if run.status == "finished"]
    instances = {(label, key) for run in runs for label, key in run.stages.items()}
    every = sum(len(run.stages) for run in runs)
    tiles = [
        {"value": count(len(runs)), "label": "runs of the pipeline, an arm at a seed each"},
        {"value": count(len(instances)), "label": f"distinct stage instances, where the runs have {count(every)}"},
        {"value": duration(sum(claim.cost.cpu_seconds for claim in claims)), "label": "of CPU time in all"},
    ]
    usd = sum(claim.cost.judge_usd for claim in claims)
    return [*tiles, {"value": f"{usd:.2f} USD", "label": "for judges"}] if usd else tiles


def open_table(claims: Sequence[Claim]) -> dict[str, Any] | None:
    """Undecided claims: what was seen, what the runs can show, and how many seeds would show what was seen. None where
    there are none with numbers."""
    rows = []
    for claim in claims:
        known = claim.outlook
        if claim.verdict.verdict != "undecided" or known is None:
            continue
        decimals = effect_places(claim.verdict)
        needed = f"{count(known.seeds)} seeds" if known.seeds else "more items" if known.gap else "no effect was seen"
        rows.append(
            [claim.name, sizes(claim), shown(known.gap, decimals), shown(known.visible, decimals), needed]
        )  # fmt: skip
    head = ["Undecided claim", "Runs an arm", "Effect seen", "Smallest that these show", "To show the one seen"]
    return {"head": head, "rows": rows, "numeric": [1, 2, 3, 4]} if rows else None


def cost_line(claims: Sequence[Claim]) -> str:
    """What all of it took."""
    return "; ".join(f"{tile['value']} {tile['label']}" for tile in suite_tiles(claims)) + "."


def holm_line(claims: Sequence[Claim], adjusted: Mapping[str, float]) -> str:
    """How many tests still stand if all of them are one family."""
    tests = [claim for claim in claims if claim.verdict.p is not None and claim.name in adjusted]
    if len(tests) < 2:
        return ""
    alone = sum(claim.verdict.p is not None and claim.verdict.p <= claim.alpha for claim in tests)
    kept = sum(adjusted[claim.name] <= claim.alpha for claim in tests)
    return (
        f"{count(len(tests))} of the claims have a test. Each by itself, {count(alone)} of them reach their alpha; "
        f"taken as one family (Holm 1979), {count(kept)} do. A verdict is its own rule's; Holm's p stands beside it."
    )


def _row(claim: Claim, adjusted: float | None) -> dict[str, Any]:
    verdict, effect = claim.verdict, None
    decimals = effect_places(verdict)
    if verdict.effect is not None:
        effect = Value(
            verdict.effect - verdict.null, _less(verdict.low, verdict.null), _less(verdict.high, verdict.null)
        )
    tests = [probability(verdict.p)]
    if verdict.p is not None and adjusted is not None:
        tests.append(f"Holm {probability(adjusted).removeprefix('p ').removeprefix('= ')}")
    return {
        "name": claim.name,
        "claim": claim.claim,
        "source": claim.source,
        "rule": claim.rule,
        "verdict": verdict.verdict,
        "sentence": verdict.sentence,
        "p": ", ".join(part for part in tests if part),
        "effect": effect if effect is not None and effect.low is not None and effect.high is not None else None,
        "scale": _scale(effect, claim.margin),
        "text": f"{effect_value(claim, verdict.effect)} {effect_unit(claim)}".rstrip(),
        "reach": between(verdict.low, verdict.high, decimals),
        "metric": claim.metric,
        "sizes": sizes(claim),
        "cost": duration(claim.cost.cpu_seconds),
    }


def _less(value: float | None, null: float) -> float | None:
    return None if value is None else value - null


def _scale(effect: Value | None, margin: float | None) -> Scale:
    """Symmetrical around the rule's null value, so that the middle of a cell is `no effect`."""
    ends = [effect.mean, effect.low, effect.high, margin] if effect else [margin]
    reach = 1.1 * max((abs(end) for end in ends if end is not None), default=1.0) or 1.0
    return Scale(-reach, reach)
