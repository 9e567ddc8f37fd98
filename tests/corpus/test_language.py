"""Language identification against py3langid itself, of whose model it is the compiled form."""

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from py3langid.langid import MODEL_FILE, LanguageIdentifier

from stages.corpus.screening import language
from stages.corpus.screening.language import LanguageParams

TEXTS = {
    "en": "The river runs past the old mill and under the bridge, where the children of the village fish.",
    "de": "Der Fluss fließt an der alten Mühle vorbei, wo die Kinder des Dorfes fischen, und niemand weiß warum.",
    "fr": "La rivière passe devant le vieux moulin et sous le pont, où les enfants du village vont pêcher.",
    "es": "El río pasa junto al viejo molino y bajo el puente, donde pescan los niños del pueblo.",
    "ru": "Река течёт мимо старой мельницы и под мостом, где ловят рыбу деревенские дети.",
    "zh": "河水流过古老的磨坊，从桥下穿过，村里的孩子们在那里钓鱼。",
    "ja": "川は古い水車小屋の前を流れ、橋の下をくぐり、村の子供たちはそこで釣りをします。",
    "ar": "يمر النهر بجانب الطاحونة القديمة وتحت الجسر حيث يصطاد أطفال القرية السمك.",
    "pl": "Rzeka płynie obok starego młyna i pod mostem, gdzie łowią ryby dzieci z wioski.",
    "fi": "Joki virtaa vanhan myllyn ohi ja sillan alta, missä kylän lapset kalastavat.",
}


@pytest.fixture(scope="module")
def peer() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def agrees(peer: LanguageIdentifier, text: str) -> None:
    code, confidence = language.identify(text, 1_000_000)
    expected, probability = peer.classify(text)
    if code == "und":  # nothing to go by: the peer's best label is hardly above chance
        assert probability <= 5 / len(peer.labels)
        return
    assert confidence == pytest.approx(probability, abs=1e-3)
    assert code == expected or peer.rank(text)[1][1] == pytest.approx(probability, abs=1e-3)  # a tie of the peer's


@pytest.mark.parametrize("code", TEXTS)
def test_languages_are_identified_with_the_confidence_of_the_peer(peer: LanguageIdentifier, code: str) -> None:
    assert language.identify(TEXTS[code], 1000)[0] == code
    agrees(peer, TEXTS[code])
    agrees(peer, TEXTS[code].upper())


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=60) | st.text("abcdefgh \u0301éß", max_size=60))
def test_any_text_gets_the_verdict_of_the_peer(peer: LanguageIdentifier, text: str) -> None:
    agrees(peer, text)


def test_mixed_and_real_texts_get_the_verdict_of_the_peer(peer: LanguageIdentifier) -> None:
    generator = random.Random(1)
    for _ in range(50):
        agrees(peer, " ".join(generator.choice(list(TEXTS.values())) for _ in range(3)))
    for path in sorted(Path(__file__).parent.glob("*.py")):
        agrees(peer, path.read_text())


def test_no_features_no_language_and_the_next_text_is_not_affected() -> None:
    before = language.identify(TEXTS["fr"], 1000)
    assert language.identify("", 1000) == ("und", 0.0)
    assert language.identify("\x00\x01", 1000) == ("und", 0.0)
    assert language.identify(TEXTS["fr"], 1000) == before


def test_the_middle_of_a_text_is_looked_at() -> None:
    menu = " ".join(["Startseite Über uns Anmelden Datenschutz Impressum"] * 5)
    assert language.identify(f"{menu} {TEXTS['en'] * 3} {menu}", len(TEXTS["en"]))[0] == "en"


def test_only_sure_verdicts_on_long_texts_count() -> None:
    params = LanguageParams(
        keep={"default": ["en"], "all": []}, sample_characters=500, min_characters=50, min_confidence=0.5, max_drop=0.5
    )
    assert not language.judge(TEXTS["de"], "web", params).stays
    assert language.judge(TEXTS["en"], "web", params).stays
    assert language.judge(TEXTS["de"], "all", params).stays
    assert language.judge(TEXTS["de"][:40], "web", params).stays
    assert language.judge(TEXTS["de"], "web", params.model_copy(update={"min_confidence": 1.0})).stays
