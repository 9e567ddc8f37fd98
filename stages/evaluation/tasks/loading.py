"""Items of a task's documents: each worded by the templates of the task's file, and refused where it can't be asked."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stages.base.errors import InputError
from stages.evaluation.tasks.declaration import TaskFile
from stages.evaluation.tasks.documents import Document, documents, has_split
from stages.evaluation.tasks.item import Item, item_of
from stages.evaluation.tasks.template import NAME, Columns, literal, render_key, rendering, value_of

SEPARATOR = "\x1f"


def load(task: TaskFile, key: str, limit: int | None = None) -> list[Item]:
    """Items of the split that is asked (`test`, the first `limit`), of the validation split where it is another one,
    and of the split that examples are drawn from (`development`), unless they are drawn from those that are asked.

    Raises InputError naming the file and the item that can't be asked.
    """
    if task.built:
        return _built(task, limit)
    asked = task.evaluated_split
    items = _items(task, key, "test", asked, limit)
    if not items:
        raise InputError(f"{task.file}: the split `{asked}` has no documents")
    other = task.validation_split
    if other not in (None, asked, task.shots_split) and has_split(task, other):
        items += _items(task, key, "validation", other, limit)
    if draws_from_others(task):
        items += _examples(task, key)
    seen: dict[str, Item] = {}
    for item in items:
        if seen.setdefault(item.id, item) is not item:
            raise InputError(f"{task.file}: two items have the id `{item.id}`; name another column as `id`")
    return items


def _built(task: TaskFile, limit: int | None) -> list[Item]:
    from stages.base.schemas import TASK
    from stages.base.tables import read_table

    items = [item_of(row) for row in read_table(task.built, TASK).to_pylist()]
    asked = [item for item in items if item.split == "test"]
    return asked[:limit] + [item for item in items if item.split != "test"]


def draws_from_others(task: TaskFile) -> bool:
    """Whether examples are other items than those that are asked."""
    shots = task.fewshot_config
    reworded = (shots.doc_to_text, shots.doc_to_target, shots.doc_to_choice) != (None, None, None)
    named = task.shots_split != task.evaluated_split
    return shots.samples is not None or reworded or (named and has_split(task, task.shots_split))


def _items(task: TaskFile, key: str, split: str, source: str | None, limit: int | None) -> list[Item]:
    wording = Wording.of_questions(task)
    found = documents(task, source, limit)
    return [wording.item(document, key, split, number) for number, document in enumerate(found)]


def _examples(task: TaskFile, key: str) -> list[Item]:
    wording = Wording.of_shots(task)
    if (given := task.fewshot_config.samples) is not None and task.fewshot_config.split is None:
        found = [Document(f"{task.file}: sample {number}", dict(row)) for number, row in enumerate(given)]
    else:
        found = documents(task, task.shots_split)
    return [wording.item(document, key, "development", number) for number, document in enumerate(found)]


@dataclass(frozen=True)
class Wording:
    """The templates that make an item of a document."""

    task: TaskFile
    text: str | int
    target: Any
    choice: str | tuple[str, ...] | None

    @classmethod
    def of_questions(cls, task: TaskFile) -> "Wording":
        return cls(task, task.doc_to_text, task.doc_to_target, task.doc_to_choice)

    @classmethod
    def of_shots(cls, task: TaskFile) -> "Wording":
        shots = task.fewshot_config
        return cls(
            task,
            task.doc_to_text if shots.doc_to_text is None else shots.doc_to_text,
            task.doc_to_target if shots.doc_to_target is None else shots.doc_to_target,
            task.doc_to_choice if shots.doc_to_choice is None else shots.doc_to_choice,
        )

    def item(self, document: Document, key: str, split: str, number: int) -> Item:
        """Raises InputError with file and item for one that can't be asked, or for which a template fails."""
        task, columns = self.task, document.columns
        with rendering(f"{task.file}: {document.place}", columns):
            text = value_of("doc_to_text", self.text, columns, choosing=self.choice is not None)
            fields = self._asked(text, columns)
            subject = self._named("subject", task.subject, columns) or key
            said = self._named("id", task.id, columns)
            own = hashlib.sha256(SEPARATOR.join((key, split, subject, str(number))).encode()).hexdigest()[:16]
            described = "{" in task.description or task.description in columns
            return Item(
                id=said or own,
                set=key,
                subject=subject,
                split=split,
                cluster=self._named("cluster", task.cluster, columns),
                description=self._said("description", task.description, columns) if described else "",
                **{"question": "" if "question" in fields else self._bare(fields, columns), **fields},
            )

    def _asked(self, text: Any, columns: Columns) -> dict[str, Any]:
        match self.task.output_type:
            case "loglikelihood_rolling":
                scored = self._named("doc_to_target", self.target, columns)
                _filled("the text (doc_to_target)", scored)
                counted = self._named("doc_to_counted", self.task.doc_to_counted, columns)
                return {"prompt": "", "question": scored, "counted": counted}
            case "multiple_choice":
                return self._chosen(text, columns)
        prompt = self._prompt(text, columns)
        target = self._target(columns)
        if self.choice is not None:
            choices = self._choices(columns)
            target = choices[_index(target, choices)]
        targets = tuple(map(str, target)) if isinstance(target, list | tuple) else (str(target),)
        if self.task.output_type == "loglikelihood" and len(targets) != 1:
            raise InputError(f"{len(targets)} answers; a loglikelihood task scores one")
        if not targets or not all(one.strip() for one in targets) or target is None:
            raise InputError("the answer is missing (doc_to_target)")
        return {"prompt": prompt, "targets": targets}

    def _chosen(self, text: Any, columns: Columns) -> dict[str, Any]:
        choices, labels = self._choices(columns), tuple[str, ...]()
        if self.task.options is not None:
            labels, choices = choices, self._choices(columns, "options", self.task.options)
            labels = labels[: len(choices)]
        wanted = self.task.num_choices
        if len(choices) < 2 or (wanted is not None and len(choices) != wanted):
            raise InputError(f"{len(choices)} choices; the task asks for {wanted or 'two at least'}")
        if not all(choice.strip() for choice in choices):
            raise InputError(f"choice {[bool(choice.strip()) for choice in choices].index(False)} is empty")
        target = self._target(columns)
        if isinstance(text, int):  # the place of the right context; what follows them is the target
            answer = _index(text, choices)
            _filled("what follows the contexts (doc_to_target)", str(target))
            contexts = tuple(self._with_prefix(choice, columns) for choice in choices)
            found = {"choices": choices, "answer": answer, "contexts": contexts, "targets": (str(target),)}
            return found | {"prompt": contexts[answer]}
        several = isinstance(target, list | tuple)
        right = [_index(one, labels or choices) for one in (target if several else [target])]
        if not right:
            raise InputError("no right choice (doc_to_target)")
        return {
            "prompt": self._prompt(text, columns),
            "choices": choices,
            "answer": right[0],
            "targets": tuple(choices[index] for index in right) if len(right) > 1 else (),
            "labels": labels,
        }

    def _choices(self, columns: Columns, key: str = "doc_to_choice", source: Any = None) -> tuple[str, ...]:
        found: Any = self.choice if source is None else source
        if isinstance(found, str):
            found = value_of(key, found, columns, choosing=False)
            found = literal(found) if isinstance(found, str) else found
        if not isinstance(found, list | tuple):
            raise InputError(f"{key} must give a list of texts, got {str(found)[:60]!r}")
        return tuple("" if choice is None else str(choice) for choice in found)

    def _target(self, columns: Columns) -> Any:
        if not isinstance(self.target, str | int):
            return self.target
        found = value_of("doc_to_target", self.target, columns, choosing=self.choice is not None)
        if found is None:
            raise InputError("the answer is missing (doc_to_target)")
        templated = isinstance(self.target, str) and self.target not in columns
        return literal(found) if templated and isinstance(found, str) else found

    def _prompt(self, text: Any, columns: Columns) -> str:
        text = str(text)
        if self.text != "":
            _filled("the question (doc_to_text)", text)
        return self._with_prefix(text, columns)

    def _with_prefix(self, text: str, columns: Columns) -> str:
        """With what the answer begins with; lm-eval joins them as a question and its answer."""
        prefix = self._said("gen_prefix", self.task.gen_prefix, columns)
        if not prefix:
            return text
        if prefix[-1].isspace() or self.task.target_delimiter != " ":
            raise InputError("gen_prefix that ends in a space, or with a target_delimiter, can't stand before examples")
        apart = text and not text[-1].isspace() and not prefix[0].isspace()
        return f"{text} {prefix}" if apart else text + prefix

    def _bare(self, fields: Mapping[str, Any], columns: Columns) -> str:
        """What overlap with a corpus looks for."""
        query = self.task.doc_to_decontamination_query
        if query and (query in columns or not NAME.fullmatch(query)):
            return self._said("doc_to_decontamination_query", query, columns)
        if fields["prompt"].strip():
            return fields["prompt"]
        return fields["choices"][fields["answer"]] if fields.get("choices") else fields["targets"][0]

    def _named(self, key: str, source: str | None, columns: Columns) -> str:
        """Of a column or a template; "" for none."""
        if not source:
            return ""
        found = value_of(key, source, columns, choosing=False)
        return "" if found is None else str(found)

    @staticmethod
    def _said(key: str, source: str, columns: Columns) -> str:
        """Of a column or a template; a word that is no column is a text like any other."""
        return str(columns[source]) if source in columns else render_key(key, source, columns)


def _filled(what: str, text: str) -> None:
    if not text.strip():
        raise InputError(f"{what} is empty")


def _index(said: Any, choices: tuple[str, ...]) -> int:
    """Of an index, or of the right choice's text. Raises InputError for one outside the choices."""
    if isinstance(said, float) and said.is_integer():
        said = int(said)
    if isinstance(said, str) and said in choices:
        return choices.index(said)
    if isinstance(said, int) and 0 <= said < len(choices):
        return int(said)
    if said is None or said == "":
        raise InputError("the answer is missing (doc_to_target)")
    raise InputError(f"the answer {said!r} is none of {len(choices)} choices")
