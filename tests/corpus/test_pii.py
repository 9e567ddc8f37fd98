"""Personal data: written-out cases of every kind and of what only looks like it; datatrove as the peer."""

import json
import os
import random
import re
import subprocess
import sysconfig
from pathlib import Path

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.corpus.screening import pii
from stages.corpus.screening.pii_checks import IBAN_LENGTHS

ROOT = Path(__file__).resolve().parents[2]
FOUND = {
    "email": """jo.smith+lists@mail.example.co.uk o'neill@example.ie joe_99@sub.host.example.org a@b.io
        müller@bücherei.de 安@例え.jp jo%40example.org x@xn--bcher-kva.example JOE@EXAMPLE.COM""",
    "ip": """91.216.17.156 8.8.8.8 2a00:1450:4001:830::200e 2001:658:22a:cafe:200:0:0:1 2606:4700::1111 2a02:762::7f8
        2003::BABA""",
    "key": """AKIAIOSFODNN7EXAMPLE ghp_16C7e42F292c6912E7710c838347Ae178B4a sk-nDsaY2RqX9VwqfLQdlyKHsDmHoYD3qDL
        sk_live_4eC39HqLyjWDarjtT1zdp7dc sk-proj-Ab3dEf6hIj9kLm2nOp5q_r8sT1u-v4w hf_AbCdEfGhIjKlMnOpQrStUvWxYz012345
        xoxb-123456789012-abcdefABCDEF glpat-zW3kQ9xYbN7vR2mT5pLs AIzaSyA1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q
        npm_a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8 github_pat_11ABCDEFG0abcdefghijkl
        eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U
        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""",
    "card": "4111-1111-1111-1111 5500-0000-0000-0004 3782-822463-10005 6011-0009-9013-9424",
    "iban": "DE89370400440532013000 GB82WEST12345698765432 NO9386011117947 FR1420041010050500013M02606",
    "phone": "415-555-2671 (415)555-2671 415.555.2671 1-800-555-0199 +14155552671 +44-20-7946-0958 +1.415.555.2671",
}
SPACED = {  # with spaces inside
    "phone": ["+1 (555) 401-1354", "+49 30 901820 55", "(415) 555-2671", "+44 20 7946 0958", "+49 (0)30 9018-205",
              "+33 1 42 68 53 00", "+61 2 9374 4000", "+91 22 6777 7777"],
    "card": ["4111 1111 1111 1111", "3782 822463 10005"],
    "iban": ["GB82 WEST 1234 5698 7654 32", "DE89 3704 0044 0532 0130 00", "NL91 ABNA 0417 1643 00"],
}  # fmt: skip
CASES = [(kind, case) for kind, text in FOUND.items() for case in text.split()]
CASES += [(kind, case) for kind, cases in SPACED.items() for case in cases]
IN_CONTEXT = [
    ("phone", "Tel.: 030 901820", "030 901820"),
    ("phone", "telephone us at 0800 123 4567 today", "0800 123 4567"),
    ("phone", "Fax (020) 7946 0958.", "(020) 7946 0958"),
    ("phone", "+1 415 555 2671 2024 edition", "+1 415 555 2671"),
    ("phone", "from +376 712 345 in Andorra", "+376 712 345"),
    ("phone", "+34 900 100 000", "+34 900 100 000"),
    (
        "key",
        'aws_secret_access_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYzAp9Kd3Lq8"',
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYzAp9Kd3Lq8",
    ),
    ("key", "api_key: 9f86d081884c7d659a2feaa0c55ad015", "9f86d081884c7d659a2feaa0c55ad015"),
    ("card", "Visa 4111111111111111 was charged", "4111111111111111"),
    ("ip", "Connect to http://91.216.17.156:8080/x", "91.216.17.156"),
    ("ip", "[2a00:1450:4001:830::200e]:443", "2a00:1450:4001:830::200e"),
    ("email", "<mailto:jo@example.org>", "jo@example.org"),
    ("email", "to='jo@example.org',cc", "jo@example.org"),
    ("iban", "DE89 3704 0044 0532 0130 00 BIC COBADEFF", "DE89 3704 0044 0532 0130 00"),
]
STAYS = """
Listen on 127.0.0.1, 0.0.0.0, ::1, 10.1.2.3, 169.254.1.1, fe80::1, 224.0.0.1 or 192.168.1.17.
The documentation's own: 192.0.2.1, 198.51.100.7, 203.0.113.9 and 2001:db8:85a3::8a2e:370:7334.
x = 3.14159265 + 1e-10 - 0.123456789012, and +1.2345678 -0.123 +12.5 -415.555
array([415, 555, 2671]); 1.5e+10; [100.25, 200.50, 300.75]; 415 555 2671
ISBN 978-0-387-31073-2 and 0-306-40615-2, pages 100-1234, doi 10.1000/182, ISSN 0317-8471
@decorator def f(a: int) -> A @ B.T; X@W.mean(axis=0); a@b.dot(c); M@N
2026-03-01 12:34:56 slice a[1:2, ::3], a[2000::2], 10:20:30:40, 2024:01:15
std::vector<int> and a::b, dead::beef, 00:1B:44:11:3A:B7, 3f:2a
color: #ff8800; background: #1a2b3c4d; margin: 0.5em 1.25em 10.10em
Python version 3.11.7.1, release: 5.10.102.1-microsoft, numpy==1.2.3.4, v1.2.3.5, section 8.1.2.2, libfoo-1.2.3.4.so
OID 1.3.6.1.4.1.311.20.2.3; 256.1.1.1; 1.2.3; 1.2.3.4.5; 01.02.03.04
icon@2x.png, git@github.com:owner/name.git, package@1.2.3, @scope/name, user@host, twitter.com/@somebody
phone 2026-03-01; mobile 2019-2023; the phone rang 3 times in 1995; fax machines of 1980
sk-learn, sk_buff, pk_id, hf_hub_download, xoxo, eyJ, ghp_, AKIA, task-1234567890abcdefgh_name
password = os.environ["DATABASE_PASSWORD"]; secret_key: get_secret_key_from_settings; token = tokenizer.encode(text)
4111 1111 1111 1112, 1234 5678 9012 3456, 4444 4444 4444 4444, 0.4111111111111111, 1712345678901234
DE00370400440532013000, AB12 CDEF 3456, ABCD1234EFGH5678, X509 CERT
int64 9223372036854775807, 1415555267 rows, 202.5 +/- 10.5, 1-2-3, 555-1234, 12-34-5678, UTC+0100, +100, +1 2
Sections 8.1.2.2, 8.1.2.4 and 8.1.3.1; RFC 5321, 4.1.1.1; ISO 9001:2015 8.2.3.1; step 3.1.4.1; Chrome/24.0.131.89
3.1.4.2 Data structures
## 4.2.1.3. Trees
12.3.1.4 ........ 17
3.0.1.2 (2019-05-01)
- 3.0.1.3 / 2019
y = x@w.shape, q@k.values[0], self.weight@x.id, a@b.name[0], obj.method@module.func, data@view.iloc, u@v.reshape
+10 000 000 people, +1 000 000 000, +1234567890, +20 000 000, +25 500 000 a year, +250 000 000, +1 150 555 2671
"""


