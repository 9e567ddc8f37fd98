"""A tokenizer with its chat format, as a Hugging Face folder holds them.

Ours is `<|bos|><|user|>{prompt}<|assistant|>{answer}<|end|>`; other models bring a template of their own.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from stages.base.conversation import Asked, Message, messages_of
from stages.base.errors import InputError
from stages.base.files import atomic_path, read_json, write_json
from stages.lm.template import ChatTemplate, is_unicode

PAD, BOS, USER, ASSISTANT, END = "<|pad|>", "<|bos|>", "<|user|>", "<|assistant|>", "<|end|>"
SPECIALS = (PAD, BOS, USER, ASSISTANT, END)  # the order of their ids, after the ordinary tokens

TEMPLATE = (
    "{{ '<|bos|>' }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ '<|assistant|>' + message['content'] + '<|end|>' }}"
    "{% else %}{{ '<|user|>' + message['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
# Alpaca's format, for a base model that comes without one.
PLAIN = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ '### Response:\n' + message['content'] + eos_token + '\n\n' }}"
    "{% else %}{{ '### Instruction:\n' + message['content'] + '\n\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Response:\n' }}{% endif %}"
)


@dataclass(frozen=True)
class ChatTokenizer:
    """Text ↔ ids, and conversations → ids by the template. What looks like a special token in a text is text."""

    tokenizer: Tokenizer  # reads special tokens as text
    folder: Path
    template: ChatTemplate
    bos_id: int | None
    eos_id: int
    pad_id: int  # the end of a text's where the tokenizer has none

    @cached_property
    def vocab_size(self) -> int:
        """Ids, those of added tokens included; a model may have more rows, as padding."""
        return max(self.tokenizer.get_vocab(with_added_tokens=True).values()) + 1

    @property
    def prefix_id(self) -> int:
        """What stands before a document: its beginning or, where there is no such token, the end of the one before."""
        return self.eos_id if self.bos_id is None else self.bos_id

    @cached_property
    def end_id(self) -> int:
        """The special token that the template puts behind an answer; else the end of a text."""
        opening, whole, _ = self._render("Where?", "There.")
        special = self._special
        closing = self._markup.encode(whole[len(opening) :], add_special_tokens=False).ids
        return next((number for number in closing if number in special), self.eos_id)

    @property
    def stop_ids(self) -> list[int]:
        """Tokens that end an answer: its end, a text's, and the beginning of the next (as base models go on)."""
        return list(dict.fromkeys([self.end_id, self.eos_id, self.prefix_id]))

    def encode(self, text: str) -> list[int]:
        """Ids of plain text, no specials."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def encode_prompt(self, asked: Asked) -> list[int]:
        """What generation starts from: the user's message, or the conversation so far, and what opens an answer."""
        quoted, mark = self._quote(messages_of(asked))
        return self._ids(self.template.render(quoted, add_generation_prompt=True), mark)

    def encode_example(self, asked: Asked, answer: str) -> tuple[list[int], list[bool]]:
        """Ids of a whole exchange, and which of them are learned as targets: the answer and its end.

        InputError for a template whose exchange doesn't begin with what generation starts from.
        """
        opening, whole, mark = self._render(asked, answer)
        start, ids = self._ids(opening, mark), self._ids(whole, mark)
        if ids[: len(start)] != start:  # a merge over the border, which generation can't make
            ids = start + self._ids(whole[len(opening) :], mark)
        if self.end_id in ids[len(start) :]:
            ids = ids[: ids.index(self.end_id, len(start)) + 1]
        else:
            ids.append(self.end_id)
        return ids, [place >= len(start) for place in range(len(ids))]

    def encode_answers(self, asked: Asked, answers: Sequence[str]) -> tuple[list[int], list[list[int]]]:
        """Ids of what generation starts from, and of each answer behind it, without the answer's end.

        Encoded as a whole and cut, as the LM Evaluation Harness does: tokens may be merged over the answer's own
        border, and white space at the end of what generation starts from is the answer's.
        """
        said = [{"role": "assistant", "content": answer} for answer in answers]
        quoted, mark = self._quote([*messages_of(asked), *said])
        opening = self.template.render(quoted[: -len(said)], add_generation_prompt=True)
        # What stands before a special token doesn't change the tokens behind it: it is encoded once.
        cut = max((place.start() for place in self._lookalike.finditer(opening, opening.rfind(mark) + 1)), default=0)
        before, end = self._ids(opening[:cut], mark), opening[cut:]
        own = self._ids(end.rstrip(), mark)
        rests = [self._ids(end + message["content"], mark)[len(own) :] for message in quoted[-len(said) :]]
        return before + own, rests

    def encode_conversation(self, messages: Sequence[Message]) -> tuple[list[int], list[bool]]:
        """Ids of a conversation that ends with an answer, and which are learned: every answer with its end.

        InputError for a template that shows an earlier answer otherwise once the conversation has gone on.
        """
        ids, learned = self.encode_example(messages[:-1], messages[-1]["content"])
        for place, message in enumerate(messages[:-1]):
            if message["role"] == "assistant":
                part, said = self.encode_example(messages[:place], message["content"])
                if ids[: len(part)] != part:
                    raise InputError(
                        f"{self.template.where}: the chat template changes earlier answers as a conversation goes on, "
                        "so they can't be learned together; give each answer a row of its own"
                    )
                learned[: len(part)] = [a or b for a, b in zip(learned, said, strict=False)]
        return ids, learned

    def check_template(self) -> None:
        """InputError for a template that fails, leaves answers out or hides where they begin."""
        ids, learned = self.encode_example("Where?", "There.")
        if "There." not in self.decode([number for number, known in zip(ids, learned, strict=True) if known]):
            raise InputError(f"{self.template.where}: the chat template leaves answers out; mend it there")

    def decode(self, ids: list[int]) -> str:
        """Text of ids, special tokens left out; bytes that are no UTF-8 become U+FFFD."""
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    def save(self, folder: Path, max_length: int | None = None) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json`, the template inside, as transformers reads them."""
        write_tokenizer(folder, self.tokenizer, self.template.source, self.template.tokens, max_length)

    @cached_property
    def _markup(self) -> Tokenizer:
        """The same tokenizer, reading special tokens as tokens: what a template's own text is encoded with."""
        markup = _parse(self.folder / "tokenizer.json", self.tokenizer.to_str())
        markup.encode_special_tokens = False
        return markup

    @cached_property
    def _special(self) -> dict[int, str]:
        added = self.tokenizer.get_added_tokens_decoder()
        return {number: token.content for number, token in added.items() if token.special}

    @cached_property
    def _lookalike(self) -> re.Pattern[str]:
        return re.compile("|".join(map(re.escape, sorted(self._special.values(), key=len, reverse=True))) or r"(?!)")

    def _quote(self, messages: Sequence[Message]) -> tuple[list[dict[str, str]], str]:
        """Messages with a mark, a character that none of them has, on both sides of what looks like a special token."""
        texts = [message["content"] for message in messages]
        mark = next(mark for mark in map(chr, range(0xE000, 0xF8FF)) if not any(mark in text for text in texts))

        def quoted(text: str) -> str:
            return self._lookalike.sub(lambda found: mark + found[0] + mark, text)

        return [{"role": message["role"], "content": quoted(message["content"])} for message in messages], mark

    def _render(self, asked: Asked, answer: str) -> tuple[str, str, str]:
        """The exchange up to the answer, the whole of it, and the mark of quoted texts in both."""
        messages, mark = self._quote([*messages_of(asked), {"role": "assistant", "content": answer}])
        opening = self.template.render(messages[:-1], add_generation_prompt=True)
        whole = self.template.render(messages, add_generation_prompt=False)
        if not whole.startswith(opening):
            raise InputError(
                f"{self.template.where}: in the chat template, an exchange doesn't begin with its generation prompt, "
                "so answers can't be told from prompts; mend it there"
            )
        return opening, whole, mark

    def _ids(self, rendered: str, mark: str) -> list[int]:
        parts = enumerate(rendered.split(mark))
        return [number for place, part in parts for number in self._part(part, quoted=place % 2 == 1)]

    def _part(self, text: str, quoted: bool) -> list[int]:
        return (self.tokenizer if quoted else self._markup).encode(text, add_special_tokens=False).ids


def load_tokenizer(folder: Path | str) -> ChatTokenizer:
    """The tokenizer of a folder with `tokenizer.json` and `tokenizer_config.json`.

    One without a chat template gets `PLAIN`. InputError for files that are missing or unreadable, a template that
    fails, and no end of a text.
    """
    source = Path(folder)
    path = source / "tokenizer.json"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: not a readable tokenizer ({error}); run the stage that writes it, or save it with transformers' "
            "`AutoTokenizer.from_pretrained(…).save_pretrained(…)`"
        ) from None
    tokenizer = _parse(path, text)
    path = source / "tokenizer_config.json"
    config = read_json(path)
    if not isinstance(config, dict):
        raise InputError(f"{path}: not a JSON object; save the tokenizer again")
    tokens = {
        name: found for name in ("bos_token", "eos_token", "pad_token", "unk_token") if (found := _token(config, name))
    }
    numbers = {name: tokenizer.token_to_id(token) for name, token in tokens.items()}
    ids = {name: number for name, number in numbers.items() if number is not None}
    missing = [f"{name} {tokens[name]!r}" for name in tokens if name not in ids]
    if missing or "eos_token" not in ids:
        reason = f"{missing[0]} is not in {source / 'tokenizer.json'}" if missing else "it names no eos_token; add it"
        raise InputError(f"{path}: {reason}")
    where, template = _template(source, config)
    return ChatTokenizer(
        tokenizer,
        source,
        ChatTemplate(template, tokens, where),
        bos_id=ids.get("bos_token"),
        eos_id=ids["eos_token"],
        pad_id=ids.get("pad_token", ids["eos_token"]),
    )


def _parse(path: Path, text: str) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the library raises bare exceptions
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: not a readable tokenizer ({reason}); write it again") from None
    ids = tokenizer.get_vocab(with_added_tokens=True).values()
    if not ids or len(set(ids)) < len(ids):
        raise InputError(f"{path}: no tokens, or two of one id; write it again")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


def _token(config: dict[str, Any], name: str) -> str | None:
    """A special token of `tokenizer_config.json`: a string, an object with its content, or null."""
    value = config.get(name)
    value = value.get("content") if isinstance(value, dict) else value
    return value if isinstance(value, str) and is_unicode(value) else None


def _template(folder: Path, config: dict[str, Any]) -> tuple[Path, str]:
    """The chat template and the file it is from, looked for as transformers does."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path, path.read_text(encoding="utf-8", errors="replace")
    found = config.get("chat_template")
    if isinstance(found, list):  # several by name
        named = {entry.get("name"): entry.get("template") for entry in found if isinstance(entry, dict)}
        found = named.get("default")
    return folder / "tokenizer_config.json", found if isinstance(found, str) else PLAIN


def write_tokenizer(
    folder: Path, tokenizer: Tokenizer, template: str, tokens: dict[str, str], max_length: int | None = None
) -> None:
    """`tokenizer.json` and `tokenizer_config.json`; `tokens` are bos_token, eos_token and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / "tokenizer.json") as temporary:
        temporary.write_text(tokenizer.to_str() + "\n", encoding="utf-8")
    bos = tokens.get("bos_token")
    added = sorted(tokenizer.get_added_tokens_decoder().items())
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **tokens,
        "additional_special_tokens": [
            token.content for _, token in added if token.special and token.content not in tokens.values()
        ],
        "chat_template": template,
        "add_bos_token": bos is not None and tokenizer.encode("a").tokens[:1] == [bos],
        "clean_up_tokenization_spaces": False,
        "padding_side": "left",
    }
    write_json(folder / "tokenizer_config.json", config | ({"model_max_length": max_length} if max_length else {}))


def padded_vocab_size(tokenizer: Tokenizer) -> int:
    """The vocabulary's size rounded up to a multiple of 64: what our models' `vocab_size` is."""
    return -(-tokenizer.get_vocab_size(with_added_tokens=True) // 64) * 64


def token_dtype(vocab_size: int) -> str:
    """What packed rows are stored in: uint16 while every id fits, else uint32."""
    return "uint16" if vocab_size <= 1 << 16 else "uint32"
