"""Making a trained model larger where it is too small: new tokens in its vocabulary, a longer context."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from tokenizers import AddedToken, Tokenizer
from torch import Tensor

from stages.base.errors import InputError, ParamError
from stages.lm.build import LanguageModel, build_model
from stages.lm.chat import ChatTokenizer, padded_vocab_size
from stages.lm.config import ModelConfig
from stages.lm.transformer import Decoder

NOISE = 0.01  # of each dimension's spread: rows without a text of their own must not stay equal to each other


def extend_tokenizer(before: ChatTokenizer, ordinary: Sequence[str], special: Sequence[str] = ()) -> ChatTokenizer:
    """A copy of the tokenizer with new tokens behind all it has; every old id keeps its meaning.

    The chat's specials stay where they are, so they are no longer the last: they are found by name. Ordinary tokens are
    cut out of a text before anything else, the leftmost first, of several there the longest; special tokens are never
    found in a text. Raises InputError for a token that is empty, no Unicode, given twice or there already.
    """
    tokenizer, size = before.tokenizer, before.vocab_size
    seen: set[str] = set()
    for token in (*ordinary, *special):
        _check(tokenizer, token, seen)
        seen.add(token)
    if not seen:
        raise InputError("no tokens to add; give one a line")
    extended = Tokenizer.from_str(tokenizer.to_str())
    extended.add_tokens([AddedToken(token, special=False, normalized=False) for token in ordinary])
    extended.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    extended.encode_special_tokens = tokenizer.encode_special_tokens
    ids = [extended.token_to_id(token) for token in (*ordinary, *special)]
    if ids != list(range(size, size + len(ids))):
        raise InputError(f"{before.folder}: the ids of this tokenizer have gaps; tokens can't be added behind them")
    return replace(before, tokenizer=extended)


def _check(tokenizer: Tokenizer, token: str, seen: set[str]) -> None:
    if not token:
        raise InputError("new token '': empty; leave it out")
    try:
        token.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(
            f"new token {token!r}: no valid Unicode (half of a surrogate pair); write it as text"
        ) from None
    if token in seen:
        raise InputError(f"new token {token!r}: given twice; leave one out")
    known = tokenizer.token_to_id(token)
    pieces = tokenizer.encode(token, add_special_tokens=False).ids
    if known is not None or len(pieces) == 1:
        number = pieces[0] if known is None else known
        raise InputError(f"new token {token!r}: already in the vocabulary, id {number}; leave it out")


def extend_model(model: LanguageModel, before: ChatTokenizer, after: ChatTokenizer, seed: int) -> LanguageModel:
    """The model with rows for the tokens that `after` has and `before` lacks; where it needs more rows than it has, its
    vocabulary is a multiple of 64 again.

    All old tokens keep their rows of embedding and head, bit for bit, hence their logits. An ordinary token's row is
    the mean of its pieces' rows (Gee et al. 2022, "Fast Vocabulary Transfer"); a special's, and padding's, is the mean
    of all ordinary rows with seeded noise of 1 % of their spread (Hewitt 2021), as its name's letters mean nothing. New
    tokens take rows that were padding before. Raises InputError for a model of another vocabulary.
    """
    first, last, size = before.vocab_size, after.vocab_size, model.config.vocab_size
    if size < first:
        raise InputError(
            f"the model has a vocabulary of {size}, its tokenizer one of {first}; give the one that it was trained with"
        )
    added = after.tokenizer.get_added_tokens_decoder()
    pieces = {
        number: before.encode(added[number].content) for number in range(first, last) if not added[number].special
    }
    config = replace(model.config, vocab_size=size if last <= size else padded_vocab_size(after.tokenizer))
    state = dict(model.state_dict())
    ordinary = before.tokenizer.get_vocab_size(with_added_tokens=False)
    for index, name in enumerate(("embed_tokens.weight", "lm_head.weight")):
        if name in state:
            generator = torch.Generator().manual_seed((seed + index) % 2**63)
            state[name] = _more_rows(state[name], config.vocab_size, first, ordinary, pieces, generator)
    extended = build_model(config, seed=0)
    extended.load_state_dict(state)
    return extended.to(model.head_weight.device).train(model.training)


def _more_rows(
    old: Tensor, size: int, first: int, ordinary: int, pieces: dict[int, list[int]], generator: torch.Generator
) -> Tensor:
    """[size, C]: rows up to `first` as they are, the others made."""
    known = old[:ordinary].float().cpu()
    new = torch.empty((size, old.shape[1]))
    noise = torch.randn((size - first, old.shape[1]), generator=generator)
    new[first:] = known.mean(dim=0) + NOISE * known.std(dim=0) * noise
    new[:first] = old[:first].float().cpu()
    for number, ids in pieces.items():
        new[number] = new[torch.tensor(ids)].mean(dim=0)
    return new.to(old)


def ntk_theta(config: ModelConfig, seq_len: int) -> float:
    """RoPE's base for `seq_len` positions: theta · s^(d / (d − 2)), s = seq_len / max_seq_len, d the head's size.

    NTK-aware scaling (bloc97 2023; Peng et al. 2023, "YaRN", sec. 3.1): the slowest rotation turns over the new length
    as far as it did over the old one, the fastest ones stay as they are.
    """
    return float(config.rope_theta * (seq_len / config.max_seq_len) ** (config.head_dim / (config.head_dim - 2)))


def stretch(model: LanguageModel, seq_len: int, rope_theta: float) -> Decoder:
    """The same weights in a model that reads `seq_len` tokens, with another RoPE base. ParamError for an LSTM, which
    has no positions.
    """
    if not isinstance(model, Decoder):
        raise ParamError("only a transformer has positions to extend; an LSTM reads texts of any length as it is")
    config = replace(model.config, max_seq_len=seq_len, rope_theta=rope_theta)
    longer = Decoder(config)
    longer.load_state_dict(model.state_dict())
    return longer.to(model.head_weight.device).train(model.training)
