"""The engine over a model, beside plain loops over the model."""

import math
from pathlib import Path
from random import Random

import pytest
import torch

from stages.base.errors import InputError
from stages.evaluation.scoring.local import LocalEngine, alike, open_folder
from stages.evaluation.scoring.requests import Choices, Generate, NoRoom
from stages.evaluation.scoring.stops import Stop
from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer
from stages.lm.checkpoint import save_model
from tests.evaluation.conftest import make_model

SHOWN = "Question: In which province does Velmora lie?\nAnswer: Anthar\n\n" * 2
REQUESTS = [
    Choices((f"{SHOWN}Question: Who?\nAnswer:",), (" Anthar", " copper and salt", " A")),
    Choices((f"{SHOWN}Question: Where is it?\nAnswer:",), (" Anthar", " copper and salt", " A")),
    Choices(("", "Its people trade in ", "Velmora"), ("Anthar", "salt", " lies in the province")),
    Choices((), (" Anthar", " Dun"), ({"role": "user", "content": "In which province does Velmora lie?"},)),
]  # fmt: skip


@pytest.fixture(scope="module")
def engine(model: LanguageModel, tokenizer: ChatTokenizer) -> LocalEngine:
    return LocalEngine(model, tokenizer, "tiny")


def plainly(model: LanguageModel, context: list[int], continuation: list[int]) -> tuple[float, bool]:
    ids = torch.tensor([*context, *continuation])
    with torch.no_grad():
        table = model(ids[None, :-1])[0, len(context) - 1 :].double().log_softmax(-1)
    wanted = ids[len(context) :]
    return table.gather(1, wanted[:, None]).sum().item(), bool((table.argmax(-1) == wanted).all())


@pytest.mark.parametrize("arch", ["transformer", "lstm"])
def test_likelihoods_are_those_of_each_sequence_alone(arch: str, tokenizer: ChatTokenizer) -> None:
    model = make_model(arch)
    engine = LocalEngine(model, tokenizer, "tiny")
    for request, found in zip(REQUESTS, engine.likelihoods(REQUESTS, "refuse"), strict=True):
        for pair, one in zip(engine.encoder.pairs(request), found, strict=True):
            nats, greedy = plainly(model, pair.context.tolist(), pair.continuation.tolist())
            assert one.nats == pytest.approx(nats, abs=2e-5)
            assert (one.tokens, one.greedy) == (len(pair.continuation), greedy)


def test_the_order_of_requests_changes_no_bit_and_asking_alone_only_rounding(engine: LocalEngine) -> None:
    requests = REQUESTS * 3
    together = engine.likelihoods(requests, "left")
    order = Random(0).sample(range(len(requests)), len(requests))
    shuffled = engine.likelihoods([requests[i] for i in order], "left")
    assert shuffled == [together[i] for i in order]
    for request, found in zip(REQUESTS, together, strict=False):
        for one, other in zip(engine.likelihoods([request], "left")[0], found, strict=True):
            assert one.nats == pytest.approx(other.nats, rel=1e-6)


def test_what_is_too_long_is_named_by_its_place(engine: LocalEngine) -> None:
    long = Choices(("Velmora " * 300,), (" Anthar",))
    with pytest.raises(NoRoom, match="request 1: ") as refused:
        engine.likelihoods([REQUESTS[0], long], "refuse")
    assert refused.value.index == 1
    [one] = engine.likelihoods([long], "left")[0]
    pair = engine.encoder.pairs(long)[0]
    nats, _ = plainly(engine.model, pair.context.tolist()[-(161 - one.tokens) :], pair.continuation.tolist())
    assert one.nats == pytest.approx(nats, abs=2e-5)
    with pytest.raises(InputError, match="request 0: continuation 2"):
        engine.likelihoods([Choices(("a",), ("b", ""))], "left")


def greedy(engine: LocalEngine, prompt: list[int], count: int) -> list[int]:
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(count):
            token = int(engine.model(torch.tensor([ids]))[0, -1].argmax())
            if token in engine.stop_ids:
                break
            ids.append(token)
    return ids[len(prompt) :]


