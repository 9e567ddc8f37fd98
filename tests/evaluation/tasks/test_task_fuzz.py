"""Whatever a task's file and its rows hold, they are read, or refused in one line."""

import json
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.base.errors import InputError
from stages.evaluation.protocols.task import TASK
from stages.evaluation.tasks.declaration import TaskFile, setting
from stages.evaluation.tasks.groups import Group
from stages.evaluation.tasks.item import item_of, row_of
from stages.evaluation.tasks.loading import load
from stages.evaluation.tasks.yaml_file import read_group_file, read_task_file

plain = (
    st.none()
    | st.booleans()
    | st.integers(-3, 5)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6)
)
value = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
keys = st.sampled_from([*TaskFile.model_fields, *Group.model_fields, "include", "class", "aggregate_metric_list"])
quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(st.dictionaries(keys, value | st.dictionaries(keys, value, max_size=2), max_size=5))
@quick
def test_any_file(tmp_path_factory: Any, given_values: dict[str, Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(yaml.safe_dump(given_values))
    for read in (read_task_file, read_group_file):
        try:
            found = read(path)
        except InputError as error:
            assert "\n" not in str(error) and "any.yaml" in str(error)
        else:
            assert type(found).model_validate_json(found.model_dump_json()) == found
            if isinstance(found, TaskFile):
                setting(found)


templates = st.sampled_from(
    ["q", "c", "a", "{{ q }}", "{{ c }}", "{{ [a, q] }}", "{{ c[0] }}", "{{ a + 1 }}", "", "x y"]
)


@given(
    st.sampled_from(["multiple_choice", "loglikelihood", "loglikelihood_rolling", "generate_until"]),
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("doc_to_text", "doc_to_choice", "doc_to_target", "options"), templates)
    ),
    st.lists(st.fixed_dictionaries({}, optional={"q": value, "c": st.lists(plain, max_size=3) | value, "a": value})),
)
@quick
def test_any_rows(tmp_path_factory: Any, kind: str, wording: dict[str, str], rows: list[dict[str, Any]]) -> None:
    folder: Path = tmp_path_factory.getbasetemp()
    (folder / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows if row))
    task = TaskFile(task="t", output_type=kind, data_dir=str(folder / "rows.jsonl"), **wording)
    try:
        items = load(task, "t")
    except InputError as error:
        assert "\n" not in str(error)
        return
    for item in items:
        assert item_of(row_of(item)) == item and item.question.strip()
        if kind != "loglikelihood_rolling":
            assert TASK.why_not(item) == "" and item.target
            TASK.render(item, items[:1], setting(task))
