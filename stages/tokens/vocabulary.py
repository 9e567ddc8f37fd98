"""Byte-level BPE (Sennrich et al. 2016; Radford et al. 2019): training, saving, encoding many documents."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, processors

from stages.base.errors import InputError, ParamError
from stages.base.progress import Progress
from stages.lm.chat import BOS, END, PAD, SPECIALS, TEMPLATE, write_tokenizer
from stages.tokens.pretokenizers import byte_characters, find_pre_tokenizer, hugging_face

SMALLEST = 256 + len(SPECIALS)
MIN_FREQUENCY = 2  # a pair that occurs once teaches nothing
BATCH_BYTES = 1 << 20  # of text, at least, that are worked on at once
ALONE_BYTES = 1 << 26  # one process encodes as much in the time that it takes to start another


def batches_of(texts: Iterable[str]) -> Iterator[list[str]]:
    """Texts in order, in lists of about `BATCH_BYTES` characters."""
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def train_bpe(texts: Iterable[str], vocab_size: int, pretokenizer: str) -> Tokenizer:
    """Byte-level BPE of at most `vocab_size` tokens, the chat's special tokens at the end.

    The texts are read once, a batch at a time; their order changes nothing (`merges` states the rule). Raises
    ParamError for a vocabulary that doesn't hold the bytes or an unknown pre-tokenizer, InputError for no text.
    """
    from stages.tokens.merges import learn_merges  # compiled code: not for those who only look at the parameters
    from stages.tokens.pieces import PieceCounter

    find_pre_tokenizer(pretokenizer)
    if vocab_size < SMALLEST:
        raise ParamError(
            f"params.yaml: `tokens.tokenizer.vocab_size` is {vocab_size}; bytes and special tokens alone are {SMALLEST}"
        )
    counter = PieceCounter(pretokenizer)
    with Progress(None, "counting words", unit="bytes") as bar:
        for batch in batches_of(texts):
            counter.add(batch)
            bar.advance(sum(map(len, batch)))
    pieces = counter.pieces()
    if not len(pieces.ends):
        raise InputError("no text to train a tokenizer on; look at corpus.mix")
    # Ids as in every byte-level tokenizer.json: the bytes in the order of the characters that stand for them.
    characters = byte_characters()
    tokens = sorted(characters)
    byte_ids = np.array([tokens.index(character) for character in characters], np.int32)
    merges = []
    for left, right in learn_merges(pieces, byte_ids, vocab_size - SMALLEST, MIN_FREQUENCY).tolist():
        merges.append((tokens[left], tokens[right]))
        tokens.append(tokens[left] + tokens[right])
    return _assemble(tokens, merges, pretokenizer)


def _assemble(tokens: list[str], merges: list[tuple[str, str]], pretokenizer: str) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = hugging_face(pretokenizer)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIALS])
    # Whoever encodes a text as it is gets what the model reads; here `ChatTokenizer.prefix_id` and the template put it.
    tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single=[BOS, "$A"], pair=[BOS, "$A", "$B"], special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    tokenizer.encode_special_tokens = True
    return tokenizer


def save_tokenizer(folder: Path, tokenizer: Tokenizer) -> None:
    """`tokenizer.json` and a `tokenizer_config.json` with our chat template, as transformers reads them."""
    write_tokenizer(folder, tokenizer, TEMPLATE, {"bos_token": BOS, "eos_token": END, "pad_token": PAD})


def encode_documents(tokenizer: Tokenizer, texts: Sequence[str], label: str = "encoding") -> list[np.ndarray]:
    """Ids of each text, no specials, uint16 or (over 65,536 tokens) uint32; in worker processes where there is much."""
    from stages.tokens.encoder import encode_batch, encode_batches

    declared = tokenizer.to_str()
    batches = batches_of(texts)
    alone = sum(map(len, texts)) < ALONE_BYTES
    encoded = (encode_batch(batch, declared) for batch in batches) if alone else encode_batches(batches, declared)
    out: list[np.ndarray] = []
    with Progress(len(texts), label, unit="documents") as bar:
        for part in encoded:
            out += part.documents()
            bar.advance(len(part.starts) - 1)
    return out
