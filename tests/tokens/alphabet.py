"""Texts that break tokenizers: curated, and a strategy for hypothesis."""

from hypothesis import strategies as st

CURATED = [
    "", " ", "  ", "\n", "\n\n\t \r\n", " \n ", "a \n\n  b", "x   ", "\t\tx", "\r", " \r x", "a" * 5000,
    " " * 3000 + "x",
    "1" * 3000, "\n" * 999 + " 7", "ab" * 700, "👩🏽‍🚀👨‍👩‍👧‍👦🇫🇷", "e\u0301 é a\u0300\u0316x", "\u202eright\u202c",
    "\x00\x01\x7f\x1c\x1d\x1e\x1f", "a\x85b\x85\x85c \x85 d", "a\u00a0b \u00a0c\u00a0", "ﷺ \ufeff\u200b\u200d\u2060",
    "<|end|><|bos|> <|pad|>", "１２３ ½ ٣٤ ⅷ ㉐ 一二三", "\U0010ffff\U000e0001 \ue000",
    "don't DON'T I'LL we'Ve 'tis 'ſ 'ſt ''s",
    "o'clock 'sam 'll'll '", "' s",
    "x'ſt a'ſ b'S'T c'Sam d'LLama e'Re f'l g'V", "!'s ?'re 're", "def f(x):\n\treturn x  # ok\n", "\ud7ff\ue000",
    "ąęłżź ΑΒΓ кириллица हिन्दी ไทย 한국어 日本語テキスト、中文。",
    "\u0378\u0379 \U00011de3 \U00016ff4\U00032000 x\u0558y",
    "   leading", "trailing   ", "tab\t \tmix \t\n", "3.14159,2.71828 1e-10 0xFF 12345678901",
    "\u2028\u2029 \u3000x\u1680",
    "ab-cd_ef/gh\\ij...!!! ???\n\n\nNext", "/*\r\n * x\r\n */", "a\u0085 b", " \u00a0a", "\u00a0 a", "  9", " 9 99",
]  # fmt: skip

SPECIAL = list("  \n\r\t'\u0085\u00a0\u2003\u3000\u200d\u0301sStTrReEvVmMlLdDſab019½٣,.!_-é語👩🇫\u0378\U00016ff4")

texts = st.one_of(
    st.text(max_size=60),
    st.text(alphabet=st.sampled_from(SPECIAL), max_size=60),
    st.lists(
        st.builds(lambda one, times: one * times, st.sampled_from(SPECIAL), st.integers(1, 9)), max_size=20
    ).map("".join),
)  # fmt: skip
