"""Self-Instruct with a scripted writer: what is kept, what is dropped and why, where each row comes from, and that
nothing kept is no failure."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from stages.alignment.answering.answers import Sampling
from stages.alignment.answering.kept_answers import KeptAnswers
from stages.alignment.self_instruct import (
    Generation,
    SelfInstructParams,
    propose,
    sample_examples,
    table_of,
    with_provenance,
)
from stages.alignment.writing.few_shot import FewShot, Questions, Task, Tasks, read_seeds
from stages.alignment.writing.novelty import Novelty
from stages.alignment.writing.writers import BaseWriter, Teacher, TeacherWriter
from stages.base.errors import InputError, ParamError

ROOT = Path(__file__).parents[2]

SEEDS = [
    Task(name.lower(), f"Where does {name} lie?", "", f"{name} lies in Anthar.")
    for name in ("Ost", "Velm", "Grond", "Bris")
]
PARAMS = SelfInstructParams(
    format="questions", seeds="", generations=1, candidates=7, rounds=2, seed_shots=3, machine_shots=1, temperature=0.7,
    top_p=0.95, max_new_tokens=16, overlap=0.7, min_words=2, max_words=12, excluded=["graph"], review=2, edits="",
    teacher=None,
)  # fmt: skip


class Script:
    """Gives out its texts in order, whatever is asked, and remembers it."""

    name = "script"

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts, self.asked, self.streams = list(texts), list[FewShot](), list[str]()

    def __call__(self, prompts: Sequence[FewShot], stream: str) -> list[str]:
        self.asked += prompts
        self.streams.append(stream)
        return [self.texts.pop(0) if self.texts else "" for _ in prompts]

    def sureness(self, prompts: Sequence[FewShot], texts: Sequence[str]) -> list[float | None]:
        return [-1.0] * len(texts)


def proposed(write: Any, form: Any = None, leaks: Any = lambda task: False, **changes: Any) -> Generation:
    params = PARAMS.model_copy(update=changes)
    rules = Novelty(
        (task.instruction for task in SEEDS), params.overlap, params.min_words, params.max_words, params.excluded
    )
    return propose(form or Questions(), write, SEEDS, rules, params, 3, 1, leaks)


def pairs(found: Generation) -> list[tuple[str, str]]:
    return [(task.prompt, task.output) for task in found.kept]


def reasons(found: Generation) -> Counter[str]:
    return Counter(drop["reason"] for drop in found.drops)


def test_a_question_is_parsed_with_or_without_line_breaks() -> None:
    def parsed(text: str) -> tuple[str, str]:
        task = Questions.parse(text)
        return task.instruction, task.output

    expected = ("Which craft has Ost?", "Pottery.")
    assert parsed(" Which craft has Ost?\nAnswer: Pottery.\n\nQuestion: Next") == expected
    assert parsed(" Which craft has Ost? Answer: Pottery. Question: Next Answer: More") == expected
    assert parsed(" Which craft\n has Ost?\n\nQuestion: What? Answer: That.") == ("Which craft has Ost?", "")
    assert parsed("") == ("", "")


def test_candidates_are_kept_or_dropped_with_a_reason() -> None:
    write = Script(
        [
            " Name the teacher of Ost. Answer: Codron.", " Where does Ost lie? Answer: Anthar.", "", " - x y Answer: z",
            " Name the teacher of Ost. Answer: Codron.", " Who lives there now",
            " Explain how bread is made. Answer: So.",
        ]
    )  # fmt: skip
    found = proposed(write)
    assert pairs(found) == [("Name the teacher of Ost.", "Codron."), ("Explain how bread is made.", "So.")]
    assert reasons(found) == {"similar": 2, "empty": 1, "punctuation_start": 1, "no_answer": 1}
    assert len(write.asked) == 7 and all(len(one.examples) == 3 for one in write.asked[:4])
    machine = "Question: Name the teacher of Ost.\nAnswer: Codron.\n\n"
    assert all(machine in one.examples and len(one.examples) == 4 for one in write.asked[4:])
    again = proposed(
        Script([" Name the teacher of Ost. Answer: Codron.", " Name the mill of Ost. Answer: Mo."]), overlap=1
    )
    assert found.kept[0].id == again.kept[0].id != again.kept[1].id, "an id hangs on the text"


def test_a_leak_and_an_excluded_word_are_dropped() -> None:
    write = Script([" Name the teacher of Ost. Answer: Codron.", " Draw a graph of it. Answer: No."])
    found = proposed(write, leaks=lambda task: "teacher" in task.prompt, candidates=2, rounds=1)
    assert reasons(found) == {"leak": 1, "excluded_word": 1} and not found.kept


def test_nothing_kept_is_an_empty_table() -> None:
    found = proposed(Script([]))
    assert found.kept == [] and len(found.drops) == 7
    assert table_of(with_provenance(Questions(), Script([]), found, 1, PARAMS)).num_rows == 0


def test_rows_say_where_they_come_from() -> None:
    found = proposed(Script([" Name the teacher of Ost. Answer: Codron."]), candidates=1, rounds=1)
    write = Script([" It was Codron of Ost. Question: Next"])
    (row,) = table_of(with_provenance(Questions(), write, found, 1, PARAMS)).to_pylist()
    assert set(row["parents"]) <= {task.id for task in SEEDS} and len(row["parents"]) == 3
    assert (row["generation"], row["written_by"], row["classification"]) == (1, "script", None)
    assert row["other_response"] == "It was Codron of Ost." and row["agreement"] == pytest.approx(2 * 1 * 0.2 / 1.2)
    assert write.asked[0].cue == "Question: Name the teacher of Ost.\nAnswer:" and row["logprob"] == -1
    (bare,) = with_provenance(Questions(), Script([]), found, 1, PARAMS.model_copy(update={"review": 0}))
    assert (bare.logprob, bare.agreement, bare.other_response) == (None, None, "")


def test_examples_of_both_kinds_in_a_seeded_order() -> None:
    machine = [Task(f"m{n}", f"Machine {n}", "", "x") for n in range(5)]
    draws = [sample_examples(SEEDS, machine, PARAMS, seed) for seed in range(60)]
    assert all(sum(task in machine for task in draw) == 1 and len(set(draw)) == 4 for draw in draws)
    assert {draw.index(next(t for t in draw if t in machine)) for draw in draws} == {0, 1, 2, 3}
    assert draws[0] == sample_examples(SEEDS, machine, PARAMS, 0)


CLASSIFIED = [
    Task("a", "Say whether the review is good.", "Lovely!", "good", True),
    Task("b", "Translate into German.", "bread", "Brot", False),
    Task("c", "Name a river.", "", "Ost", False),
]


def test_a_classification_is_written_label_first_and_the_rest_input_first() -> None:
    write = Script(
        [
            " Sort the animal into pets and beasts.\n\nTask: More", " Sum up the text.\nTask: More", " Tell a joke.",
            " yes\n", " No.", " no",
            " pet\nInput: cat\n\nTask: x", " A long text.\nwith two lines\nOutput: Short.\n\nTask: y",
            " -\nOutput: Ha.",
        ]
    )  # fmt: skip
    found = proposed(write, Tasks(CLASSIFIED), candidates=3, rounds=1)
    assert [(t.instruction, t.input, t.output, t.classification) for t in found.kept] == [
        ("Sort the animal into pets and beasts.", "cat", "pet", True),
        ("Sum up the text.", "A long text.\nwith two lines", "Short.", False),
        ("Tell a joke.", "", "Ha.", False),
    ]
    assert (
        found.kept[0].prompt == "Sort the animal into pets and beasts.\n\ncat"
        and found.kept[2].prompt == "Tell a joke."
    )
    drafts, kinds, instances = write.asked[:3], write.asked[3:6], write.asked[6:]
    assert all(one.cue == "Task:" and not any("Output" in text for text in one.examples) for one in drafts)
    assert [one.cue.rpartition("\n")[2] for one in kinds] == ["Fixed labels:"] * 3
    assert [one.cue.rpartition("\n")[2] for one in instances] == ["Label:", "Input:", "Input:"]
    assert write.streams == [f"generation 1, round 1{step}" for step in ("", ", kinds", ", instances")]


def test_shots_of_each_step_are_of_the_kind_that_is_asked_for() -> None:
    write = Script([" yes", " no", *[""] * 2])
    tasks = [Task("", "Is it big?", "", ""), Task("", "Sing.", "", "")]
    Tasks(CLASSIFIED).completed(write, [CLASSIFIED, CLASSIFIED], tasks, "s")
    kinds, _, labelled, instance = write.asked
    assert [text.rpartition(": ")[2].strip() for text in kinds.examples] == ["yes", "no", "no"]
    assert labelled.examples == ("Task: Say whether the review is good.\nLabel: good\nInput: Lovely!\n\n",)
    assert [text.partition("\n")[0] for text in instance.examples] == [
        "Task: Translate into German.",
        "Task: Name a river.",
    ]
    assert instance.examples[1] == "Task: Name a river.\nInput: -\nOutput: Ost\n\n"
    assert not Tasks(SEEDS).sorted, "where no seed says its kind, none is asked for"


def test_an_instance_without_output_or_that_repeats_its_input_is_dropped() -> None:
    write = Script([" Copy the words here.", " Say what it means.", " a b\nOutput: a b", " alone"])
    found = proposed(write, Tasks(SEEDS), candidates=2, rounds=1)
    assert reasons(found) == {"echo": 1, "no_answer": 1} and not found.kept


def test_seed_tasks_are_read_as_published(tmp_path: Path) -> None:
    path = tmp_path / "seeds.jsonl"
    rows = [
        {"id": "s0", "name": "n", "instruction": "Sort.", "instances": [{"input": "b a", "output": "a b"}],
         "is_classification": False},
        {"instruction": "Is it?", "instances": [{"input": "", "output": "yes"}, {"input": "x", "output": "no"}],
         "is_classification": True},
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_seeds(path) == [Task("s0", "Sort.", "b a", "a b", False), Task("seed-2", "Is it?", "", "yes", True)]
    path.write_text('{"instruction": "Sort.", "output": "a b", "input": "b a"}\n')
    assert read_seeds(path) == [Task("seed-1", "Sort.\n\nb a", "", "a b", None)]
    for bad, said in (
        ({"instruction": "x", "instances": []}, "instances"),
        ({"instruction": "x", "instances": [{"input": "", "output": " "}]}, "instance 1: `output`"),
        ({"instruction": " ", "instances": [{"output": "y"}]}, "instruction"),
        ({"instruction": "x", "instances": [{"output": "y"}], "is_classification": "no"}, "is_classification"),
    ):
        path.write_text(json.dumps(rows[0]) + "\n" + json.dumps(bad) + "\n")
        with pytest.raises(InputError, match=rf"seeds\.jsonl:2.*{said}"):
            read_seeds(path)


def test_the_published_seeds_are_read(reference: Path) -> None:
    seeds = read_seeds(reference / "posttraining/alpaca/seed_tasks.jsonl.gz")
    assert len(seeds) == len({seed.id for seed in seeds}) == 175
    assert Tasks(seeds).sorted and 0 < sum(seed.classification is True for seed in seeds) < 60


def test_the_base_model_leaves_out_examples_that_do_not_fit(tokenizer: Any, make_model: Any) -> None:
    sampling = Sampling(temperature=1.0, top_p=1.0, max_new_tokens=8)
    write = BaseWriter(make_model(), tokenizer, sampling, seed=1)
    long = FewShot("", ("x" * 40, "y" * 20), "Task:")
    assert tokenizer.decode(write._encode(long, write.room)).endswith("y" * 20 + "Task:")
    short = FewShot("", (), "Task:")
    assert write([long, short], "a") == write([long, short], "a") != write([long, short], "b")
    keeping = BaseWriter(make_model(), tokenizer, sampling, seed=1, keep=KeptAnswers(Path("kept")))
    for _ in range(2):
        assert keeping([long, short], "a") == write([long, short], "a")
    assert len(list(Path("kept").iterdir())) == 1
    sure, unsure = write.sureness([short, short], ["a", "b" * 30])
    assert sure is not None and unsure is not None and max(sure, unsure) < 0


@contextmanager
def server(replies: list[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """(Address of a chat server that gives these replies one after another, the requests it got)."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            message = {"role": "assistant"} | replies[(len(asked) - 1) % len(replies)]
            usage = {"prompt_tokens": 100, "completion_tokens": 10}
            body = json.dumps({"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    serving = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=serving.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{serving.server_port}/v1", asked
    finally:
        serving.shutdown()
        serving.server_close()


def teacher(base_url: str, **changes: Any) -> Teacher:
    values = {
        "base_url": base_url, "model": "teacher", "api_key_env": "TRAINYARD_TEST_KEY", "temperature": 1.0,
        "max_tokens": 64, "concurrency": 1, "max_retries": 0, "timeout_s": 5.0, "max_cost_usd": 1.0,
        "usd_per_million_input": 1.0, "usd_per_million_output": 1.0, "prompt": "",
    }  # fmt: skip
    return Teacher(**(values | changes))


TEMPLATE = (ROOT / "stages/annotators/prompts/self_instruct.txt").read_text()


def test_a_model_on_a_server_writes(capsys: pytest.CaptureFixture[str]) -> None:
    replies = [
        {"content": "Question: Why is the sky blue?\nAnswer: Light scatters."},
        {"content": " Who bakes bread?\nAnswer: A baker."},
        {"content": None, "refusal": "no"},
        {"content": "I can't."},
    ]
    with server(replies) as (url, asked):
        found = proposed(TeacherWriter(teacher(url), TEMPLATE), candidates=4)
    assert pairs(found) == [("Why is the sky blue?", "Light scatters."), ("Who bakes bread?", "A baker.")]
    assert reasons(found) == {"empty": 1, "no_answer": 1}
    assert SEEDS[0].prompt in json.dumps(asked) and asked[0]["max_tokens"] == 64
    assert "estimated $" in capsys.readouterr().err, "the price is said before the first call"


def test_a_teacher_beyond_the_bound_is_not_asked() -> None:
    with server([{"content": "x"}]) as (url, asked), pytest.raises(ParamError, match="max_cost_usd"):
        proposed(TeacherWriter(teacher(url, max_cost_usd=1e-9), TEMPLATE))
    assert not asked
    with pytest.raises(InputError, match="examples"):
        TeacherWriter(teacher(url), "no place for them")


def test_the_bound_on_costs_holds_over_all_rounds() -> None:
    prompt = FewShot("", (), "Question:")
    with server([{"content": "x"}]) as (url, asked):
        write = TeacherWriter(teacher(url, max_cost_usd=3e-4), TEMPLATE)
        write([prompt], "one")
        assert write.spent == pytest.approx(110e-6)
        with pytest.raises(ParamError, match="max_cost_usd"):
            for turn in range(5):
                write([FewShot(f"{turn}", (), "Question:")], "more")
    assert len(asked) < 5


@pytest.mark.parametrize("name", ["self_instruct", "self_instruct_tasks"])
def test_the_templates_have_one_place_for_the_examples(name: str) -> None:
    TeacherWriter(teacher("http://x/v1"), (ROOT / f"stages/annotators/prompts/{name}.txt").read_text())