@pytest.mark.parametrize(("kind", "secret"), CASES)
def test_personal_data_is_replaced_whole(kind: str, secret: str) -> None:
    for before, after in (("Write to ", ", or wait."), ("", ""), ("(", ")"), ("see\n", "\nbelow"), ('"', '" and')):
        if before == "(" and secret.startswith("("):
            continue
        text, findings = pii.redact(f"{before}{secret}{after}")
        assert text == f"{before}[{kind}]{after}"
        assert findings == [pii.Finding(kind, secret)]


@pytest.mark.parametrize(("kind", "text", "secret"), IN_CONTEXT)
def test_words_around_help_and_stay(kind: str, text: str, secret: str) -> None:
    assert pii.redact(text) == (text.replace(secret, f"[{kind}]"), [pii.Finding(kind, secret)])


@pytest.mark.parametrize("line", STAYS.strip().splitlines())
def test_what_only_looks_like_it_stays(line: str) -> None:
    assert pii.redact(line) == (line, [])


def test_the_numbers_of_sections_are_told_from_addresses_by_the_headings_of_the_text() -> None:
    text = "5.3.2 Parsing\nAs 5.3.2.1 says, and 5.3.2.17, ask 5.3.9.1 at 24.5.6.7.\n5.3.2.4 Errors\n5.3.8.1 was away."
    assert pii.redact(text)[0] == text.replace("5.3.9.1", "[ip]").replace("24.5.6.7", "[ip]").replace("5.3.8.1", "[ip]")


