"""Language identification with py3langid (naive Bayes over byte n-grams; Lui & Baldwin 2012, the langid.py model)."""

from functools import cache
from typing import Any

from py3langid.langid import MODEL_FILE, LanguageIdentifier


@cache
def _identifier() -> Any:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def identify(text: str, characters: int) -> tuple[str, float]:
    """ISO 639-1 code and confidence (0..1) of the middle `characters` of a text, where menus and footers are rare.

    Text without a feature of the model has the code "und" and confidence 0.
    """
    start = max(0, (len(text) - characters) // 2)
    language, confidence = _identifier().classify(text[start : start + characters])
    # A posterior this close to uniform (two spellings of a code count as one) means that nothing was recognised.
    return ("und", 0.0) if confidence <= 4 / len(_identifier().labels) else (language, float(confidence))
