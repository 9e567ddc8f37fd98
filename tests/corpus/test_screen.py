import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.base.errors import ParamError
from stages.base.params import parse
from stages.corpus import language, pii, undesirable
from stages.corpus.screen import ScreenParams, blocked, pii_metrics, screen
from stages.corpus.url import canonical
from tests.corpus.documents import planted, settings, table

ENGLISH = (
    "The river runs past the old mill and under the bridge, where the children of the village fish. "
    "Nobody remembers who built the mill, but the records of the parish mention it more than three hundred years ago."
)
GERMAN = (
    "Der Fluss fließt an der alten Mühle vorbei und unter der Brücke hindurch, wo die Kinder des Dorfes fischen. "
    "Niemand weiß mehr, wer die Mühle gebaut hat, aber die Bücher der Gemeinde erwähnen sie seit langem."
)
PARAMS = parse(
    "corpus.screen",
    settings(
        """
        max_drop: 0.9
        blocked_hosts: [bad.invalid]
        blocked_url_words: [casino]
        denied_licences: [CC-BY-NC-4.0]
        unknown_licence: drop
        language: {keep: {default: [en]}, sample_characters: 1000, min_characters: 100, min_confidence: 0.3}
        undesirable: {max_density: 25.0, min_terms: 2}
        pii: [key, email, ip, phone]
        """
    ),
    ScreenParams,
)


@pytest.mark.parametrize(
    ("kind", "secret"),
    [
        ("email", "jo.smith+lists@mail.example.co.uk"),
        ("ip", "91.216.17.156"),
        ("ip", "2001:db8:85a3::8a2e:370:7334"),
        ("phone", "+1 (555) 401-1354"),
        ("phone", "+49 30 901820 55"),
        ("phone", "(415) 555-2671"),
        ("phone", "415-555-2671"),
        ("key", "AKIAIOSFODNN7EXAMPLE"),
        ("key", "sk-nDsaY2RqX9VwqfLQdlyKHsDmHoYD3qDL"),
        ("key", "ghp_16C7e42F292c6912E7710c838347Ae178B4a"),
    ],
)
def test_personal_data_is_replaced_whole(kind: str, secret: str) -> None:
    text, findings = pii.redact(f"Write to {secret}, or wait.")
    assert text == f"Write to [{kind}], or wait."
    assert findings == [pii.Finding(kind, secret)]


@pytest.mark.parametrize(
    "text",
    [
        "Listen on 127.0.0.1, 0.0.0.0 or 192.168.1.17.",
        "x = 3.14159265 + 1e-10 - 0.123456789012",
        "array([415, 555, 2671])",
        "ISBN 978-0-387-31073-2, pages 100-1234, doi 10.1000/182",
        "@decorator def f(a: int) -> A @ B.T",
        "2026-03-01 12:34:56 slice a[1:2, ::3]",
        "std::vector<int> and a::b",
    ],
)
def test_numbers_and_code_stay(text: str) -> None:
    assert pii.redact(text) == (text, [])


@given(st.text(alphabet="ab @.+-()0123456789:[]sk_", max_size=80))
def test_redaction_is_idempotent_and_reports_what_it_took(text: str) -> None:
    once, findings = pii.redact(text)
    assert pii.redact(once)[0] == once
    assert bool(findings) == (once != text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("http://www.Example.invalid:80/a/", "https://example.invalid/a"),
        ("https://example.invalid/a/./b/../c/index.html#top", "https://example.invalid/a/c"),
        ("https://example.invalid/?b=2&a=1&utm_source=mail", "https://example.invalid/?a=1&b=2"),
        ("https://example.invalid/%7euser", "https://example.invalid/~user"),
    ],
)
def test_spellings_of_one_url_agree(one: str, other: str) -> None:
    assert canonical(one) == canonical(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://example.invalid/a?page=1", "https://example.invalid/a?page=2"),
        ("https://example.invalid/A", "https://example.invalid/a"),
        ("https://example.invalid/", "https://example.invalid:8080/"),
    ],
)
def test_different_pages_stay_apart(one: str, other: str) -> None:
    assert canonical(one) != canonical(other)


@given(st.text(max_size=60))
def test_canonical_takes_anything(url: str) -> None:
    assert isinstance(canonical(url), str)


def test_blocklist_matches_whole_hosts_and_words() -> None:
    hosts, words = PARAMS.blocked_hosts, PARAMS.blocked_url_words
    assert blocked("https://www.bad.invalid/x", hosts, words) == "blocked_host"
    assert blocked("https://notbad.invalid/x", hosts, words) == ""
    assert blocked("https://good.invalid/best-casino/now", hosts, words) == "blocked_url_word"
    assert blocked("https://good.invalid/casinos", hosts, words) == ""


def test_language_is_identified() -> None:
    assert language.identify(ENGLISH, 1000)[0] == "en"
    assert language.identify(GERMAN, 1000)[0] == "de"
    assert language.identify("", 1000) == ("und", 0.0)


def test_density_is_of_weights_a_thousand_words() -> None:
    found = undesirable.judge("casino " + "word " * 99)
    assert found == ("gambling", 30.0, 1)
    assert undesirable.judge("a plain text").density == 0


def test_each_rule_names_itself_and_licences_are_counted() -> None:
    spam = "Play at our casino. Free spins, a welcome bonus and a jackpot: bet now, click here and make money. " * 3
    documents = table(
        [
            {"text": ENGLISH + " Mail jo@mail.example.org."},
            {"text": ENGLISH, "url": "https://bad.invalid/"},
            {"text": ENGLISH, "licence": "cc-by-nc-4.0"},
            {"text": ENGLISH, "licence": ""},
            {"text": GERMAN},
            {"text": spam},
        ]
    )
    kept, drops, findings, licences = screen(documents, PARAMS)
    assert kept["language"].to_pylist() == ["en"]
    assert kept["text"].to_pylist() == [ENGLISH + " Mail [email]."]
    assert kept["text_hash"][0] != documents["text_hash"][0]
    assert list(zip(drops["rule"].to_pylist(), drops["reason"].to_pylist(), strict=True)) == [
        ("url", "blocked_host"),
        ("licence", "denied_licence"),
        ("licence", "unknown_licence"),
        ("language", "language_de"),
        ("undesirable", "gambling"),
    ]
    assert [len(found) for found in findings.values()] == [1]
    assert licences == {"CC0-1.0": 4, "cc-by-nc-4.0": 1, "unknown": 1}


def test_recall_and_precision_count_against_the_plants() -> None:
    before = table([{"text": f"{ENGLISH} a@mail.example.org and b@mail.example.org"}, {"text": f"{ENGLISH} 415 555"}])
    urls = before["url"].to_pylist()
    truth = planted(
        [
            {"url": urls[0], "kind": "pii", "payload": "a@mail.example.org"},
            {"url": urls[1], "kind": "pii", "payload": "415 555"},
            {"url": urls[1], "kind": "pii", "payload": "never extracted"},
        ]
    )
    after, _, findings, _ = screen(before, PARAMS)
    metrics = pii_metrics(truth, before, after, findings)
    assert metrics["pii_planted"] == 2
    assert metrics["pii_recall"] == 0.5
    assert metrics["pii_email_precision"] == 0.5
    assert metrics["pii_ip_precision"] is None


def test_a_source_without_settings_is_an_error() -> None:
    only_atlas = PARAMS.model_copy(update={"language": PARAMS.language.model_copy(update={"keep": {"atlas": ["en"]}})})
    with pytest.raises(ParamError, match="neither `made_up` nor `default`"):
        screen(table([{"text": ENGLISH}]), only_atlas)