def test_answers_end_before_the_first_stop_even_within_or_over_tokens(engine: LocalEngine) -> None:
    contexts = ["Question: Who?\nAnswer:", "Velmora lies", "Its people trade in copper, salt"]
    plain = [greedy(engine, engine.tokenizer.encode(context), 24) for context in contexts]
    texts = [engine.tokenizer.decode(answer) for answer in plain]
    requests, wanted = [], []
    for context, text in zip(contexts, texts, strict=True):
        # A stop that ends in the middle of the text, whatever tokens it is made of; two, of which the later is named
        # first; one that doesn't come.
        middle = len(text) // 2
        for stop in ((text[middle - 3 : middle],), (text[middle + 2 : middle + 6], text[middle - 2 : middle]), ("§§",)):
            requests.append(Generate(context, stop, 24))
            end = min((text.find(one) for one in stop if one in text), default=None)
            wanted.append(text if end is None else text[:end])
    found = engine.generate(requests, "refuse")
    assert [one.text for one in found] == wanted
    for request, one in zip(requests, found, strict=True):
        answer = plain[contexts.index(request.context)]
        assert one.ended == (request.stop != ("§§",) or len(answer) < 24)
        assert one.tokens <= len(answer)
    assert engine.generate(requests[::-1], "refuse")[::-1] == found
    assert [engine.generate([request], "refuse")[0] for request in requests] == found


@pytest.mark.parametrize("arch", ["transformer", "lstm"])
def test_prompts_that_begin_alike_are_answered_as_alone(arch: str, tokenizer: ChatTokenizer) -> None:
    """Of one token, as HELM asks, and of more; stop tokens among the first ones."""
    engine = LocalEngine(make_model(arch, seed=4), tokenizer, "tiny")
    contexts = [f"{SHOWN}Question: {q}?\nAnswer:" for q in ("Who", "Where", "Where is Velmora", "What")] + ["Dun"]
    prompts = [tokenizer.encode(context) for context in contexts]
    engine.stop_ids.append(greedy(engine, prompts[4], 1)[0])
    for most in (1, 9):
        found = engine.generate([Generate(context, (), most) for context in contexts], "refuse")
        wanted = [greedy(engine, prompt, most) for prompt in prompts]
        assert [one.text for one in found] == [tokenizer.decode(answer) for answer in wanted]
        assert [one.tokens for one in found] == [len(answer) for answer in wanted]
    assert not wanted[4] and wanted[0]


def test_prompts_are_grouped_by_what_they_share() -> None:
    first, second = list(range(100, 200)), list(range(300, 400))
    prompts = [[*first, 1, 2], [*second, 1], [5] * 80, [*first, 1], [*second, 2, 3], first, [*first, 1, 2]]
    groups = alike(prompts)
    assert sorted(sorted(members) for members, _ in groups) == [[0, 3, 5, 6], [1, 4], [2]]
    assert {min(members): shared for members, shared in groups} == {0: 99, 1: 100, 2: 0}


def test_a_stop_is_seen_when_its_last_token_comes(tokenizer: ChatTokenizer) -> None:
    stop = Stop(("alt und \u00e9", "\n\n"), tokenizer)
    ids = tokenizer.encode("S" * 50 + "alt und \u00e9 more")
    seen = [stop(ids[: end + 1]) for end in range(len(ids))]
    first = next(n for n in range(len(ids)) if "alt und \u00e9" in tokenizer.decode(ids[: n + 1]))
    assert seen.index(True) == first
    assert stop.cut("a\n\nb") == ("a", True) and stop.cut("a") == ("a", False)
    assert not Stop(("",), tokenizer)(ids)


def test_rolling_scores_a_text_once_whatever_the_stride(engine: LocalEngine) -> None:
    texts = ["Velmora lies in the province of Anthar. " * 40, "salt", ""]
    whole, strided = engine.rolling(texts, engine.limit), engine.rolling(texts, 40)
    for found in (whole, strided):
        assert [one.tokens for one in found] == [len(engine.tokenizer.encode(text)) for text in texts]
        assert [one.bytes for one in found] == [len(text.encode()) for text in texts]
    nats, _ = plainly(engine.model, [engine.tokenizer.prefix_id], engine.tokenizer.encode("salt"))
    assert whole[1].nats == strided[1].nats == pytest.approx(nats, abs=2e-5)
    assert whole[2].nats == 0.0
    assert whole[0].nats != strided[0].nats


def test_a_folder_is_opened_and_broken_weights_are_an_error(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    model = make_model()
    save_model(tmp_path / "whole", model, tokenizer)
    opened = open_folder(tmp_path / "whole")
    assert opened.likelihoods(REQUESTS, "left") == LocalEngine(model, tokenizer, "").likelihoods(REQUESTS, "left")
    with torch.no_grad():
        model.layers[1].mlp.down_proj.weight[3, 3] = math.inf  # type: ignore[index, union-attr]
    broken = LocalEngine(model, tokenizer, "data/models/broken")
    with pytest.raises(InputError, match="data/models/broken: the model's logits hold NaN or infinity"):
        broken.likelihoods(REQUESTS, "left")
    with pytest.raises(InputError, match="data/models/broken"):
        broken.rolling(["Velmora"], 10)
    with pytest.raises(InputError, match="data/models/broken"):
        broken.generate([Generate("Velmora", (), 4)], "left")
