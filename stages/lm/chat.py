"""The chat format: `<|bos|><|user|>{prompt}<|assistant|>{answer}<|end|>`."""

from functools import lru_cache
from pathlib import Path

from tokenizers import Tokenizer

from stages.base.errors import InputError

PAD, BOS, USER, ASSISTANT, END = "<|pad|>", "<|bos|>", "<|user|>", "<|assistant|>", "<|end|>"
SPECIALS = (PAD, BOS, USER, ASSISTANT, END)  # the order of their ids, after the ordinary tokens

TEMPLATE = (
    "{{ '<|bos|>' }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ '<|assistant|>' + message['content'] + '<|end|>' }}"
    "{% else %}{{ '<|user|>' + message['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


@lru_cache(maxsize=4)
def _parse(path: Path, text: str) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the library raises bare exceptions
        raise InputError(f"{path}: not a readable tokenizer ({error}); run tokens.tokenizer again") from error
    missing = [token for token in SPECIALS if tokenizer.token_to_id(token) is None]
    if missing:
        raise InputError(f"{path}: lacks the special tokens {', '.join(missing)}; it is not one of tokens.tokenizer's")
    tokenizer.encode_special_tokens = True  # "<|end|>" typed by a user is text, never the token
    return tokenizer


def load_tokenizer(folder: Path | str) -> Tokenizer:
    """The tokenizer of a folder with `tokenizer.json`; `InputError` if unreadable or without the chat's special
    tokens.
    """
    path = Path(folder) / "tokenizer.json"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a readable tokenizer ({error}); run tokens.tokenizer again") from None
    return _parse(path, text)


def special_ids(tokenizer: Tokenizer) -> dict[str, int]:
    ids = {token: tokenizer.token_to_id(token) for token in SPECIALS}
    return {token: number for token, number in ids.items() if number is not None}


def padded_vocab_size(tokenizer: Tokenizer) -> int:
    """The vocabulary's size rounded up to a multiple of 64: what a model's `vocab_size` must be."""
    return -(-tokenizer.get_vocab_size(with_added_tokens=True) // 64) * 64


def token_dtype(vocab_size: int) -> str:
    """What packed rows are stored in: uint16 while every id fits, else uint32."""
    return "uint16" if vocab_size <= 1 << 16 else "uint32"


def encode_text(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of plain text, no specials; what looks like a special token in it is encoded as text."""
    return tokenizer.encode(text, add_special_tokens=False).ids


def encode_prompt(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """`<|bos|><|user|>{prompt}<|assistant|>`: what generation starts from."""
    ids = special_ids(tokenizer)
    return [ids[BOS], ids[USER], *encode_text(tokenizer, prompt), ids[ASSISTANT]]


def encode_example(tokenizer: Tokenizer, prompt: str, answer: str) -> tuple[list[int], list[bool]]:
    """Ids of a whole exchange, and which of them are learned as targets: the answer and its `<|end|>`."""
    start = encode_prompt(tokenizer, prompt)
    completion = [*encode_text(tokenizer, answer), special_ids(tokenizer)[END]]
    return start + completion, [False] * len(start) + [True] * len(completion)


def decode(tokenizer: Tokenizer, ids: list[int]) -> str:
    """Text of ids, special tokens left out; bytes that are no UTF-8 become U+FFFD."""
    return tokenizer.decode(ids, skip_special_tokens=True)


def stop_ids(tokenizer: Tokenizer) -> list[int]:
    """Tokens that end an answer: `<|end|>`, and `<|bos|>`, with which a base model ends a document."""
    ids = special_ids(tokenizer)
    return [ids[END], ids[BOS]]
