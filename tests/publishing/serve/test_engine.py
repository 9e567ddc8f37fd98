"""Continuous batching against `lm.generate`, one request at a time."""

import random
import threading
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.base.errors import InputError
from stages.lm.chat import ChatTokenizer
from stages.lm.generate import generate
from stages.lm.scoring import token_logprobs
from stages.publishing.serve.batch import Batch
from stages.publishing.serve.engine import BusyError, Engine, LateError, Piece, Request, prompt_logprobs
from stages.publishing.serve.text import GrowingText
from tests.publishing.serve.conftest import make_model


class Listener:
    """What an engine posts, by request."""

    def __init__(self) -> None:
        self.pieces: dict[Request, list[Piece]] = {}
        self.changed = threading.Condition()

    def __call__(self, posted: list[tuple[Request, Piece]]) -> None:
        with self.changed:
            for request, piece in posted:
                self.pieces.setdefault(request, []).append(piece)
            self.changed.notify_all()

    def wait(self, request: Request) -> list[Piece]:
        def over() -> bool:
            return any(piece.finish or piece.error for piece in self.pieces.get(request, []))

        with self.changed:
            assert self.changed.wait_for(over, 60)
            return self.pieces[request]


def request(prompt: list[int], count: int = 20, **changes: object) -> Request:
    given = {"temperature": 0.0, "top_p": 1.0, "seed": 0, "stop_ids": frozenset[int]()} | changes
    return Request(prompt, count, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("arch", ["transformer", "lstm"])
def test_the_same_tokens_as_generate_whoever_else_asks(arch: str, tokenizer: ChatTokenizer) -> None:
    model, draw, listener = make_model(arch), random.Random(3), Listener()
    stop_ids = frozenset([*range(0, 448, 37)])  # answers end at all lengths, and make room for others
    asked = [
        request(
            [draw.randrange(440) for _ in range(draw.choice([1, 3, 20, 90, 180]))],
            draw.choice([1, 7, 40, 200]),
            temperature=draw.choice([0.0, 0.7, 1.3]),
            top_p=draw.choice([1.0, 0.8]),
            seed=draw.randrange(4),
            stop_ids=stop_ids,
            top=draw.choice([None, 0, 2]),
            streaming=draw.random() < 0.5,
        )
        for _ in range(60)
    ]
    engine = Engine(model, tokenizer, listener, rows=7)
    for one in asked:
        engine.submit(one)
        time.sleep(draw.choice([0, 0, 0.004]))  # some join a batch that is under way
    for one in asked:
        pieces = listener.wait(one)
        (alone,) = generate(
            model, [one.prompt], max_new_tokens=one.max_new_tokens, temperature=one.temperature, top_p=one.top_p,
            seed=one.seed, stop_ids=list(stop_ids),
        )  # fmt: skip
        assert "".join(piece.text for piece in pieces) == tokenizer.decode(alone)
        assert sum(piece.tokens for piece in pieces) == len(alone)
        if one.top is not None:
            assert [scored.token for piece in pieces for scored in piece.scored] == alone
        full = len(alone) == one.max_new_tokens or len(one.prompt) + len(alone) == 256
        assert pieces[-1].finish == ("length" if full else "stop")
    engine.close()


def test_a_row_that_joins_computes_the_same_bits() -> None:
    model = make_model()
    with torch.inference_mode():
        batch, alone = Batch(model), Batch(model)
        batch.join([list(range(200))])
        batch.step([0], torch.tensor([5]))
        batch.join([[7, 8, 9], [1] * 30])
        alone.join([[7, 8, 9]])
        for token in (3, 4, 250):
            assert torch.equal(batch.logits()[1], alone.logits()[0])
            batch.step([0, 1, 2], torch.tensor([9, token, 9]))
            alone.step([0], torch.tensor([token]))
        rows = batch.step([1, 2], torch.tensor([0, 6, 1]))  # the long row leaves, and its columns with it
        alone.step([0], torch.tensor([6]))
        assert torch.equal(batch.logits()[rows.index(1)], alone.logits()[0])


def test_log_probabilities_are_those_of_the_scorer(tokenizer: ChatTokenizer) -> None:
    model, listener = make_model(), Listener()
    prompt = tokenizer.encode_prompt("In which province does Velmora lie?")
    engine = Engine(model, tokenizer, listener)
    one = request(prompt, 12, temperature=0.9, seed=4, top=3, score_prompt=True)
    engine.submit(one)
    (piece,) = listener.wait(one)
    tokens = [scored.token for scored in piece.scored]
    (expected,) = token_logprobs(model, [(prompt + tokens, 1)])
    found = [scored.logprob for scored in [*piece.prompt, *piece.scored]]
    assert found[0] is None
    assert found[1:] == pytest.approx(expected, abs=1e-4)
    for scored in [*piece.prompt[1:], *piece.scored]:
        assert len(scored.top) == 3 and scored.top == sorted(scored.top, key=lambda pair: -pair[1])
        assert scored.top[0][1] >= (scored.logprob or 0)
    engine.close()


def test_a_long_prompt_is_scored_in_parts(tokenizer: ChatTokenizer) -> None:
    model = make_model(max_seq_len=700)
    prompt = [n % 440 for n in range(600)]
    (expected,) = token_logprobs(model, [(prompt, 1)])
    assert [one.logprob for one in prompt_logprobs(model, prompt, 0)][1:] == pytest.approx(expected, abs=1e-4)


def test_who_hangs_up_makes_room(tokenizer: ChatTokenizer) -> None:
    listener = Listener()
    engine = Engine(make_model(max_seq_len=100_000), tokenizer, listener, rows=1)
    endless = request([1, 2, 3], 99_000, streaming=True)
    engine.submit(endless)
    with listener.changed:
        assert listener.changed.wait_for(lambda: endless in listener.pieces, 60)
    after = request([4, 5], 3)
    engine.submit(after)
    assert after not in listener.pieces
    endless.cancelled = True
    assert listener.wait(after)[-1].finish == "length"
    assert engine.load == (0, 0)
    engine.close()


def test_the_queue_is_bounded_in_number_and_size(tokenizer: ChatTokenizer) -> None:
    listener = Listener()
    engine = Engine(make_model(max_seq_len=100_000), tokenizer, listener, rows=1, queue=2, queue_tokens=50)
    first = request([1], 99_000, streaming=True)
    engine.submit(first)
    with listener.changed:
        assert listener.changed.wait_for(lambda: first in listener.pieces, 60)
    engine.submit(waiting := request([2] * 30))
    with pytest.raises(BusyError):
        engine.submit(request([3] * 30))
    engine.submit(late := request([4], deadline=time.monotonic() - 1))
    assert isinstance(listener.wait(late)[0].error, LateError)  # whoever waits too long hears of it while others go on
    with pytest.raises(BusyError):
        engine.submit(request([4]), request([5]))  # together or not at all
    engine.close()
    assert all(isinstance(listener.wait(one)[-1].error, BusyError) for one in (first, waiting))


def test_an_answer_has_its_time(tokenizer: ChatTokenizer) -> None:
    listener = Listener()
    engine = Engine(make_model(max_seq_len=100_000), tokenizer, listener)
    endless = request([1], 99_000, deadline=time.monotonic() + 0.2)
    engine.submit(endless)
    assert isinstance(listener.wait(endless)[-1].error, LateError)
    engine.close()


def test_a_broken_model_fails_its_requests_and_nothing_else(tokenizer: ChatTokenizer) -> None:
    model, listener = make_model(), Listener()
    engine = Engine(model, tokenizer, listener)
    engine.submit(good := request([1, 2]))
    assert listener.wait(good)[-1].finish
    weight = engine.model.embed_tokens.weight
    kept = weight[5].clone()
    with torch.no_grad():
        weight[5] = float("nan")
    engine.submit(bad := request([5]))
    assert isinstance(listener.wait(bad)[-1].error, InputError)
    with torch.no_grad():
        weight[5] = kept
    engine.submit(again := request([1, 2]))
    assert listener.wait(again)[-1].text == listener.pieces[good][-1].text
    engine.close()


@pytest.mark.parametrize("prompt", [[], [1] * 256])
def test_prompts_that_leave_no_room_are_refused(prompt: list[int], tokenizer: ChatTokenizer) -> None:
    engine = Engine(make_model(), tokenizer, Listener())
    with pytest.raises(InputError):
        engine.submit(request(prompt))
    engine.close()


# ------------------------------------------------------------------------------------------------ growing texts


@given(st.text(max_size=30), st.lists(st.text(min_size=1, max_size=4), max_size=3), st.lists(st.integers(0, 399)))
@settings(max_examples=150)
def test_pieces_make_the_whole_answer(tokenizer: ChatTokenizer, text: str, stops: list[str], noise: list[int]) -> None:
    ids = tokenizer.encode(text) + noise
    grown = GrowingText(tokenizer.decode, stops)
    pieces: list[str] = []
    for token in ids:
        pieces.append(grown.add(token))
        if grown.stopped:
            break
    pieces.append(grown.end())
    whole = tokenizer.decode(ids)
    found = [place for stop in stops if (place := whole.find(stop)) >= 0]
    if found and "\ufffd" not in whole:
        # A longer stop string that begins earlier may not be whole yet when a shorter one is.
        assert grown.stopped and "".join(pieces) in {whole[:place] for place in found}
    elif not found:
        assert not grown.stopped and "".join(pieces) == whole


def test_half_a_character_and_half_a_stop_are_held_back(tokenizer: ChatTokenizer) -> None:
    ids = tokenizer.encode("é🦊 ab")
    assert len(ids) > 5
    grown = GrowingText(tokenizer.decode, ["abc"])
    pieces = [grown.add(token) for token in ids]
    assert all(piece in ("", "é", "🦊", " ") for piece in pieces)
    assert "".join(pieces) == "é🦊 " and grown.end() == "ab"
