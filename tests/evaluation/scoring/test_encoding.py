"""Tokens of contexts and continuations beside the plain reading: encode whole, cut, cut short."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, processors

from stages.base.errors import InputError
from stages.evaluation.scoring.encoding import Encoder
from stages.evaluation.scoring.requests import Choices, Generate, NoRoom, Truncation
from stages.lm.chat import BOS, END, ChatTokenizer, load_tokenizer
from tests.evaluation.conftest import make_tokenizer

WORDS = st.text(st.sampled_from("ab e.1\n\t \u00a0ñ'<"), max_size=30)


@pytest.fixture(scope="module")
def adds_bos(tmp_path_factory: pytest.TempPathFactory) -> ChatTokenizer:
    folder = tmp_path_factory.mktemp("bos")
    make_tokenizer(folder)
    plain = Tokenizer.from_file(str(folder / "tokenizer.json"))
    number = plain.token_to_id(BOS)
    plain.post_processor = processors.TemplateProcessing(f"{BOS} $A", f"{BOS} $A $B", [(BOS, number)])
    plain.save(str(folder / "tokenizer.json"))
    return load_tokenizer(folder)


def naive(tokenizer: ChatTokenizer, bos: list[int], context: str, continuation: str) -> tuple[list[int], list[int]]:
    """`_encode_pair` and `loglikelihood` of the LM Evaluation Harness, for a text without special tokens."""
    spaces = len(context) - len(context.rstrip())
    if spaces:
        context, continuation = context[:-spaces], context[-spaces:] + continuation
    if not bos and not context:
        own = tokenizer.encode(continuation)
        return ([tokenizer.prefix_id], own)
    start = bos + tokenizer.encode(context)
    return start, (bos + tokenizer.encode(context + continuation))[len(start) :]


@settings(max_examples=300, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=3), st.lists(WORDS.filter(bool), min_size=1, max_size=3), st.booleans())
def test_pairs_are_the_whole_text_cut_where_the_context_ends(
    tokenizer: ChatTokenizer, adds_bos: ChatTokenizer, paragraphs: list[str], continuations: list[str], bos: bool
) -> None:
    chosen = adds_bos if bos else tokenizer
    before = [chosen.prefix_id] if bos else []
    encoder = Encoder(chosen, 1000)
    assert encoder.pieces.separable
    for context in ("\n\n".join(paragraphs), "\n\n".join([*paragraphs, "Answer:"])):
        wanted = [naive(chosen, before, context, text) for text in continuations]
        if not all(rest for _, rest in wanted):
            with pytest.raises(InputError, match="has no token of its own"):
                encoder.pairs(Choices((context,), tuple(continuations)))
            continue
        found = encoder.pairs(Choices((context,), tuple(continuations)))
        assert [(pair.context.tolist(), pair.continuation.tolist()) for pair in found] == wanted
        each = encoder.pairs(Choices((context,) * len(continuations), tuple(continuations)))
        assert [(pair.context.tolist(), pair.continuation.tolist()) for pair in each] == wanted


def test_an_unknown_kind_of_tokenizer_is_given_whole_texts(tmp_path: Path) -> None:
    make_tokenizer(tmp_path)
    made = json.loads((tmp_path / "tokenizer.json").read_text())
    made["pre_tokenizer"] = None  # its tokens may go over any border
    (tmp_path / "tokenizer.json").write_text(json.dumps(made))
    encoder = Encoder(load_tokenizer(tmp_path), 1000)
    assert not encoder.pieces.separable
    assert encoder.pieces.last_border("one two") == 0
    assert encoder.pieces.encode("one\n\ntwo").tolist() == encoder.tokenizer.encode("one\n\ntwo")


def test_a_chat_is_rendered_and_its_last_white_space_is_the_answers(tokenizer: ChatTokenizer) -> None:
    encoder = Encoder(tokenizer, 1000)
    messages = ({"role": "user", "content": f"Say {END} now"},)
    [pair] = encoder.pairs(Choices((), (" Anthar",), messages))
    assert pair.context.tolist() == tokenizer.encode_prompt(messages)
    assert pair.continuation.tolist() == tokenizer.encode(" Anthar")
    assert tokenizer.end_id not in pair.context, "what looks like a special token in a text is text"
    assert encoder.sent(Choices((), ("a",), messages)) == f"{BOS}<|user|>Say {END} now<|assistant|>"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text("ab <|end>\n", max_size=12), min_size=1, max_size=3), st.text("ab <|end>", min_size=1, max_size=9)
)
def test_answers_in_a_chat_are_the_whole_conversation_cut(
    tokenizer: ChatTokenizer, contents: list[str], answer: str
) -> None:
    """A message may hold the characters of a special token; only the template's are special."""
    messages = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate([*contents, END])]
    start, rests = tokenizer.encode_answers(messages, ["A", answer])
    assert start == tokenizer.encode_prompt(messages)
    assert rests == [tokenizer.encode("A"), tokenizer.encode(answer)]


def test_what_the_model_reads_is_shown_with_what_the_tokenizer_adds(
    tokenizer: ChatTokenizer, adds_bos: ChatTokenizer
) -> None:
    asked = Choices(("In which province?",), (" Anthar",))
    assert Encoder(tokenizer, 10).sent(asked) == "In which province?"
    assert Encoder(adds_bos, 10).sent(asked) == f"{BOS}In which province?"
    assert Encoder(tokenizer, 10).sent(Generate("", (), 5)) == BOS


@settings(max_examples=100, deadline=None)
@given(st.text("abc de", min_size=1, max_size=40), st.text("abc", min_size=1, max_size=12), st.integers(1, 30))
def test_too_long_a_context_loses_its_beginning_or_the_item_is_refused(
    tokenizer: ChatTokenizer, context: str, continuation: str, limit: int
) -> None:
    encoder, request = Encoder(tokenizer, limit), Choices((context,), (continuation,))
    [whole] = encoder.pairs(request)
    length = len(whole.context) + len(whole.continuation)
    assert encoder.length(request) == length - 1
    if len(whole.continuation) > limit:
        with pytest.raises(NoRoom):
            encoder.fitting_pairs(request, "left")
        return
    [pair] = encoder.fitting_pairs(request, "left")
    # The harness' words: (context_enc + continuation_enc)[-(self.max_length + 1) :][:-1]
    both = [*whole.context.tolist(), *whole.continuation.tolist()]
    assert [*pair.context.tolist(), *pair.continuation.tolist()][:-1] == both[-(limit + 1) :][:-1]
    assert pair.continuation.tolist() == whole.continuation.tolist()
    if length > limit + 1:
        with pytest.raises(NoRoom):
            encoder.fitting_pairs(request, "refuse")
    else:
        assert encoder.fitting_pairs(request, "refuse")[0].context.tolist() == whole.context.tolist()


@pytest.mark.parametrize("how", ["left", "refuse"])
def test_a_prompt_leaves_room_for_the_answer(tokenizer: ChatTokenizer, how: Truncation) -> None:
    request = Generate("Its people trade in copper, salt and glass.", (), 6)
    whole = tokenizer.encode(request.context)
    assert Encoder(tokenizer, 100).fitting_prompt(request, how) == whole
    assert Encoder(tokenizer, 100).length(request) == len(whole) + 6
    short = Encoder(tokenizer, len(whole) + 2)
    if how == "left":
        assert short.fitting_prompt(request, how) == whole[4:]
    else:
        with pytest.raises(NoRoom, match=f"{len(whole)} tokens of context and up to 6"):
            short.fitting_prompt(request, how)
    with pytest.raises(NoRoom):
        Encoder(tokenizer, 6).fitting_prompt(request, how)
