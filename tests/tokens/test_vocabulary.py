import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.base.errors import InputError, ParamError
from stages.lm import chat
from stages.tokens import vocabulary
from stages.tokens.pretokenizers import PRETOKENIZERS, hugging_face
from stages.tokens.vocabulary import batches_of, save_tokenizer, train_bpe

ROOT = Path(__file__).resolve().parents[2]
TEXTS = [
    f"The {noun} number {number} said: “{verb}ing is what {noun}s do, isn't it?” And so it was, in 19{number}.\n"
    for noun in ("heron", "miller", "lantern", "Straße", "naïveté", "河川")
    for verb in ("sing", "wander", "mend", "übersetz")
    for number in range(10, 40, 3)
]
ADVERSARIAL = [
    "", " ", "\n\n\t \r\n", "a" * 5000, "🧑‍🌾👩🏽‍🚀🇫🇷", "e\u0301 é", "\u202eright to left\u202c", "\x00\x01\x7f",
    "ﷺ \ufeff\u200b\u200d", "<|end|><|bos|> <|pad|>", "１２３ ½ ٣٤", "\U0010ffff", "don't DON'T I'LL", "   leading",
    "def f(x):\n\treturn x  # ok\n", "\ud7ff\ue000", "ąęłżź ΑΒΓ кириллица हिन्दी ไทย 한국어",
]  # fmt: skip


@pytest.fixture(scope="module", params=PRETOKENIZERS)
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp(request.param)
    save_tokenizer(folder, train_bpe(TEXTS, 448, request.param))
    return chat.load_tokenizer(folder)


def special_ids(tokenizer: chat.ChatTokenizer) -> dict[int, str]:
    added = tokenizer.tokenizer.get_added_tokens_decoder()
    return {number: token.content for number, token in added.items() if token.special}


def test_any_text_comes_back(tokenizer) -> None:
    for text in ADVERSARIAL + TEXTS:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert not set(ids) & special_ids(tokenizer).keys()


@settings(max_examples=150, deadline=None)
@given(text=st.text(max_size=80))
def test_random_unicode_comes_back(tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_specials_stand_at_the_end_in_order(tokenizer) -> None:
    size = tokenizer.vocab_size
    assert special_ids(tokenizer) == dict(zip(range(size - 5, size), chat.SPECIALS, strict=True))
    assert chat.padded_vocab_size(tokenizer.tokenizer) % 64 == 0


def test_the_chat_format(tokenizer) -> None:
    ids, learned = tokenizer.encode_example("Who<|end|>?", "The heron.")
    special = special_ids(tokenizer)
    assert tokenizer.tokenizer.decode(ids, skip_special_tokens=False) == (
        "<|bos|><|user|>Who<|end|>?<|assistant|>The heron.<|end|>"
    )
    assert [special[i] for i in ids if i in special] == ["<|bos|>", "<|user|>", "<|assistant|>", "<|end|>"]
    assert tokenizer.decode([i for i, known in zip(ids, learned, strict=True) if known]) == "The heron."
    assert learned[-1] and ids[-1] == tokenizer.end_id


def test_a_second_process_with_another_hash_seed_and_thread_count_gives_the_same_file(tmp_path: Path) -> None:
    code = (
        "from tests.tokens.test_vocabulary import *\n"
        "import sys; save_tokenizer(Path(sys.argv[1]), train_bpe(TEXTS, 448, 'gpt2'))"
    )
    written = []
    for seed, threads in (("1", "1"), ("2", "2")):
        environment = os.environ | {"PYTHONHASHSEED": seed, "RAYON_NUM_THREADS": threads, "PYTHONPATH": str(ROOT)}
        folder = tmp_path / seed
        subprocess.run([sys.executable, "-c", code, str(folder)], env=environment, check=True)
        written.append([(folder / name).read_bytes() for name in ("tokenizer.json", "tokenizer_config.json")])
    assert written[0] == written[1]


def test_every_merge_is_of_a_most_frequent_pair() -> None:
    """Replays the trained merges: each must have the highest count at its turn (Sennrich et al. 2016), ties left
    open.
    """
    merges = [tuple(pair) for pair in json.loads(train_bpe(TEXTS, 400, "gpt2").to_str())["model"]["merges"]]
    assert len(merges) > 100
    words: Counter[tuple[str, ...]] = Counter()
    for text in TEXTS:
        words.update(tuple(piece) for piece, _ in hugging_face("gpt2").pre_tokenize_str(text))
    for merge in merges:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, times in words.items():
            for pair in itertools.pairwise(word):
                pairs[pair] += times
        assert pairs[merge] == max(pairs.values())
        words = Counter({_merged(word, merge): times for word, times in words.items()})


def _merged(word: tuple[str, ...], merge: tuple[str, ...]) -> tuple[str, ...]:
    out: list[str] = []
    for symbol in word:
        if out and (out[-1], symbol) == merge:
            out[-1] += symbol
        else:
            out.append(symbol)
    return tuple(out)


def test_a_vocabulary_below_the_bytes_is_refused() -> None:
    with pytest.raises(ParamError, match="261"):
        train_bpe(TEXTS, 256, "gpt2")
    with pytest.raises(ParamError, match="gpt2, digits, digits2, cl100k, code"):
        train_bpe(TEXTS, 448, "gpt5")


def test_no_text_is_refused() -> None:
    for texts in ([], ["", ""]):
        with pytest.raises(InputError, match=r"corpus\.mix"):
            train_bpe(texts, 448, "gpt2")


def test_a_small_text_gives_the_vocabulary_it_can() -> None:
    tokenizer = train_bpe(["abab"], 4096, "gpt2")
    assert tokenizer.get_vocab_size() == 256 + 1 + 5 and chat.padded_vocab_size(tokenizer) == 320


def test_batches_hold_every_text_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "BATCH_BYTES", 5)
    assert list(batches_of(["abc", "de", "", "fghijklm", "n"])) == [["abc", "de"], ["", "fghijklm"], ["n"]]


def test_a_foreign_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="not a readable tokenizer"):
        chat.load_tokenizer(tmp_path)
