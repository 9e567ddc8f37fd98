"""Windows of long texts: every token once, with the context that is promised, and the harness' own at full stride."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.base.errors import InputError
from stages.evaluation.scoring.windows import windows


def harness(tokens: list[int], prefix: int, limit: int) -> Iterator[tuple[list[int], list[int]]]:
    """Of the LM Evaluation Harness' documentation: inputs and what they predict; windows follow one another, and the
    last one reads as much as fits."""
    done = 0
    while done < len(tokens):
        predicted = tokens[done : done + limit]
        end = done + len(predicted)
        inputs = [prefix, *tokens[: end - 1]] if done == 0 else tokens[end - limit - 1 : end - 1]
        yield inputs, predicted
        done = end


@given(st.integers(0, 60), st.integers(1, 20), st.data())
def test_every_token_is_scored_once_behind_what_stands_before_it(length: int, limit: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, limit))
    tokens = list(range(100, 100 + length))
    pairs = windows(tokens, 7, limit, stride)
    assert [token for pair in pairs for token in pair.continuation] == tokens
    text = [7, *tokens]
    for number, (context, continuation) in enumerate(pairs):
        read = [*context, *continuation]
        assert len(read) <= limit + 1 and len(context) >= 1
        start = text.index(read[0])
        assert text[start : start + len(read)] == read
        if number:
            assert len(continuation) <= stride and len(read) == limit + 1
            assert len(context) >= limit + 1 - stride
    if stride == limit:
        plain = [([*c, *d][:-1], d.tolist()) for c, d in pairs]
        assert plain == list(harness(tokens, 7, limit))


@pytest.mark.parametrize("stride", [0, 9])
def test_a_stride_must_be_within_the_context(stride: int) -> None:
    with pytest.raises(InputError, match="stride"):
        windows([1, 2, 3], 0, 8, stride)
