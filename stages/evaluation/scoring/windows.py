"""A text that is longer than a model's context, in windows that score each of its tokens once."""

from stages.base.errors import InputError
from stages.evaluation.scoring.encoding import Pair, ids_of


def windows(tokens: list[int], prefix: int, limit: int, stride: int) -> list[Pair]:
    """The first window reads `prefix` and scores the first `limit` tokens; each other scores the next `stride` tokens,
    or those that remain, behind as many of the tokens before them as the model has room for.

    With stride = limit these are the windows of the LM Evaluation Harness (`get_rolling_token_windows` with a context
    of one token); a smaller stride costs more and leaves each token at least limit - stride tokens of context. Raises
    InputError for a stride that isn't from 1 to limit.
    """
    if not 1 <= stride <= limit:
        raise InputError(f"windows: stride {stride}; it must be from 1 to the model's context of {limit} tokens")
    pairs = [Pair(ids_of([prefix]), ids_of(tokens[:limit]))] if tokens else []
    for start in range(limit, len(tokens), stride):
        end = min(start + stride, len(tokens))
        pairs.append(Pair(ids_of(tokens[max(0, end - limit - 1) : start]), ids_of(tokens[start:end])))
    return pairs
