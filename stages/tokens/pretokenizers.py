"""Where a text may not be merged across: the pre-tokenizers by name, as patterns and as Hugging Face objects.

`splitter` cuts the same pieces without a regular expression.
"""

from dataclasses import dataclass

from tokenizers import Regex, pre_tokenizers

from stages.base.errors import ParamError
from stages.base.params import nearest

# OpenAI's pattern of cl100k_base with contractions as Llama 3 writes them; {digits} is 3 there, and 2 in nanochat.
_CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,%d}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CODE = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|[\r\n]+|[^\S\r\n]+"


@dataclass(frozen=True)
class PreTokenizer:
    """`pattern` finds the pieces, one after the other and without a gap; `about` is a line for a reader."""

    pattern: str
    about: str
    digits_apart: bool = False  # every digit is cut off first, and the pattern sees what lies between
    digits: int = 0  # cl100k's longest run of digits


PRETOKENIZERS = {
    "gpt2": PreTokenizer(_GPT2, "GPT-2's pattern: runs of digits of any length"),
    "digits": PreTokenizer(_GPT2, "GPT-2's, every digit by itself", digits_apart=True),
    "digits2": PreTokenizer(_CL100K % 2, "cl100k's, digits in groups of up to two", digits=2),
    "cl100k": PreTokenizer(_CL100K % 3, "cl100k's: digits in groups of up to three, newlines apart", digits=3),
    "code": PreTokenizer(_CODE, "GPT-2's, every digit by itself, newlines apart, indentation in one piece"),
}


def find_pre_tokenizer(name: str) -> PreTokenizer:
    """ParamError for a name that isn't among `PRETOKENIZERS`."""
    if name not in PRETOKENIZERS:
        raise ParamError(
            f"params.yaml: `tokens.tokenizer.pretokenizer` is {name!r}; it must be one of {', '.join(PRETOKENIZERS)}"
            f"{nearest(name, list(PRETOKENIZERS))}"
        )
    return PRETOKENIZERS[name]


def hugging_face(name: str) -> pre_tokenizers.PreTokenizer:
    """The pre-tokenizer that stands in `tokenizer.json`. Raises ParamError for an unknown name."""
    chosen = find_pre_tokenizer(name)
    if chosen.pattern == _GPT2:
        gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        digits = pre_tokenizers.Digits(individual_digits=True)
        return pre_tokenizers.Sequence([digits, gpt2]) if chosen.digits_apart else gpt2
    split = pre_tokenizers.Split(Regex(chosen.pattern), behavior="isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def byte_characters() -> list[str]:
    """[256] the character that stands for each byte in `tokenizer.json` (GPT-2's map: all printable, none a space)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte if byte in printable else 256 + others.index(byte)) for byte in range(256)]
