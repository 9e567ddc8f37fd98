"""Pages of claims: they say what the JSON says, show every run, and are the same bytes each time."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.base.contracts.claim import Claim, Outlook
from stages.base.errors import InputError
from stages.publishing import board, report
from stages.publishing.claims.charts import Strip, runs_chart, seed_effects, strip_chart
from stages.publishing.claims.figures import places, probability, shown
from stages.publishing.claims.markdown import claim_markdown
from stages.publishing.claims.publish import FOLDER, read_claim, write_claim, write_suite
from stages.publishing.html.site import SiteParams
from tests.contracts import claims
from tests.publishing.html_page import Page

SITE = SiteParams(title="Trainyard", pages=["leaderboard", "corpus", "claims"])
HOSTILE = '<script>alert("x")</script> | [a](javascript:b) `c`'


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def page_of(claim: Claim) -> Page:
    write_claim(claim, SITE)
    return Page((FOLDER / f"{claim.name}.html").read_text(encoding="utf-8"))


@pytest.mark.parametrize("example", claims.EXAMPLES)
def test_a_page_is_whole_and_shows_every_run(example: Callable[..., Claim]) -> None:
    claim = example()
    page = page_of(claim)
    assert not page.open and not [tag for tag, _ in page.tags if tag in ("script", "img", "iframe")]
    for words in (claim.claim, claim.verdict.sentence, claim.verdict.verdict, claim.rule, claim.digest, "tags.claim"):
        assert " ".join(words.split()) in page.text, words
    marks = [attributes for tag, attributes in page.tags if "point" in (attributes.get("class") or "")]
    runs = [run for run in claim.runs if run.status == "finished"]
    assert len(marks) >= sum(len(run.points) or 1 for run in runs), "dots, not only means"
    policy = next(one for tag, one in page.tags if one.get("http-equiv") == "Content-Security-Policy")
    assert (policy["content"] or "").startswith("default-src 'none'")
    identifiers = {attributes.get("id") for _, attributes in page.tags}
    links = {attributes.get("href") or "" for tag, attributes in page.tags if tag == "a"}
    assert links - {f"#{one}" for one in identifiers} == {f"../{name}.html" for name in ("index", *SITE.pages)}


def test_a_seed_that_failed_is_named() -> None:
    page = page_of(claims.trend())
    assert "n4000, seed 3: sft: killed for memory" in page.text and "n1000, seed 3: not run yet" in page.text


def test_a_deviation_shows_both_versions() -> None:
    edited = {"digest": "ef" * 32, "declaration": claims.DECLARATION.replace("seeds: 3", "seeds: 30")}
    verdict = claims.claim().verdict.model_copy(update={"verdict": "deviated"})
    page = page_of(claims.claim(deviation=edited, verdict=verdict))
    assert "seeds: 3 " in page.text and "seeds: 30" in page.text and "ef" * 32 in page.text


def test_words_from_outside_stay_words() -> None:
    claim = claims.claim(claim=HOSTILE, source=HOSTILE, question=HOSTILE, declaration=f"# {HOSTILE}\n# ```\nx: 1\n")
    page = page_of(claim)
    assert page.text.count('<script>alert("x")</script>') >= 3, "as text"
    text = claim_markdown(claim)
    prose = re.sub(r"(`{3,})yaml\n.*?\n\1", "", text, flags=re.DOTALL)
    assert "<script" not in prose.replace("\\<", "") and "](javascript" not in prose.replace("\\]", "")
    assert "````yaml" in text, "a fence that the declaration can't close"


def test_the_suite_groups_by_topic_and_counts_under_holm() -> None:
    suite = [example() for example in claims.EXAMPLES]
    write_suite(suite, {"dpo_rate": 0.06, "sft_size": 0.0003, "lstm": 0.002}, [], SITE)
    page = Page(Path("reports/claims.html").read_text(encoding="utf-8"))
    assert not page.open
    for words in ("3 claims, put to the test", "supported 2", "undecided 1", "3 of the claims have a test",
                  "3 of them reach their alpha", "Holm 1979), 2 do", "2.40 ×", "Holm .060"):  # fmt: skip
        assert words in page.text, words
    links = {attributes.get("href") for _, attributes in page.tags}
    assert {f"claims/{claim.name}.html" for claim in suite} <= links
    assert page.text.index("An LSTM") < page.text.index("A higher learning rate"), "model before alignment"
    shapes = Path("reports/claims.html").read_text().split('class="mark-of ')[1:]
    drawn = {one.split('"')[0]: one.split("aria-hidden")[1].split("</svg>")[0] for one in shapes}
    assert len(set(drawn.values())) == len(drawn) == 2, "each verdict has a shape of its own"


def test_what_is_open_says_how_many_seeds_it_takes() -> None:
    asked = claims.claim().verdict.model_copy(update={"verdict": "undecided"})
    outlooks = {"few": Outlook(visible=2.25, gap=2.16, seeds=1200), "items": Outlook(visible=2.25, gap=0.3, seeds=None)}
    suite = [claims.claim(name, verdict=asked, outlook=one) for name, one in outlooks.items()]
    write_suite([*suite, claims.claim("decided", outlook=outlooks["few"])], {}, [], SITE)
    page = Page(Path("reports/claims.html").read_text(encoding="utf-8"))
    assert not page.open and "few 5 seeds × 360 items 2.2 2.2 1 200 seeds" in " ".join(page.text.split())
    text = Path("reports/claims.md").read_text(encoding="utf-8")
    assert "| items | 5 seeds × 360 items | 0.3 | 2.2 | more items |" in text
    assert "decided |" not in text.partition("What is open")[2].partition("##")[0]
    assert "21 min of CPU time in all" in text
    write_suite([claims.claim()], {}, [], SITE)
    assert "What is open" not in Path("reports/claims.html").read_text(encoding="utf-8")


def test_the_front_page_links_to_claims_where_params_say_so(project: Path, set_param: Callable[..., None]) -> None:
    for pages, linked in ((["leaderboard", "claims"], True), (["leaderboard"], False)):
        set_param("publishing.site.pages", pages)
        board.main()
        report.main()
        links = {one.get("href") for _, one in Page(Path("reports/index.html").read_text(encoding="utf-8")).tags}
        assert ("claims.html" in links) is linked


def test_twice_gives_the_same_bytes() -> None:
    def written() -> dict[str, bytes]:
        suite = [example() for example in claims.EXAMPLES]
        for claim in suite:
            write_claim(claim, SITE)
        write_suite(suite, {}, [], SITE)
        return {str(path): path.read_bytes() for path in sorted(Path("reports").rglob("*.*"))}

    assert written() == written() and len(written()) == 3 * 3 + 2


@pytest.mark.parametrize("example", claims.EXAMPLES)
def test_what_is_written_is_read_again(example: Callable[..., Claim]) -> None:
    write_claim(example(), SITE)
    assert read_claim(example().name) == example()


def test_a_json_of_another_version_is_refused_with_the_remedy() -> None:
    write_claim(claims.claim(), SITE)
    content = json.loads((FOLDER / "dpo_rate.json").read_text())
    (FOLDER / "dpo_rate.json").write_text(json.dumps(content | {"surplus": 1}))
    with pytest.raises(InputError, match=r"dpo_rate\.json: `surplus`: .*trainyard experiment report dpo_rate"):
        read_claim("dpo_rate")


def test_seeds_show_their_own_differences_only_where_they_are_paired() -> None:
    claim = claims.claim()
    assert [effect for _, effect in seed_effects(claim, claim.verdict.comparisons[0])] == pytest.approx(
        [2.7, 1.6, 2.3, 3.1, 1.1]
    )
    assert not seed_effects(claims.claim(pair=["item"]), claim.verdict.comparisons[0])
    assert "thin c0" in runs_chart(claim) and "thin c0" not in runs_chart(claims.claim(pair=["item"]))


def test_a_claim_without_numbers_has_a_page() -> None:
    verdict = claims.claim().verdict.model_copy(
        update={"verdict": "inadmissible", "effect": None, "low": None, "high": None, "p": None, "comparisons": []}
    )
    waiting = [run.model_copy(update={"status": "waiting", "values": {}}) for run in claims.claim().runs]
    arms = [arm.model_copy(update={"metrics": {}}) for arm in claims.claim().arms]
    claim = claims.claim(verdict=verdict, runs=waiting, arms=arms)
    page = page_of(claim)
    assert "inadmissible" in page.text and "svg" in {tag for tag, _ in page.tags}, "the verdict's mark"
    write_suite([claim], {}, [], SITE)


@given(
    values=st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=6),
    ends=st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)),
    name=st.text(min_size=1, max_size=80),
)
def test_any_numbers_and_names_make_a_chart(values: list[float], ends: tuple[float, float], name: str) -> None:
    strip = Strip(name, [(i, v, "") for i, v in enumerate(values)], values[0], *sorted(ends), "note", "c2")
    svg = strip_chart([strip, strip], "label", name, null=0.0, margin=1.0, joined=True)
    assert (
        svg.startswith("<svg ")
        and "nan" not in svg.replace(name, "")
        and svg.count('<circle class="point') == 2 * len(values)
    )


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [(1234.5, 1, "1\u202f234.5"), (-0.25, 2, "−0.25"), (None, 2, "–"), (3.2e12, 0, "3.2T"), (float("nan"), 1, "–")],
)
def test_numbers_are_set_as_tables_set_them(value: float | None, decimals: int, text: str) -> None:
    assert shown(value, decimals) == text


def test_digits_follow_the_spread() -> None:
    assert [places([spread]) for spread in (12.0, 1.2, 0.12, 0.0012, 0.0)] == [0, 1, 2, 4, 3]
    assert [probability(p) for p in (0.0001, 0.0312, 1.0, None)] == ["p < .001", "p = .031", "p = 1.000", ""]
