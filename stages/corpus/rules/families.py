"""The web rules in their order: Gopher's repetition and quality, C4's, FineWeb's; decided as datatrove decides them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from stages.base.params import Section, parse
from stages.corpus.rules import gopher, web_rules
from stages.corpus.rules.lexicon import Text, lexicon

GROUP, GROUP_CHARACTERS = 64, 2_000_000  # of texts whose new words are cut in one go


class Rules(Section):
    """A source's rules, applied in this order (FineWeb's); null switches a family off."""

    gopher_repetition: gopher.GopherRepetition | None
    """Repeated lines, paragraphs and n-grams."""
    gopher_quality: gopher.GopherQuality | None
    """Length, symbols and stop words."""
    c4_quality: web_rules.C4 | None
    """Lines that aren't prose."""
    fineweb_quality: web_rules.FineWeb | None
    """Punctuation and repetition of lines."""


class Decision(NamedTuple):
    """What the rules say of one text."""

    kept: bool
    rule: str  # "gopher_quality", …; "" if kept
    reason: str  # in datatrove's words; "" if kept
    text: str  # rewritten by the rules that cut lines (C4); unchanged if they dropped the text


def apply_rules(texts: Sequence[str], rules: Rules | Mapping[str, Any]) -> list[Decision]:
    """One decision a text, in order: the first rule that a text breaks drops it.

    `rules` is a Rules section or a mapping of its fields; families missing from a mapping are off. Raises ParamError
    for an unknown field or a value out of bounds.
    """
    checked = _check(rules)
    return [decide(text, checked) for text in described(texts)]


def apply_each(texts: Sequence[str], rules: Rules | Mapping[str, Any]) -> list[list[Decision]]:
    """The decision of every family that isn't off on every text as it came, in the order of the families."""
    checked = _check(rules)
    alone = [_only(checked, name) for name in Rules.model_fields if getattr(checked, name) is not None]
    return [[decide(text, family) for family in alone] for text in described(texts)]


def _check(rules: Rules | Mapping[str, Any]) -> Rules:
    if isinstance(rules, Rules):
        return rules
    return parse("corpus.heuristics.rules", dict.fromkeys(Rules.model_fields) | dict(rules), Rules)


def _only(rules: Rules, name: str) -> Rules:
    return rules.model_copy(update=dict.fromkeys(set(Rules.model_fields) - {name}))


def described(texts: Sequence[str]) -> Iterator[Text]:
    """The texts, ready for the rules; one is done with before the next is asked for."""
    start = 0
    while start < len(texts):
        end, characters = start, 0
        while end < len(texts) and end - start < GROUP and (end == start or characters < GROUP_CHARACTERS):
            characters += len(texts[end])
            end += 1
        lexicon().trim()
        group = [Text(text, lexicon()) for text in texts[start:end]]
        lexicon().describe()
        yield from group
        start = end


def decide(text: Text, rules: Rules) -> Decision:
    string = text.string
    if rules.gopher_repetition and (reason := gopher.repeats(text, rules.gopher_repetition)):
        return Decision(False, "gopher_repetition", reason, string)
    if rules.gopher_quality and (reason := gopher.quality(text, rules.gopher_quality)):
        return Decision(False, "gopher_quality", reason, string)
    if rules.c4_quality:
        reason, rewritten = web_rules.c4(text, rules.c4_quality)
        if reason:
            return Decision(False, "c4_quality", reason, string)
        if rewritten != string:
            text = Text(rewritten, text.lexicon)
            text.lexicon.describe()  # a citation cut out of a word leaves a new one
    if rules.fineweb_quality and (reason := web_rules.fineweb(text, rules.fineweb_quality)):
        return Decision(False, "fineweb_quality", reason, text.string)
    return Decision(True, "", "", text.string)
