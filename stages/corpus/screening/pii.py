"""Personal data and secrets in a text: found by pattern, replaced by a placeholder that names the kind.

Patterns of the kind that FineWeb and Dolma use (e-mail, IP), plus telephone, payment card and account numbers and
secret keys. Deliberately strict: in documentation full of numbers a loose telephone pattern eats data.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from stages.corpus.screening import pii_checks as checks


class Rule(NamedTuple):
    """One way to find a kind."""

    needles: tuple[str | re.Pattern[str], ...]  # the pattern runs only on texts that hold one: most don't
    pattern: re.Pattern[str]
    check: Callable[[str, re.Match[str]], int]  # see `pii_checks`


KEY_MARKS = (
    "PRIVATE KEY", "AKIA", "ASIA", "AIza", "github_pat_", "glpat-", "xox", "sk-proj", "sk-ant", "sk-svc", "hf_", "eyJ",
    "SG.", "npm_", "pypi-", "GOCSPX-", "dop_v1_", "hooks.slack",
)  # fmt: skip
HEXTET = "[0-9A-Fa-f]{1,4}"
# Look-behinds stand after the first character, so that `re` may skip to it; needles start with a literal, which it
# searches for as fast as memory.
RULES: dict[str, tuple[Rule, ...]] = {
    # Replaced first: a key may contain what looks like a number.
    "key": (
        # Vendors' fixed prefixes, private-key blocks and JSON web tokens.
        Rule(
            (
                *KEY_MARKS,
                re.compile(r"gh[pousr]_\w{16}"),
                re.compile(r"k[-_]\w{16}"),
                re.compile(r"k[-_](?:live|test)"),
            ),
            re.compile(
                # Up to the next beginning: looking past it would be quadratic in a row of them.
                r"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----(?:(?!-----BEGIN ).){0,20000}?"
                r"-----END [A-Z ]*PRIVATE KEY(?: BLOCK)?-----"
                r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"
                r"|\bAIza[0-9A-Za-z_-]{35}"
                r"|\bgh[pousr]_[0-9A-Za-z]{16,}\b"
                r"|\bgithub_pat_[0-9A-Za-z_]{20,}\b"
                r"|\bglpat-[0-9A-Za-z_-]{16,}"
                r"|\bxox[abeprs]-[0-9A-Za-z-]{10,}"
                r"|\bsk-(?:proj|ant|svcacct)-[0-9A-Za-z_-]{20,}"
                r"|\b(?:sk|pk|rk)[-_](?:(?:live|test)[-_])?[0-9A-Za-z]{16,}\b"
                r"|\bhf_[0-9A-Za-z]{20,}\b"
                r"|(?<![\w-])eyJ[0-9A-Za-z_-]{8,}\.eyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]{8,}"
                r"|\bSG\.[0-9A-Za-z_-]{16,}\.[0-9A-Za-z_-]{16,}"
                r"|\bnpm_[0-9A-Za-z]{36}\b"
                r"|\bpypi-[0-9A-Za-z_-]{50,}"
                r"|\bGOCSPX-[0-9A-Za-z_-]{20,}"
                r"|\bdop_v1_[0-9a-f]{64}\b"
                r"|\bhooks\.slack\.com/services/[0-9A-Za-z]{8,}/[0-9A-Za-z]{8,}/[0-9A-Za-z]{16,}",
                re.DOTALL,
            ),
            checks.always,
        ),
        # Whatever is given as a secret and looks drawn at random.
        Rule(
            (re.compile(r"[=:][ \t]?[\"']?[0-9A-Za-z+/_-]{20}"),),
            re.compile(
                r"(?i:(?:api|access|account|secret|private|auth)[_-]?(?:key|token)|secret|passw(?:or)?d|client[_-]secret)"
                r"[\"']?[ \t]?(?:=>|=|:)[ \t]?[\"']?(?P<value>[0-9A-Za-z+/_-]{20,}={0,2})"
            ),
            checks.secret,
        ),
    ),
    "email": (
        Rule(
            ("@", "%40"),
            re.compile(
                r"\w(?<!\w\w)(?:[\w.+%'-]{0,62}[\w+%-])?(?:@|%40)"
                r"(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}(?:xn--[A-Za-z0-9-]{2,59}|[A-Za-z]{2,24})\b(?![(\[]|\.\w+[(\[])"
            ),
            checks.email,
        ),
    ),
    "ip": (
        Rule(
            (re.compile(r"\.\d{1,3}\.\d{1,3}\.\d"),),
            re.compile(r"\d(?<![\w.]\d)(?<![A-Za-z]-\d)\d{0,2}(?:\.\d{1,3}){3}(?!\w|\.\d|-[A-Za-z])"),
            checks.ip,
        ),
        # Addresses that are given out start with 2 or 3 (2000::/3), so their first group has four digits.
        Rule(
            (re.compile(r":[0-9A-Fa-f]{0,4}:"),),
            re.compile(
                rf"[23](?<![\w:.][23])[0-9A-Fa-f]{{3}}(?:::?{HEXTET}){{0,7}}(?:::|::?{HEXTET})"
                r"(?!\w|:[0-9A-Fa-f:])"
            ),
            checks.ip,
        ),
    ),
    "card": (
        Rule(
            tuple(re.compile(needle) for needle in (r" \d{4} \d{4}", r"-\d{4}-\d{4}", r" \d{6} \d", r"-\d{6}-\d")),
            re.compile(
                r"(?<![\w.,+-])(?:(?:4\d|5[1-5]|2[2-7]|6[05]|35)\d\d([ -])\d{4}\1\d{4}\1\d{4}|"
                r"3[47]\d\d([ -])\d{6}\2\d{5})(?!\w|[.,-]\d)"
            ),
            checks.card,
        ),
        # Without groups it is any number, so a word must say what it is.
        Rule(
            tuple(re.compile(word + r"\D{0,12}\d{13}") for word in ("ard", "ARD", "isa", "ISA", "mex", "MEX")),
            re.compile(
                r"(?i:\b(?:(?:master|credit|debit)?[ -]?card|visa|amex)\b\D{0,12})(?P<value>[2-6]\d{12,18})(?!\w)"
            ),
            checks.card,
        ),
    ),
    "iban": (
        Rule(
            (re.compile(r"[A-Z][A-Z]\d\d ?[A-Z0-9]{4}"),),
            re.compile(r"\b[A-Z]{2}\d\d(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"),
            checks.iban,
        ),
    ),
    "phone": (
        # International with "+".
        Rule(
            (re.compile(r"\+\d"),),
            re.compile(
                r"\+(?<![\w+]\+)[1-9]\d{0,2}(?:[ .-]?\(\d{1,5}\)(?:[ .-]?\d{1,5})?|[ .-]\d{1,5}|\d)"
                r"(?:[ .\-/]?\d{2,5}){1,5}(?![\w.]\d|\d)"
            ),
            checks.phone,
        ),
        # The North American groups with a separator between them.
        Rule(
            (re.compile(r"-\d{4}"), re.compile(r"\.\d{4}")),
            re.compile(
                r"(?<![\w.,+-])(?:1[ .-])?(?:\([2-9]\d{2}\)[ -]?|[2-9]\d{2}[-.])[2-9]\d{2}[-.]\d{4}(?!\w|[-.]\d)"
            ),
            checks.phone,
        ),
        # Any grouping after a word that says what it is; not after the placeholder.
        Rule(
            ("tel", "Tel", "TEL", "hone", "HONE", "ax", "AX", "obile", "otline", "hats"),
            re.compile(
                r"(?i:(?<![\w\[])(?:tel|telephone|phone|fax|mobile|hotline|whatsapp)\b[^\w\n+(\[]{0,3}"
                r"(?:(?:no|number|us|at|on|is)\b[^\w\n+(\[]{1,3}){0,2})"
                r"(?P<value>\(?\d[\d ()./\-]{5,18}\d)(?!\w|[.,]\d)"
            ),
            checks.phone,
        ),
    ),
}
KINDS = tuple(RULES)  # in the order in which they are replaced


class Finding(NamedTuple):
    """One replaced string."""

    kind: str
    text: str


def redact(text: str, kinds: tuple[str, ...] = KINDS) -> tuple[str, list[Finding]]:
    """The text with `[email]`, `[ip]`, … in place of what was found, and the findings, kind by kind.

    What identifies nobody stays: private, loopback and documentation addresses, `git@…`, versions.
    """
    findings: list[Finding] = []
    for kind in (kind for kind in KINDS if kind in kinds):
        for rule in RULES[kind]:
            if any(needle in text if isinstance(needle, str) else needle.search(text) for needle in rule.needles):
                text = _replace(text, kind, rule, findings)
    return text, findings


def _replace(text: str, kind: str, rule: Rule, findings: list[Finding]) -> str:
    group: str | int = "value" if "value" in rule.pattern.groupindex else 0

    def replace(match: re.Match[str]) -> str:
        value = match[group]
        length = rule.check(value, match)
        if length == 0:
            return match[0]
        findings.append(Finding(kind, value[:length]))
        start = match.start(group) - match.start()
        return f"{match[0][:start]}[{kind}]{match[0][start + length :]}"

    return rule.pattern.sub(replace, text)
