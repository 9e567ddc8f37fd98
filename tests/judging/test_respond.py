"""Answers of servers, files and exported folders."""

import json
from pathlib import Path
from typing import Any

import pytest

from stages.annotators.server import ServerSettings
from stages.base.errors import InputError, ParamError
from stages.base.params import parse
from stages.judging.models import Answerer
from stages.judging.respond import (
    RespondParams,
    answers_of_endpoint,
    answers_of_json,
    answers_of_model,
    refused_shares,
)
from stages.lm.checkpoint import save_model
from tests.annotators.flaky_server import Scripted
from tests.evaluation.conftest import make_model, make_tokenizer

PROMPTS = Path(__file__).resolve().parents[2] / "stages/judging/prompts"
SERVER = {
    "base_url": "http://127.0.0.1:9/v1", "model": "m", "api_key_env": "TRAINYARD_TEST_KEY", "temperature": 0.0,
    "max_tokens": 50, "concurrency": 4, "max_retries": 1, "timeout_s": 60.0, "max_cost_usd": 1.0,
    "usd_per_million_input": 1.0, "usd_per_million_output": 2.0,
}  # fmt: skip


def server(**over: Any) -> ServerSettings:
    return ServerSettings(**(SERVER | over))


def completion(text: Any, finish: str = "stop") -> dict[str, Any]:
    return {
        "model": "m-2026",
        "choices": [{"message": {"content": text}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5},
    }


def asked_for(body: dict[str, Any]) -> str:
    return body["messages"][0]["content"]


def test_an_endpoint_is_asked_in_the_style_of_its_template(start) -> None:
    def script(body: dict[str, Any], tries: int) -> tuple[int, dict[str, Any], str]:
        return 200, completion(f"<think>hm</think> {asked_for(body).upper()}", "length"), ""

    judge = Scripted(script)
    settings = server(base_url=start(judge))
    for style in ("standard", "concise", "verbose"):
        answers, metrics = answers_of_endpoint(PROMPTS / f"{style}.txt", ["who is 100 %?", "what?"], settings)
        assert all(answer.startswith(asked) for answer, asked in zip(answers, ("WHO IS 100 %?", "WHAT?"), strict=True))
        assert metrics == {"usd": pytest.approx(2 * (10 + 2 * 5) / 1e6), "cut_short": 2}
    assert len({asked_for(body) for body in judge.asked}) == 6, "three ways to ask"
    assert asked_for(judge.asked[1]) in ("what?", "who is 100 %?"), "the standard way adds nothing"


def test_a_prompt_without_an_answer_ends_the_stage_and_the_others_are_kept(start) -> None:
    def script(body: dict[str, Any], tries: int) -> tuple[int, dict[str, Any], str]:
        if asked_for(body).startswith("b") and tries == 1:
            return 400, {"error": {"message": "filtered"}}, ""
        return 200, completion("yes"), ""

    judge = Scripted(script)
    settings = server(base_url=start(judge))
    with pytest.raises(InputError, match=r"1 of 3 prompts have no answer \(prompt 1: .*filtered"):
        answers_of_endpoint(PROMPTS / "standard.txt", ["a", "b", "c"], settings)
    assert answers_of_endpoint(PROMPTS / "standard.txt", ["a", "b", "c"], settings)[0] == ["yes"] * 3
    assert len(judge.asked) == 4


@pytest.mark.parametrize("text", ["Say something.", "%(instruction)s %(style)s", "100 % %(instruction)s"])
def test_a_template_must_hold_the_instruction_and_nothing_else(tmp_path: Path, text: str) -> None:
    template = tmp_path / "mine.txt"
    template.write_text(text)
    with pytest.raises(InputError, match=r"mine\.txt"):
        answers_of_endpoint(template, ["a", "b"], server())


def test_a_kind_has_its_own_settings_and_no_others() -> None:
    assert parse("m", {"kind": "endpoint", "path": "p.txt", "endpoint": SERVER}, Answerer).endpoint.model == "m"
    for bad, message in (
        ({"kind": "endpoint", "path": "p"}, "`m.endpoint` is missing"),
        ({"kind": "outputs", "path": "p", "endpoint": SERVER}, "unknown parameter `m.endpoint`"),
        ({"kind": "shufled", "path": "p"}, "did you mean `shuffled`"),
    ):
        with pytest.raises(ParamError, match=message):
            parse("m", bad, Answerer)


def test_alpaca_evals_outputs_are_found_by_instruction(tmp_path: Path) -> None:
    path = tmp_path / "outputs.json"
    asked = [{"id": "1", "prompt": "a"}, {"id": "2", "prompt": "b"}]
    rows = [{"instruction": p, "output": f"answer {p}", "generator": "g"} for p in "cba"]
    path.write_text(json.dumps(rows))
    assert answers_of_json(path, asked) == ["answer a", "answer b"]
    for bad, message in (
        (rows[:2], "no output for instruction 1"),
        ([*rows, rows[0] | {"output": "other"}], "entry 3: another output"),
        ([*rows, {"instruction": "d"}], "entry 3: no `output`"),
    ):
        path.write_text(json.dumps(bad))
        with pytest.raises(InputError, match=message):
            answers_of_json(path, asked)
    path.write_text("{}")
    with pytest.raises(InputError, match="JSON list"):
        answers_of_json(path, asked)


def test_at_a_temperature_equal_models_give_equal_answers_and_other_seeds_others(tmp_path: Path) -> None:
    prompts = [f"What colour is P{i}?" for i in range(6)]

    def answers(folder: str, temperature: float, batch_size: int, seed: int) -> list[str]:
        params = RespondParams(temperature=temperature, max_new_tokens=6, batch_size=batch_size, limit=None)
        return answers_of_model(tmp_path / folder, prompts, params, seed)[0]

    for folder in ("sft", "dpo"):
        save_model(tmp_path / folder, make_model(), make_tokenizer(tmp_path / "tokenizer"))
    drawn = answers("sft", 1.0, 8, seed=1)
    assert drawn == answers("dpo", 1.0, 2, seed=1), "the same draws, whatever the folder and the batch"
    assert drawn != answers("sft", 1.0, 8, seed=2)
    assert answers("sft", 0.0, 8, seed=1) == answers("sft", 0.0, 8, seed=2) != drawn, "greedy draws nothing"


def test_a_prompt_that_fills_the_context_has_an_empty_answer_and_is_counted(tmp_path: Path) -> None:
    save_model(tmp_path / "sft", make_model(), make_tokenizer(tmp_path / "tokenizer"))
    params = RespondParams(temperature=1.0, max_new_tokens=6, batch_size=2, limit=None)
    prompts = ["What colour is P1?", "long " * 400, "What colour is P2?"]
    answers, lengths, facts = answers_of_model(tmp_path / "sft", prompts, params, 1)
    assert answers[1] == "" and lengths[1] == 0 and facts["no_room"] == 1
    alone = answers_of_model(tmp_path / "sft", [prompts[0], prompts[2]], params, 1)
    assert (answers[::2], lengths[::2]) == alone[:2] and alone[2]["no_room"] == 0


def test_refusals_are_counted_by_source() -> None:
    asked = [{"origin": origin} for origin in ("harmful", "harmful", "harmful", "harmless", "harmless", "harmless")]
    answers = [
        "I can't help with that.", "I’m sorry, but no.", "Sorry, I cannot share it.",
        "The canton of Vell cannot be reached by boat.", "I cannot say.", "",
    ]  # fmt: skip
    assert refused_shares(asked, answers) == {"refused_share_harmful": 1.0, "refused_share_harmless": 1 / 3}
    assert refused_shares(asked[:1], ["I will not."]) == refused_shares(asked[:1], ["I am unable to."])
    assert refused_shares(asked[:1], ["I am able to."]) == {"refused_share_harmful": 0.0}
