"""The screen as a whole: the order of its rules, what it writes, and what it counts on the planted cases."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from stages.base import artifacts, schemas
from stages.base.errors import ParamError
from stages.base.params import parse
from stages.base.tables import read_table, write_table
from stages.corpus import screen as module
from stages.corpus.classifiers.rater import Rater
from stages.corpus.screen import Context, ScreenParams, screen
from stages.corpus.screening import undesirable
from stages.corpus.screening.address_lists import Addresses, Blocklist, Hosts
from stages.corpus.screening.content_model import ContentModel
from stages.corpus.screening.figures import histograms, legality_record, metrics_of
from stages.corpus.screening.legality import Legality
from stages.corpus.screening.plants import Plants, planted_metrics
from stages.corpus.screening.robots_table import RobotsTable
from stages.corpus.sources.robots import ROBOTS
from tests.corpus.documents import planted, prose, settings, table

ENGLISH = (
    "The river runs past the old mill and under the bridge, where the children of the village fish. "
    "Nobody remembers who built the mill, but the records of the parish mention it more than three hundred years ago."
)
GERMAN = (
    "Der Fluss fließt an der alten Mühle vorbei und unter der Brücke hindurch, wo die Kinder des Dorfes fischen. "
    "Niemand weiß mehr, wer die Mühle gebaut hat, aber die Bücher der Gemeinde erwähnen sie seit langem."
)
SPAM = "Play at our casino. Free spins, a welcome bonus and a jackpot: bet now, click here and make money. " * 3
VALUES = settings(
    """
    max_drop: 0.9
    lists: lists
    legality:
      denied_licences: [CC-BY-NC]
      unknown_licence: drop
      opt_out: drop
      honoured_signals: [meta:noai, robots.txt]
      robots_agents: [GPTBot]
    language: {keep: {default: [en]}, sample_characters: 1000, min_characters: 100, min_confidence: 0.3, max_drop: 0.9}
    undesirable:
      max_density: 25.0
      min_terms: 2
      far: 2.0
      max_examples: 300
      negatives_per_positive: 3.0
      max_probability: 0.5
      min_examples: 10
      folds: 3
      feature_bits: 12
      characters: 2000
      inverse_penalty: 1.0
    pii: [key, email, ip, card, iban, phone]
    """
)
PARAMS = parse("corpus.screen", VALUES, ScreenParams)
WALLED = {"host": "walled.invalid", "text": "User-agent: GPTBot\nDisallow: /"}


def context(plants: pa.Table | None = None, params: ScreenParams = PARAMS) -> Context:
    """Without a classifier."""
    legality = Legality(
        params.legality,
        ("cc-by-nc",),
        Addresses([], []),
        RobotsTable([pa.Table.from_pylist([WALLED], schema=ROBOTS)], ["GPTBot"]),
    )
    blocklist = Blocklist(Hosts(["bad.invalid"]), frozenset({"casino"}))
    model = ContentModel(Rater(0.0, [], []), params.undesirable, 1)
    return Context(params, blocklist, legality, model, Plants.of(planted([]) if plants is None else plants))


def test_density_is_of_weights_a_thousand_words() -> None:
    found = undesirable.judge("casino " + "word " * 99)
    assert found == ("gambling", 30.0, 1)
    assert undesirable.judge("a plain text").density == 0


@pytest.mark.parametrize("category", undesirable.TERMS)
def test_every_term_is_met_as_whole_words_only(category: str) -> None:
    for term, weight in undesirable.TERMS[category].items():
        for text in (f"So, {term.upper()}! Yes", f"{term}", f"({term})"):
            found = undesirable.judge(text)
            assert found.density >= 1000 * weight / max(1, len(undesirable.WORD.findall(text))), term
        inside = undesirable.judge(f"x{term}x")
        assert inside.category != category or inside.terms == 0 or inside.density < 1000 * weight


def test_each_rule_names_itself_in_this_order() -> None:
    documents = table(
        [
            {"text": ENGLISH + " Mail jo@mail.example.org."},
            {"text": ENGLISH, "url": "https://bad.invalid/", "licence": "cc-by-nc-4.0"},
            {"text": GERMAN, "licence": "cc-by-nc-4.0"},
            {"text": ENGLISH, "licence": "CC-BY-NC-4.0", "opt_out": "meta:noai meta:noindex"},
            {"text": ENGLISH, "url": "https://walled.invalid/x"},
            {"text": ENGLISH, "licence": ""},
            {"text": GERMAN},
            {"text": SPAM},
        ]
    )
    kept, drops, facts = screen(documents, context())
    assert kept["language"].to_pylist() == ["en"]
    assert kept["text"].to_pylist() == [ENGLISH + " Mail [email]."]
    assert kept["text_hash"][0] != documents["text_hash"][0]
    assert list(zip(drops["rule"].to_pylist(), drops["reason"].to_pylist(), strict=True)) == [
        ("url", "blocked_host"),
        ("licence", "denied_licence"),
        ("opt_out", "meta:noai"),
        ("opt_out", "robots.txt"),
        ("licence", "unknown_licence"),
        ("language", "language_de"),
        ("undesirable", "gambling"),
    ]
    record = legality_record(facts)
    assert record["licences"]["cc-by-nc-4.0"] == {"documents": 2, "dropped": 1}
    assert record["licences"]["unknown"] == {"documents": 1, "dropped": 1}
    assert record["signals"] == {
        "meta:noai": {"documents": 1, "dropped": 1},
        "meta:noindex": {"documents": 1, "dropped": 0},
        "robots.txt:gptbot": {"documents": 1, "dropped": 1},
    }
    assert record["robots"] == {
        "disallowed": {"documents": 1, "dropped": 1},
        "unknown": {"documents": 7, "dropped": 0},
    }
    assert metrics_of(facts) == {"language_de": 2, "language_en": 6}


def test_what_is_known_of_a_kept_document_goes_on_with_it() -> None:
    params = PARAMS.model_copy(update={"legality": PARAMS.legality.model_copy(update={"opt_out": "keep"})})
    documents = table([{"text": ENGLISH, "url": "https://walled.invalid/x", "opt_out": "meta:noai"}])
    kept, _, facts = screen(documents, context(params=params))
    assert kept["opt_out"].to_pylist() == ["meta:noai robots.txt:gptbot"]
    assert legality_record(facts)["signals"]["meta:noai"] == {"documents": 1, "dropped": 0}


def test_recall_and_precision_count_against_the_plants() -> None:
    before = table(
        [
            {"text": f"{ENGLISH} a@mail.example.org and b@mail.example.org"},
            {"text": f"{ENGLISH} 415 555"},
            {"text": f"{ENGLISH} c@mail.example.org", "source": "without_plants"},
            {"text": SPAM},
            {"text": SPAM, "url": "https://a.bad.invalid/"},
            {"text": ENGLISH + " Buy our fine new hats.", "url": "https://hats.invalid/"},
            {"text": ENGLISH, "url": "https://c.bad.invalid/"},
            {"text": ENGLISH, "url": "https://m.invalid/", "opt_out": "meta:noai"},
        ]
    )
    urls = before["url"].to_pylist()
    truth = planted(
        [
            {"url": urls[0], "kind": "pii_email", "payload": "a@mail.example.org"},
            {"url": urls[1], "kind": "pii_phone", "payload": "415 555"},
            {"url": urls[1], "kind": "pii_phone", "payload": "never extracted"},
            {"url": urls[3], "kind": "spam", "payload": "keyword"},
            {"url": urls[4], "kind": "spam", "payload": "url"},
            {"url": urls[5], "kind": "spam", "payload": "classifier"},
            {"url": urls[7], "kind": "opt_out", "payload": "meta:noai"},
            {"url": "https://never.invalid/", "kind": "licence", "payload": "CC-BY-NC-4.0"},
        ]
    )
    metrics = planted_metrics(screen(before, context(truth)).facts)
    expected = {
        "pii_email_planted": 1, "pii_email_recall": 1.0, "pii_email_replaced": 3, "pii_email_precision": 0.5,
        "pii_phone_planted": 1, "pii_phone_recall": 0.0, "pii_phone_replaced": 0, "pii_phone_precision": None,
        "pii_recall": 0.5, "pii_key_recall": None, "spam_url_recall": 1.0, "spam_keyword_recall": 1.0,
        "spam_classifier_recall": 0.0, "spam_recall": 2 / 3, "undesirable_precision": 2 / 3,
        "undesirable_classifier_precision": None, "opt_out_recall": 1.0, "licence_planted": 0, "licence_recall": None,
    }  # fmt: skip
    assert {name: metrics[name] for name in expected} == expected


def test_figures_of_batches_add_up_to_those_of_the_whole() -> None:
    documents = table([{"text": [ENGLISH, GERMAN, SPAM, f"{ENGLISH} 8.8.8.8"][n % 4]} for n in range(40)])
    whole = screen(documents, context())
    parts = [screen(documents.slice(start, 7), context()) for start in range(0, 40, 7)]
    assert pa.concat_tables(part.kept for part in parts).drop(["quality"]) == whole.kept.drop(
        ["quality"]
    )  # nan is not nan
    assert pa.concat_tables(part.drops for part in parts) == whole.drops
    summed: dict[str, float] = {}
    for part in parts:
        for name, count in part.facts.items():
            summed[name] = summed.get(name, 0) + count
    assert summed == whole.facts


def test_a_source_without_settings_is_an_error() -> None:
    only_atlas = PARAMS.model_copy(update={"language": PARAMS.language.model_copy(update={"keep": {"atlas": ["en"]}})})
    with pytest.raises(ParamError, match="neither `made_up` nor `default`"):
        screen(table([{"text": ENGLISH}]), context(params=only_atlas))


def crawl() -> pa.Table:
    words = ["reward", "prize", "coins", "claim", "tonight", "payout", "lucky", "instant", "sofa", "midnight"]
    rows: list[dict[str, Any]] = [
        {"text": f"{ENGLISH} {prose(40, n, words)}", "url": f"https://a{n}.listed.invalid/"} for n in range(30)
    ]
    rows += [{"text": f"{ENGLISH} {prose(40, 100 + n, words)}", "url": f"https://fine.invalid/{n}"} for n in range(6)]
    rows += [{"text": f"{ENGLISH} {prose(40, 900 + n)}", "url": f"https://good.invalid/{n}"} for n in range(300)]
    rows += [{"text": f"{ENGLISH} {prose(40, 5000)}", "url": "https://walled.invalid/"}, {"text": GERMAN * 3}]
    return table(rows)


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, workers: int) -> Path:
    """The stage as the pipeline runs it."""
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TRAINYARD_WORKERS", str(workers))
    Path("params.yaml").write_text(yaml.safe_dump({"corpus": {"seed": 1, "screen": VALUES}}))
    Path("lists").mkdir()
    Path("lists/blocked_hosts.txt").write_text("0.0.0.0 listed.invalid\n")
    write_table(module.DOCUMENTS, crawl(), schemas.DOCUMENT)
    write_table(artifacts.ROBOTS, pa.Table.from_pylist([WALLED], schema=ROBOTS), ROBOTS)
    write_table(artifacts.PLANTED, planted([]), schemas.PLANTED)
    module.main()
    return folder / "data/corpus/screen"


def test_the_stage_writes_the_same_bytes_with_two_workers_and_its_figures_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = run(tmp_path / "one", monkeypatch, 1), run(tmp_path / "two", monkeypatch, 2)
    files = sorted(path.name for path in one.iterdir())
    assert files == [
        "documents.parquet", "drops.parquet", "histograms.json", "legality.json", "metrics.json", "record.json",
    ]  # fmt: skip
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in files)
    kept = read_table(one / "documents.parquet", schemas.DOCUMENT)
    drops = read_table(one / "drops.parquet", schemas.DROP)
    found = [json.loads((one / f"{name}.json").read_text()) for name in ("metrics", "histograms", "legality")]
    metrics, charts, legality = found
    reasons = drops["reason"].to_pylist()
    assert reasons == ["blocked_host"] * 30 + ["classifier"] * 6 + ["robots.txt", "language_de"]
    assert metrics["documents_out"] == kept.num_rows == 300
    assert metrics["undesirable_positives"] == metrics["undesirable_positives_url"] == 30
    for name, judged, dropped in (("undesirable_probability", 306, 6), ("language_confidence", 338, 1)):
        chart = charts[name]
        assert len(chart["edges"]) == 21 and sum(chart["counts"]["made_up"]) == judged
        assert sum(chart["dropped"]["made_up"]) == dropped
        assert all(n <= of for n, of in zip(chart["dropped"]["made_up"], chart["counts"]["made_up"], strict=True))
    bound = charts["undesirable_probability"]["threshold"]
    above = charts["undesirable_probability"]["counts"]["made_up"][int(bound * 20) :]
    assert sum(above) == 6
    assert {name: sum(row["documents"] for row in part.values()) for name, part in legality.items()} == {
        "licences": 338, "signals": 1, "robots": 338,
    }  # fmt: skip
    record = json.loads((one / "record.json").read_text())
    assert "lists" in record["inputs"] and artifacts.ROBOTS in record["inputs"]


def test_a_multilingual_source_passes_by_a_bound_of_its_own_and_the_message_names_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    english = [{"text": f"{ENGLISH} {prose(40, n)}", "source": "own"} for n in range(300)]
    many = [{"text": f"{GERMAN * 3} {n}" if n % 10 else ENGLISH, "source": "crawl"} for n in range(200)]
    monkeypatch.chdir(tmp_path)
    Path("lists").mkdir()
    write_table(module.DOCUMENTS, table([*english, *many]), schemas.DOCUMENT)
    write_table(artifacts.ROBOTS, ROBOTS.empty_table(), ROBOTS)
    write_table(artifacts.PLANTED, planted([]), schemas.PLANTED)

    def screened(bound: float) -> None:
        language = VALUES["language"] | {"max_drop": bound}
        values = VALUES | {"max_drop": 0.01, "language": language}
        Path("params.yaml").write_text(yaml.safe_dump({"corpus": {"seed": 1, "screen": values}}))
        module.main()

    with pytest.raises(SystemExit):
        screened(0.5)  # 180 of 500 in all, but 180 of 200 of one source
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert "180 of 200 rows of source `crawl` dropped (90.0%)" in told
    assert "`corpus.screen.language.max_drop` allows 50.0%" in told and "language_de" in told
    assert not Path("data/corpus/screen").exists()
    screened(0.95)
    assert read_table("data/corpus/screen/documents.parquet", schemas.DOCUMENT).num_rows == 320


def test_without_a_classifier_its_histogram_is_left_out() -> None:
    facts = screen(table([{"text": ENGLISH}]), context()).facts
    assert list(histograms(facts, {"language_confidence": 0.3})) == ["language_confidence"]
