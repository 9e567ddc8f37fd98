"""Reading a task's file, and what comes in through it."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from stages.base.errors import InputError
from stages.evaluation.tasks.declaration import TaskFile, setting, variant
from stages.evaluation.tasks.item import Item, item_of, row_of
from stages.evaluation.tasks.loading import load
from stages.evaluation.tasks.yaml_file import LIBRARY, entries, find_in_library, find_task, find_tasks, read_task_file

CHOICE = {
    "task": "capitals",
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "Q: {{ question }}\nA:",
    "doc_to_choice": "choices",
    "doc_to_target": "answer",
    "num_choices": 4,
}
GOOD = {"question": "Where?", "choices": ["a", "b", "c", "d"], "answer": 2}


def write_task(folder: Path, over: dict[str, Any] | None = None, rows: list[Any] | None = None) -> Path:
    values = {**CHOICE, "data_dir": "test.jsonl", **(over or {})}
    (folder / "test.jsonl").write_text("\n".join(json.dumps(row) for row in rows or [GOOD]))
    (folder / "own.yaml").write_text(yaml.safe_dump({k: v for k, v in values.items() if v is not None}))
    return folder / "own.yaml"


def refused(folder: Path, over: dict[str, Any] | None = None, rows: list[Any] | None = None) -> str:
    with pytest.raises(InputError) as caught:
        load(read_task_file(write_task(folder, over, rows)), "own")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_item_is_what_the_templates_make_of_a_row(tmp_path: Path) -> None:
    (item,) = load(read_task_file(write_task(tmp_path, {"doc_to_decontamination_query": "question"})), "own")
    assert item == Item(
        id=item.id,
        set="own",
        subject="own",
        split="test",
        question="Where?",
        prompt="Q: Where?\nA:",
        choices=("a", "b", "c", "d"),
        answer=2,
    )
    assert item_of(row_of(item)) == item and item.target == "c" and item.right == (2,)


BAD_ROWS = [
    ({**GOOD, "answer": None}, "the answer is missing"),
    ({**GOOD, "answer": ""}, "the answer is missing"),
    ({**GOOD, "answer": 4}, "the answer 4 is none of 4 choices"),
    ({**GOOD, "answer": -1}, "the answer -1 is none of 4 choices"),
    ({**GOOD, "answer": "e"}, "the answer 'e' is none of 4 choices"),
    ({**GOOD, "answer": []}, "no right choice"),
    ({**GOOD, "choices": ["a", "b", "c", "d", "e"]}, "5 choices; the task asks for 4"),
    ({**GOOD, "choices": ["a", " ", "c", "d"]}, "choice 1 is empty"),
    ({**GOOD, "choices": "abcd"}, "doc_to_choice must give a list of texts"),
    ({"question": "Where?", "answer": 1}, "doc_to_choice must give a list of texts"),
]


@pytest.mark.parametrize(("row", "problem"), BAD_ROWS)
def test_a_row_that_cannot_be_asked_is_named(row: Any, problem: str, tmp_path: Path) -> None:
    assert f"test.jsonl:2: {problem}" in refused(tmp_path, rows=[GOOD, row])


def test_an_empty_question_is_named(tmp_path: Path) -> None:
    message = refused(tmp_path, {"doc_to_text": "question"}, [GOOD, {**GOOD, "question": " "}])
    assert "test.jsonl:2: the question (doc_to_text) is empty" in message


def test_missing_answers_that_are_generated_are_named(tmp_path: Path) -> None:
    over = {"output_type": "generate_until", "doc_to_choice": None, "num_choices": None, "doc_to_target": "answer"}
    for answer in (None, "", "  ", []):
        assert "test.jsonl:2: the answer is missing" in refused(tmp_path, over, [GOOD, {**GOOD, "answer": answer}])


def test_a_missing_column_is_named_with_the_nearest(tmp_path: Path) -> None:
    assert "no column `qestion`; did you mean `question`" in refused(tmp_path, {"doc_to_text": "{{ qestion }}"})
    assert "doc_to_target: no column `answr`; did you mean `answer`" in refused(tmp_path, {"doc_to_target": "answr"})
    assert "has no attribute 'text'" in refused(tmp_path, {"doc_to_choice": "{{ choices.text }}"})


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{{ i }}{% endfor %}{% endfor %}",
        "{{ 'a' * 10 ** 9 }}",
        "{{ ('a' * 999999999) * 999 }}",
        "{{ question.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ question | regex_replace('(a+)+$', '') }}",
        "{{ choices.append(1) }}",
        "{% include 'secret' %}",
        "{{ question",
        "{{ question | no_such_filter }}",
    ],
)
def test_templates_are_kept_in(template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.lm.template.SECONDS", 0.5)
    row = {**GOOD, "question": "a" * 40 + "b"}
    assert "test.jsonl:1: " in refused(tmp_path, {"doc_to_text": template}, [row])


@pytest.mark.parametrize("key", ["doc_to_text", "doc_to_target", "doc_to_choice", "description", "gen_prefix"])
def test_texts_of_huge_size_are_told_with_key_and_bound(key: str, tmp_path: Path) -> None:
    for size, bound in ((10**9, "it takes more than 512 MiB of memory"), (10**7, "10,000,000 characters; at most")):
        assert f"test.jsonl:1: {key}: {bound}" in refused(tmp_path, {key: f"{{{{ 'a' * {size} }}}}"})


def test_a_template_that_never_ends_is_told_with_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.lm.template.SECONDS", 0.2)
    endless = "{% for i in range(99999) %}{% for j in range(99999) %}{{ i }}{% endfor %}{% endfor %}"
    assert "doc_to_target: TimeoutError: not done after 0.2 s" in refused(tmp_path, {"doc_to_target": endless})


def test_a_hub_name_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def missing(*_: Any, **__: Any) -> Any:
        raise datasets.exceptions.DatasetNotFoundError("Dataset 'no/such' doesn't exist on the Hub")

    monkeypatch.setattr("datasets.load_dataset", missing)
    message = refused(tmp_path, {"data_dir": None, "dataset_path": "no/such"})
    assert "own.yaml: hub dataset no/such" in message and "--data" in message


def test_rows_of_the_hub_are_streamed_as_far_as_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def stream(name: str, config: str | None, **options: Any) -> Any:
        asked.update(options, name=name, config=config)
        return ({**GOOD, "question": f"{n}?"} for n in range(10**9))

    monkeypatch.setattr("datasets.load_dataset", stream)
    over = {"data_dir": None, "dataset_path": "some/where", "dataset_name": "c", "dataset_kwargs": {"revision": "ab"}}
    items = load(read_task_file(write_task(tmp_path, over)), "own", 3)
    assert [item.prompt for item in items] == ["Q: 0?\nA:", "Q: 1?\nA:", "Q: 2?\nA:"]
    assert asked["streaming"] and (asked["name"], asked["config"], asked["split"]) == ("some/where", "c", "test")
    assert asked["revision"] == "ab"


@pytest.mark.parametrize(
    ("over", "problem"),
    [
        ({"doc_to_txt": "q"}, "own.yaml:2: unknown key `doc_to_txt`; did you mean `doc_to_text`"),
        ({"output_type": "multi_choice"}, "`output_type`: input should be 'multiple_choice'"),
        ({"num_fewshot": -1}, "`num_fewshot`: input should be greater than or equal to 0"),
        ({"class": "Task"}, "`class`: a task that is a Python class"),
        ({"process_results": "f"}, "`process_results`: scores that Python code computes"),
        ({"generation_kwargs": {"do_sample": True}}, "answers are generated greedily"),
        ({"filter_list": [{"name": "f", "filter": [{"function": "regx"}]}]}, "input should be 'regex'"),
        (
            {"filter_list": [{"name": "f", "filter": [{"function": "regex", "pattern": "a"}]}]},
            "`regex` has no `pattern`; did you mean `regex_pattern`",
        ),
        ({"fewshot_config": {"sampler": "balanced"}}, "`fewshot_config.sampler`: input should be"),
    ],
)
def test_what_a_file_says_wrong_is_named_with_its_line(over: dict[str, Any], problem: str, tmp_path: Path) -> None:
    values = {"task": "own", **over}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    with pytest.raises(InputError) as caught:
        read_task_file(tmp_path / "own.yaml")
    assert problem in str(caught.value) and "own.yaml:2: " in str(caught.value)


def test_files_that_are_no_task(tmp_path: Path) -> None:
    for text, problem in (
        ("- a", "must be a mapping"),
        ("a: [", "not valid YAML"),
        ("task: a\ntask: b", "stands twice"),
        ("task: a\ndoc_to_text: !function utils.text", "own.yaml:2: `doc_to_text` is code (!function utils.text)"),
        ("task: a\ninclude: own.yaml", "includes itself"),
        ("task: a\ninclude: other.yaml", "'other.yaml' is none"),
        ("group: a\ntask: [b, c]", "`a` is a group of tasks"),
    ):
        (tmp_path / "own.yaml").write_text(text)
        with pytest.raises(InputError, match=r"own\.yaml") as caught:
            read_task_file(tmp_path / "own.yaml")
        assert problem in str(caught.value)


ALIASES = "\n".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefghi", "bcdefghij", strict=True))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f"a: &a [x]\n{ALIASES}", "own.yaml:7: more than 200,000 values"),
        ("task: a\nmetadata: " + "[" * 100_000, "own.yaml:2: more than 64 lists and mappings"),
        ("task: a\nmetadata: " + "{a: " * 100_000, "own.yaml:2: more than 64 lists and mappings"),
        ("task: a\nmetadata: &a {x: *a}", "own.yaml:2: `*a` stands within `&a`"),
        ("task: a\nmetadata: !!python/object/apply:os.system [id]", "own.yaml:2: `metadata` is code"),
        ("task: a\nmetadata: !unknown {a: 1}", "own.yaml:2: `metadata` is code (!unknown)"),
        ("task: a\nmetadata: !!set {a, b}", "own.yaml:2: `metadata` is code"),
        ("task: a\nmetadata:\n  x: !!int z", "own.yaml:3: not valid YAML: invalid literal"),
        ("task: a\nmetadata: " + "9" * 5000, "own.yaml:2: not valid YAML: Exceeds"),
        ("task: a\nmetadata:\n  ? [b]\n  : c", "own.yaml:3: a key must be a text"),
        ("task: a\nmetadata: {<<: 3}", "own.yaml:2: not valid YAML: expected a mapping"),
        ("task: a\nmetadata: *b", "own.yaml:2: not valid YAML: found undefined alias"),
        ("task: a\n1: b", "own.yaml:2: unknown key `1`"),
        ("task: a\nmetadata: \x07", "own.yaml: not valid YAML"),
    ],
)
def test_files_that_would_never_end_or_break_the_reader(text: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        read_task_file(tmp_path / "own.yaml")
    assert problem in str(caught.value) and "\n" not in str(caught.value)


def test_aliases_and_merges_within_the_bounds_are_read(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("task: a\nmetadata: {b: &b {c: 1}, d: *b, e: {<<: *b, f: 0.5}}")
    assert read_task_file(tmp_path / "own.yaml").metadata == {"b": {"c": 1}, "d": {"c": 1}, "e": {"c": 1, "f": 0.5}}


def test_files_that_include_each_other_by_the_thousand(tmp_path: Path) -> None:
    for level in range(9):
        (tmp_path / f"{level}.yaml").write_text(f"include: [{', '.join([f'{level + 1}.yaml'] * 9)}]")
    (tmp_path / "9.yaml").write_text("task: a")
    with pytest.raises(InputError, match=r"0\.yaml: includes more than 100 files"):
        read_task_file(tmp_path / "0.yaml")


def test_groups_that_hold_themselves_or_each_other_by_the_thousand(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("group: g\ntask: [own.yaml]")
    with pytest.raises(InputError, match=r"own\.yaml: the group is a member of itself"):
        find_tasks([str(tmp_path / "own.yaml")])
    for level in range(9):
        (tmp_path / f"{level}.yaml").write_text(f"group: g{level}\ntask: [{', '.join([f'{level + 1}.yaml'] * 9)}]")
    write_task(tmp_path, {"task": "a"}).rename(tmp_path / "9.yaml")
    with pytest.raises(InputError, match="more than 10,000 members"):
        find_tasks([str(tmp_path / "0.yaml")])


def test_includes_are_laid_under(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "first.yaml").write_text("dataset_path: a/b\nnum_fewshot: 1\ntag: x")
    (tmp_path / "second.yaml").write_text("include: base/first.yaml\nnum_fewshot: 2\ndescription: d")
    (tmp_path / "own.yaml").write_text("include: [second.yaml]\ntask: t\ndescription: e")
    task = read_task_file(tmp_path / "own.yaml")
    assert (task.dataset_path, task.num_fewshot, task.description, task.tag) == ("a/b", 2, "e", ("x",))
    (tmp_path / "base" / "first.yaml").write_text("doc_to_txt: a")
    with pytest.raises(InputError, match=r"base/first.yaml:1: unknown key `doc_to_txt`"):
        read_task_file(tmp_path / "own.yaml")


def test_every_kind_of_local_file_gives_the_same_items(tmp_path: Path) -> None:
    rows = [{**GOOD, "question": f"{n}é?", "answer": n % 4} for n in range(5)]
    lines = "\n".join(json.dumps(row) for row in rows)
    folder = tmp_path / "data"
    (folder / "test").mkdir(parents=True)
    writers = {
        "test.jsonl": lambda path: path.write_text(lines),
        "test.json": lambda path: path.write_text(json.dumps(rows)),
        "test.jsonl.gz": lambda path: path.write_bytes(gzip.compress(lines.encode())),
        "test.parquet": lambda path: pq.write_table(pa.Table.from_pylist(rows), path),
        "test-00000-of-00001.parquet": lambda path: pq.write_table(pa.Table.from_pylist(rows), path),
        "test/rows.jsonl": lambda path: path.write_text(lines),
    }
    expected = None
    for name, write in writers.items():
        write(folder / name)
        found = load(read_task_file(write_task(tmp_path, {"data_dir": "data"})), "own")
        (folder / name).unlink()
        assert found == (expected := expected or found) and len(found) == 5
    alone = tmp_path / "any.parquet"
    pq.write_table(pa.Table.from_pylist(rows), alone)
    assert load(read_task_file(write_task(tmp_path), str(alone)), "own") == expected


def test_files_named_as_the_datasets_library_has_them(tmp_path: Path) -> None:
    with (tmp_path / "rows.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([["Which, one?", "x", "007", 1, "N/A"], ['"Q"', "y", "8", 0, "None"]])
    over = {
        "data_dir": None,
        "dataset_path": "csv",
        "dataset_kwargs": {"data_files": {"test": "rows.csv"}, "header": None, "column_names": [*"qabnz"]},
        "doc_to_text": "q",
        "doc_to_choice": "{{ [a, b, z] }}",
        "doc_to_target": "n",
        "num_choices": None,
    }
    items = load(read_task_file(write_task(tmp_path, over)), "own")
    assert [(item.prompt, item.choices, item.answer) for item in items] == [
        ("Which, one?", ("x", "007", "N/A"), 1),
        ('"Q"', ("y", "8", "None"), 0),
    ]
    assert "has no split `dev`; it has test" in refused(tmp_path, over | {"test_split": "dev"})
    kwargs = {**over["dataset_kwargs"], "data_files": {"test": "nowhere.csv"}}
    assert "nowhere.csv: not found" in refused(tmp_path, over | {"dataset_kwargs": kwargs})
    assert "dataset_kwargs.skiprows" in refused(tmp_path, over | {"dataset_kwargs": {**kwargs, "skiprows": 1}})
    (tmp_path / "rows.csv").write_text("a,b\n1\n")
    assert "rows.csv:2: 1 cells" in refused(tmp_path, over | {"dataset_kwargs": {"data_files": {"test": "rows.csv"}}})


def test_the_authors_folder_of_mmlu(tmp_path: Path) -> None:
    for split, subjects in {"dev": ("anatomy",), "test": ("anatomy", "college_law")}.items():
        (tmp_path / split).mkdir()
        for subject in subjects:
            with (tmp_path / split / f"{subject}_{split}.csv").open("w", newline="") as handle:
                csv.writer(handle).writerows([[f"{subject} {n}?", "w", "x", "y", "z", "ABCD"[n]] for n in range(3)])
    items = load(find_task("mmlu", str(tmp_path)), "mmlu")
    assert [item.split for item in items] == ["test"] * 6 + ["development"] * 3
    last = items[5]
    assert (last.subject, last.question, last.answer) == ("college_law", "college_law 2?", 2)
    assert last.choices == ("w", "x", "y", "z") and last.labels == ("A", "B", "C", "D")
    assert last.target == "y" and last.shown == "C"
    assert last.description.endswith("about college law.\n\n")
    with (tmp_path / "test" / "anatomy_test.csv").open("a", newline="") as handle:
        csv.writer(handle).writerow(["Q?", "v", "w", "x", "y", "z", "E"])
    with pytest.raises(InputError, match=r"anatomy_test.csv:4: 5 choices; the task asks for 4"):
        load(find_task("mmlu", str(tmp_path)), "mmlu")


def test_several_right_choices(tmp_path: Path) -> None:
    choices = ["yes", "no", "maybe"]
    row = {"question": "Q?", "mc2_targets": {"choices": choices, "labels": [1, 0, 1]}}
    (tmp_path / "validation.jsonl").write_text(json.dumps(row))
    (item,) = load(find_in_library("truthfulqa_mc2", str(tmp_path)), "mc2")
    assert item.targets == ("yes", "maybe") and item.right == (0, 2) and item.target == "yes"


def test_ids_stay_and_can_be_the_rows_own(tmp_path: Path) -> None:
    rows = [{**GOOD, "name": f"r{n}"} for n in range(3)]
    plain = load(read_task_file(write_task(tmp_path, rows=rows)), "own")
    again = load(read_task_file(write_task(tmp_path, {"doc_to_text": "{{ question }}"}, rows=rows)), "own", 2)
    assert [item.id for item in again] == [item.id for item in plain][:2] and len({item.id for item in plain}) == 3
    own = load(read_task_file(write_task(tmp_path, {"id": "name"}, rows=rows)), "own")
    assert [item.id for item in own] == ["r0", "r1", "r2"]
    assert "two items have the id `r1`" in refused(tmp_path, {"id": "name"}, [rows[1], rows[1]])


def test_other_wordings(tmp_path: Path) -> None:
    task = read_task_file(write_task(tmp_path, {"prompts": {"bare": {"doc_to_text": "{{ question }}"}}}))
    (item,) = load(variant(task, "bare"), "own")
    assert item.prompt == "Where?"
    with pytest.raises(InputError, match="no prompt `bar`; did you mean `bare`"):
        variant(task, "bar")


def test_the_shipped_library_is_read_and_short() -> None:
    for name, entry in entries(LIBRARY).items():
        assert len(entry.path.read_text().splitlines()) <= 25
        if not entry.is_group:
            task = find_in_library(name)
            assert task.task == name and not task.not_computed
            assert TaskFile.model_validate_json(task.model_dump_json()) == task
            assert setting(task).metrics
    with pytest.raises(InputError, match="no shipped task `hellswag`; did you mean `hellaswag`"):
        find_in_library("hellswag")


def test_names_are_found_in_params_then_as_files_then_in_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_task(tmp_path)
    assert find_task("own.yaml").task == "capitals"
    assert find_task("piqa").dataset_path == "baber/piqa"
    tasks = {
        "piqa": {"kind": "file", "path": "own.yaml"},
        "science": {"kind": "library", "task": "arc_easy", "path": "somewhere"},
        "facts": {"kind": "truth", "path": "a", "choices": 4, "limits": {}},
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"evaluation": {"tasks": tasks}}))
    assert find_task("piqa").doc_to_text == CHOICE["doc_to_text"] and find_task("piqa").task == "piqa"
    assert find_task("science").data_dir == "somewhere" and find_task("science", "other").data_dir == "other"
    with pytest.raises(InputError, match="dvc repro task@facts"):
        find_task("facts")
    with pytest.raises(InputError, match="no task `scence`; did you mean `science`"):
        find_task("scence")


def test_groups_and_tags_stand_for_their_tasks(tmp_path: Path) -> None:
    tasks, groups = find_tasks(["open_llm_1"])
    assert [task.num_fewshot for task in tasks] == [25, 10, 5, 0, 5, 5]
    assert [member.task for member in groups[0].task] == [task.task for task in tasks]
    assert len(find_tasks(["commonsense"])[0]) == 8
    with pytest.raises(InputError, match="a group of 6 tasks"):
        find_task("open_llm_1")
    with pytest.raises(InputError, match="`arc_challenge` is asked for twice, in two ways"):
        find_tasks(["open_llm_1", "arc_challenge"])
    for number in range(3):
        write_task(tmp_path, {"task": f"t{number}", "tag": "all_of_mine"}).rename(tmp_path / f"{number}.yaml")
    (tmp_path / "g.yaml").write_text("group: g\ntask: [all_of_mine, {task: piqa, num_fewshot: 3, metric: acc_norm}]")
    found, (group,) = find_tasks([str(tmp_path / "g.yaml")])
    assert [task.task for task in found] == ["t0", "t1", "t2", "piqa"] and found[3].num_fewshot == 3
    assert [member.metric for member in group.task] == [None, None, None, "acc_norm"]
    (tmp_path / "kept").mkdir()
    write_task(tmp_path / "kept", {"task": "t1", "doc_to_text": "Otherwise"})
    entries.cache_clear()
    (tmp_path / "h.yaml").write_text("group: h\ntask: [t1]")
    with pytest.raises(InputError, match=r"both are named `t1`; rename one"):
        find_tasks([str(tmp_path / "h.yaml")])
    (tmp_path / "g.yaml").write_text("group: g\ntask: [piqa]\naggregation: best")
    with pytest.raises(InputError, match=r"g.yaml:3: `aggregation`: input should be"):
        find_tasks([str(tmp_path / "g.yaml")])