def test_mail_ends_in_a_top_level_domain() -> None:
    """IANA's list, as hypothesis ships it: all of it, and nothing else but the reserved names."""
    listed = Path(hypothesis.__file__).parent / "vendor" / "tlds-alpha-by-domain.txt"
    names = [line.strip().lower() for line in listed.read_text().splitlines() if not line.startswith("#")]
    names = [name for name in names if name != "arpa"]
    assert pii.redact(" ".join(f"jo@mail.{name}" for name in names))[0] == " ".join(["[email]"] * len(names))
    attributes = {*dir(str), *dir(dict), *dir(Path), *dir(re)} - {*names}
    for name in sorted(one for one in attributes if one.isalpha() and one.islower()):
        assert pii.redact(f"a@b.{name} c") == (f"a@b.{name} c", [])


def test_a_private_key_goes_with_its_lines() -> None:
    block = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nabc@d.io\n-----END RSA PRIVATE KEY-----"
    assert pii.redact(f"a {block} b") == ("a [key] b", [pii.Finding("key", block)])


def test_a_key_without_an_end_hides_none_after_it() -> None:
    begin, end = "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----"
    assert pii.redact(f"{begin}\n{begin}\nMIIE\n{end}")[0] == f"{begin}\n[key]"


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "unit",
    [
        "-----BEGIN PRIVATE KEY-----\n",
        "-----BEGIN ",
        "-eyJ",
        "eyJaaaaaaaa.",
        "-sk-proj-",
        "SG.",
        "+1 ",
        "a@",
        "secret=",
        "8.8.8.8 ",
        "8.8.8.8 A\n",
    ],
)
def test_no_repetition_takes_more_than_linear_time(unit: str) -> None:
    """A megabyte; quadratic time would be minutes."""
    assert pii.redact(unit * (1_000_000 // len(unit)) + "-----END PRIVATE KEY-----")


def test_only_the_kinds_that_are_asked_for() -> None:
    text = "jo@example.org at 8.8.8.8"
    assert pii.redact(text, ("ip",))[0] == "jo@example.org at [ip]"


@given(
    st.lists(
        st.sampled_from([*"ab @.+-()0123456789:[]sk_\n", "tel ", "card ", "8.8.8.8", "jo@a.io", "[phone]"]), max_size=60
    )
)
def test_redaction_is_idempotent_and_reports_what_it_took(parts: list[str]) -> None:
    text = "".join(parts)
    once, findings = pii.redact(text)
    assert pii.redact(once)[0] == once
    assert bool(findings) == (once != text)
    assert all(finding.text in text for finding in findings if finding.kind == "key")


def test_needles_never_hide_what_the_pattern_would_find() -> None:
    """Every rule with its needles taken away finds no more on the cases and on noise around them."""
    generator = random.Random(3)
    cases = [case for _, case in CASES] + [text for _, text, _ in IN_CONTEXT]
    for _ in range(2000):
        text = (
            " ".join(generator.choice(cases) for _ in range(2)) if generator.random() < 0.2 else generator.choice(cases)
        )
        text = "".join(c if generator.random() < 0.97 else generator.choice("0123456789 .-@") for c in text)
        for kind, rules in pii.RULES.items():
            without = text
            for rule in rules:
                without = pii._replace(without, kind, rule, [])
            assert pii.redact(text, (kind,))[0] == without


@pytest.mark.parametrize("kind", ["card", "iban"])
def test_a_wrong_digit_is_no_number(kind: str) -> None:
    for case in FOUND[kind].split():
        for place in (place for place, c in enumerate(case) if c.isdigit()):
            other = case[:place] + str((int(case[place]) + 1) % 10) + case[place + 1 :]
            assert kind not in [finding.kind for finding in pii.redact(other, (kind,))[1]], other


def test_every_country_has_a_length_that_the_pattern_takes() -> None:
    for country, length in IBAN_LENGTHS.items():
        account = "1" * (length - 4)
        check = 98 - int("".join(str(int(c, 36)) for c in f"{account}{country}00")) % 97
        assert pii.redact(f"to {country}{check:02d}{account}.")[0] == "to [iban]."


PEER = """
import json, sys
from datatrove.pipeline.formatters.pii import PIIFormatter
formatter = PIIFormatter()
for line in sys.stdin:
    found = []
    for kind, replacer in (("email", formatter.emails_replacer), ("ip", formatter.ip_replacer)):
        for match in replacer.regex.finditer(json.loads(line)):
            if replacer.validator is None or replacer.validator(match[0]):
                found.append([kind, match[0]])
    print(json.dumps(found))
"""
# What datatrove replaces and this stage doesn't: part of a longer number, a version, multicast (224 to 239), no address
# of a person, characters that mail allows and people don't use (#, =, /, |, $), a domain that is a version.
PEER_ONLY = r"(?:git@|.*[#$=/|'\[]|.*@[\d.]+$|.*\.(?:svg|utf8|UTF-8)$|2(?:2[4-9]|3\d)\.)"


def test_the_peer_finds_the_same_addresses_but_for_the_differences_in_the_docs() -> None:
    python = os.environ.get("TRAINYARD_PEERS_PYTHON") or str(ROOT / ".venv-peers" / "bin" / "python")
    if not Path(python).exists():
        pytest.skip(
            "no peers' environment: set TRAINYARD_PEERS_PYTHON, or make .venv-peers from bench/requirements.lock"
        )
    library = Path(sysconfig.get_paths()["stdlib"])
    texts = [
        path.read_text("utf-8", "ignore") for path in sorted(library.glob("*.py")) + sorted(library.glob("email/*.py"))
    ]
    packages = Path(sysconfig.get_paths()["purelib"])
    texts += [path.read_text("utf-8", "ignore") for path in sorted(packages.glob("*dist-info/METADATA"))]
    lines = "\n".join(map(json.dumps, texts))
    answer = subprocess.run([python, "-c", PEER], input=lines, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr[-2000:]
    shared = 0
    for text, line in zip(texts, answer.stdout.splitlines(), strict=True):
        ours = {(finding.kind, finding.text) for finding in pii.redact(text, ("email", "ip"))[1]}
        theirs = {(kind, found) for kind, found in json.loads(line)}
        shared += len(ours & theirs)
        for kind, found in theirs - ours:
            explained = re.match(PEER_ONLY, found) if kind == "email" else _no_address(text, found)
            assert explained or any(other in found for _, other in ours), (kind, found)
        for kind, found in ours - theirs:
            assert (
                ":" in found or "%40" in found or not found.isascii() or any(found in other for _, other in theirs)
            ), (kind, found)
    assert shared > 150


def _no_address(text: str, found: str) -> bool:
    """Every place of it is inside a longer number or name, after a word for versions or sections, or multicast."""
    if re.match(r"2(?:2[4-9]|3\d)\.", found):
        return True
    places = [match.start() for match in re.finditer(re.escape(found), text)]
    longer = [
        re.search(r"[\w.]$|[A-Za-z]-$|[=<>~!]= ?$", text[:at])
        or re.match(r"\w|\.\d|-[A-Za-z]", text[at + len(found) :])
        for at in places
    ]
    numbered = [re.search(r"(?i)(?:v|ver|version|release|section|sec|figure|§)\W{0,5}$", text[:at]) for at in places]
    return all(one or other for one, other in zip(longer, numbered, strict=True))
