"""English words and sentences for the web rules: an approximation, by regular expression, of spaCy's rules.

datatrove tokenises with spaCy's blank English pipeline; the rules count words, so thresholds mean the same only if the
tokens are nearly the same. Kept together as spaCy does: dotted names, numbers, snake_case, runs of dots. Split as it
does: hyphenated words, punctuation, the clitics of contractions. Not reproduced: its table of exceptions, URLs,
emoticons.
"""

import re

WORD = re.compile(
    r"\d+(?:[.,:]\d+)*%?"
    r"|\w+?(?=n['’]t\b)|n['’]t\b"  # "do" + "n't"
    r"|\w+(?:\.\w+)*"
    r"|['’](?:s|re|ve|ll|d|m)\b"
    r"|\.{2,}"
    r"|[^\w\s]"
)
# spaCy's sentencizer ends a sentence after a run of these, closing quotes and brackets included.
SENTENCE_END = re.compile(r"[.!?…。！？]+[\"'”’)\]]*(?=\s|$)")


def words(text: str) -> list[str]:
    """Tokens in order, punctuation included; whitespace is no token."""
    return WORD.findall(text)


def sentences(line: str) -> int:
    """Number of sentences of a line; what follows the last end mark counts as one, and no line has fewer than one."""
    end, count = 0, 0
    for match in SENTENCE_END.finditer(line):
        end, count = match.end(), count + 1
    return max(1, count + bool(line[end:].strip()))


# What datatrove (utils/text.py) counts as a symbol in Gopher's rules: ASCII and common Unicode punctuation, and the
# control characters but for tab and line feed.
PUNCTUATION = frozenset(
    "!/—”:％１〈&(、━\\【#%「」，】；+^]~“《„';’{|∶´[=-`*．（–？！：$～«〉,><》)?）。…@_.\"}►»"
    + "".join(map(chr, (*range(0, 9), *range(11, 13), *range(13, 32), *range(127, 160))))
)
# Marks that end a sentence in the scripts of Unicode (property Sentence_Terminal), for FineWeb's line rule.
TERMINAL = tuple(
    chr(c)
    for c in (
        0x21, 0x2E, 0x3F, 0x589, 0x61D, 0x61E, 0x61F, 0x6D4, 0x700, 0x701, 0x702, 0x7F9, 0x837, 0x839, 0x83D,
        0x83E, 0x964, 0x965, 0x104A, 0x104B, 0x1362, 0x1367, 0x1368, 0x166E, 0x1735, 0x1736, 0x17D4, 0x17D5,
        0x17D6, 0x17D9, 0x17DA, 0x1803, 0x1809, 0x1944, 0x1945, 0x1AA8, 0x1AA9, 0x1AAA, 0x1AAB, 0x1B5A, 0x1B5B,
        0x1B5E, 0x1B5F, 0x1B7D, 0x1B7E, 0x1C3B, 0x1C3C, 0x1C7E, 0x1C7F, 0x203C, 0x203D, 0x2047, 0x2048, 0x2049,
        0x2E2E, 0x2E3C, 0x2E53, 0x2E54, 0x3002, 0xA4FF, 0xA60E, 0xA60F, 0xA6F3, 0xA6F7, 0xA876, 0xA877, 0xA8CE,
        0xA8CF, 0xA92F, 0xA9C8, 0xA9C9, 0xAA5D, 0xAA5E, 0xAA5F, 0xAAF0, 0xAAF1, 0xABEB, 0xFE52, 0xFE56, 0xFE57,
        0xFF01, 0xFF0E, 0xFF1F, 0xFF61, 0x10A56, 0x10A57, 0x10F55, 0x10F56, 0x10F57, 0x10F58, 0x10F59, 0x10F86,
        0x10F87, 0x10F88, 0x10F89, 0x11047, 0x11048, 0x110BE, 0x110BF, 0x110C0, 0x110C1, 0x11141, 0x11142,
        0x11143, 0x111C5, 0x111C6, 0x111CD, 0x111DE, 0x111DF, 0x11238, 0x11239, 0x1123B, 0x1123C, 0x112A9,
        0x1144B, 0x1144C, 0x115C2, 0x115C3, *range(0x115C9, 0x115D8), 0x11641, 0x11642, 0x1173C, 0x1173D,
        0x1173E, 0x11944, 0x11946, 0x11A42, 0x11A43, 0x11A9B, 0x11A9C, 0x11C41, 0x11C42, 0x11EF7, 0x11EF8,
        0x11F43, 0x11F44, 0x16A6E, 0x16A6F, 0x16AF5, 0x16B37, 0x16B38, 0x16B44, 0x16E98, 0x1BC9F, 0x1DA88,
    )
)  # fmt: skip
SYMBOLS = PUNCTUATION | frozenset(TERMINAL)
