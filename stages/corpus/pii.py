"""Personal data and secrets in a text: found by pattern, replaced by a placeholder that names the kind.

Patterns of the kind that FineWeb and Dolma use (e-mail, IP), plus telephone numbers and secret keys. Deliberately
strict: in documentation full of numbers a loose telephone pattern eats data.
"""

import ipaddress
import re
from typing import NamedTuple

KINDS = ("key", "email", "ip", "phone")  # replaced in this order: a key may contain what looks like a number

PATTERNS: dict[str, re.Pattern[str]] = {
    # Vendors' fixed prefixes, private-key blocks and JSON web tokens.
    "key": re.compile(
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----"
        r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"
        r"|\bAIza[0-9A-Za-z_-]{35}\b"
        r"|\bgh[pousr]_[0-9A-Za-z]{16,}\b"
        r"|\bgithub_pat_[0-9A-Za-z_]{20,}\b"
        r"|\bglpat-[0-9A-Za-z_-]{16,}"
        r"|\bxox[abprs]-[0-9A-Za-z-]{10,}"
        r"|\b(?:sk|pk|rk)[-_](?:(?:live|test|proj|ant)[-_])?[0-9A-Za-z]{16,}\b"
        r"|\bhf_[0-9A-Za-z]{20,}\b"
        r"|\beyJ[0-9A-Za-z_-]{8,}\.eyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]{8,}",
        re.DOTALL,
    ),
    "email": re.compile(
        r"(?<![\w.+%-])[A-Za-z0-9](?:[\w.+%'-]{0,62}[\w+%-])?@"
        r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24}\b"
    ),
    "ip": re.compile(
        r"(?<![\w.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\w]|\.\d)"
        r"|(?<![\w:.])(?:[0-9A-Fa-f]{1,4}:){2,7}(?::?[0-9A-Fa-f]{1,4}){1,6}(?![\w:])"
    ),
    # International with "+", or the North American groups with a separator between them.
    "phone": re.compile(
        r"(?<![\w+])\+\d{1,3}(?:[ .-]?\(\d{1,4}\)|[ .-]\d{1,4}|\d)(?:[ .-]?\d{2,4}){2,4}(?![\w.]\d|\d)"
        r"|(?<![\w.,+-])(?:\(\d{3}\) ?|\d{3}[-.])\d{3}[-.]\d{4}(?![\w]|[-.]\d)"
    ),
}
# A pattern runs only on texts that hold its needle: most don't, and the search is cheap.
NEEDLES: dict[str, re.Pattern[str]] = {
    "key": re.compile(r"PRIVATE KEY|AKIA|ASIA|AIza|gh[pousr]_|github_pat|glpat|xox|[spr]k[-_]|hf_|eyJ"),
    "email": re.compile("@"),
    "ip": re.compile(r"\d\.\d{1,3}\.\d|[0-9A-Fa-f]:[0-9A-Fa-f:]"),
    "phone": re.compile(r"\+\d|\d{3}\)? ?[-.]?\d{3}[-.]\d{4}"),
}


class Finding(NamedTuple):
    """One replaced string."""

    kind: str
    text: str


def redact(text: str, kinds: tuple[str, ...] = KINDS) -> tuple[str, list[Finding]]:
    """The text with `[email]`, `[ip]`, `[phone]`, `[key]` in place of what was found, and the findings in order.

    Addresses that identify nobody stay: loopback, private, link-local, multicast and unspecified IPs.
    """
    findings: list[Finding] = []
    for kind in (kind for kind in KINDS if kind in kinds):
        if not NEEDLES[kind].search(text):
            continue

        def replace(match: re.Match[str], kind: str = kind) -> str:
            if kind == "ip" and not _identifies(match.group()):
                return match.group()
            findings.append(Finding(kind, match.group()))
            return f"[{kind}]"

        text = PATTERNS[kind].sub(replace, text)
    return text, findings


DOCUMENTATION = tuple(
    ipaddress.ip_network(net) for net in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")
)


def _identifies(address: str) -> bool:
    """Whether an IP address may belong to somebody; the ranges kept for documentation count as if they did."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if any(ip in net for net in DOCUMENTATION if net.version == ip.version):
        return True
    return ip.is_global and not ip.is_multicast
