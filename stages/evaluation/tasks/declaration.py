"""A task's file: what the keys of its YAML mean and which values they take.

The keys are those of the LM Evaluation Harness (lm-eval 0.4), so that its plain files read unchanged; the last ten are
ours. `yaml_file` reads files, `loading` makes items of one, `shots` chooses examples, `groups` joins several.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints, field_validator, model_validator

from stages.base.contracts import Contract
from stages.base.errors import InputError
from stages.base.params import nearest
from stages.evaluation.protocols.protocol import Setting

OutputType = Literal["multiple_choice", "loglikelihood", "loglikelihood_rolling", "generate_until"]
METRICS: dict[str, tuple[str, ...]] = {
    "multiple_choice": ("acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match", "brier_score", "mc2"),
    "loglikelihood": ("acc", "perplexity"),
    "loglikelihood_rolling": ("word_perplexity", "byte_perplexity", "bits_per_byte"),
    "generate_until": ("exact_match",),
}
"""Those that are computed item by item; the others of a file are in `TaskFile.not_computed`."""
DEFAULT_METRICS = {
    "multiple_choice": ("acc", "acc_norm"),
    "loglikelihood": ("acc", "perplexity"),
    "loglikelihood_rolling": ("word_perplexity", "byte_perplexity", "bits_per_byte"),
    "generate_until": ("exact_match",),
}
FILTERS = {
    "regex": ("regex_pattern", "group_select", "fallback"),
    "take_first": (),
    "remove_whitespace": (),
    "lowercase": (),
    "uppercase": (),
    "map": ("mapping_dict", "default_value"),
}
"""Steps that take an answer out of what was generated, and their arguments."""


def _texts(value: Any) -> Any:
    """One text or several, as `tag` and `until` may have it."""
    return () if value is None else (value,) if isinstance(value, str) else value


Texts = Annotated[tuple[str, ...], BeforeValidator(_texts)]
Name = Annotated[str, StringConstraints(min_length=1)]
Template = str | int
"""The name of a column, or a Jinja template over the columns of a document."""


class Step(Contract):
    """One step of a filter."""

    function: Literal["regex", "take_first", "remove_whitespace", "lowercase", "uppercase", "map"]
    arguments: dict[str, Any] = Field(default={})

    @model_validator(mode="before")
    @classmethod
    def _flat(cls, value: Any) -> Any:
        """Arguments stand beside the function's name."""
        if not isinstance(value, Mapping) or "arguments" in value:
            return value
        given = {name: one for name, one in value.items() if name != "function"}
        known = FILTERS.get(str(value.get("function")), tuple(given))
        if unknown := [name for name in given if name not in known]:
            raise ValueError(f"`{value['function']}` has no `{unknown[0]}`{nearest(unknown[0], list(known))}")
        return {"function": value.get("function"), "arguments": given}


class Filter(Contract):
    """How an answer is taken out of a generated text; each filter gives scores of its own (`exact_match,strict`)."""

    name: Name
    filter: tuple[Step, ...]


class Metric(Contract):
    """What is measured of each item. `options` are those of exact_match: ignore_case, ignore_punctuation,
    ignore_numbers, regexes_to_ignore."""

    metric: Name
    aggregation: str = "mean"
    higher_is_better: bool = True
    options: dict[str, Any] = Field(default={})

    @model_validator(mode="before")
    @classmethod
    def _flat(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"metric": value}
        if not isinstance(value, Mapping) or "options" in value:
            return value
        own = {name: value[name] for name in ("metric", "aggregation", "higher_is_better") if name in value}
        return own | {"options": {k: v for k, v in value.items() if k not in own and k != "hf_evaluate"}}


class Shots(Contract):
    """How examples are chosen and worded, where it differs from the questions (`fewshot_config`)."""

    sampler: Literal["default", "random", "first_n"] = "default"
    """default or random: drawn by seed, anew for each item; first_n: the first ones of the split."""
    split: str | None = None
    samples: tuple[dict[str, Any], ...] | None = None
    """Documents that stand in the file itself."""
    doc_to_text: Template | None = None
    doc_to_target: Template | None = None
    doc_to_choice: str | tuple[str, ...] | None = None
    fewshot_delimiter: str | None = None
    target_delimiter: str | None = None


class Generation(Contract):
    """How an answer is generated: always greedily."""

    until: Texts = ()
    max_gen_toks: Annotated[int, Field(ge=1)] = 256

    @model_validator(mode="before")
    @classmethod
    def _greedy(cls, value: Any) -> Any:
        """Sampling is refused by name; what only repeats that there is none is left out."""
        if not isinstance(value, Mapping):
            return value
        given = dict(value)
        if "max_new_tokens" in given:
            given["max_gen_toks"] = given.pop("max_new_tokens")
        # Without do_sample, a temperature says nothing.
        sampled = given.pop("do_sample", "temperature" in given) and given.get("temperature") != 0
        if sampled or given.pop("num_beams", 1) != 1:
            raise ValueError("answers are generated greedily: no do_sample, temperature or num_beams")
        for name in ("temperature", "top_p"):
            given.pop(name, None)
        return given


class TaskFile(Contract):
    """One task, includes merged and defaults filled in. A `Template` is a column's name or Jinja over the columns."""

    task: Name
    dataset_path: str = ""
    """A dataset of the hub, a format (json, csv, parquet, text) whose files `dataset_kwargs.data_files` names, or one
    of our generators (`sources.GENERATORS`)."""
    dataset_name: str | None = None
    """Its configuration."""
    dataset_kwargs: dict[str, Any] = Field(default={})
    training_split: str | None = None
    validation_split: str | None = None
    test_split: str | None = None
    fewshot_split: str | None = None
    fewshot_config: Shots = Shots()
    num_fewshot: Annotated[int, Field(ge=0)] = 0
    output_type: OutputType = "generate_until"
    doc_to_text: Template = ""
    doc_to_target: Template | tuple[Any, ...] = ""
    doc_to_choice: str | tuple[str, ...] | None = None
    """Also a template whose text is a list."""
    description: str = ""
    target_delimiter: str = " "
    fewshot_delimiter: str = "\n\n"
    gen_prefix: str = ""
    """What the answer begins with: a column or template."""
    generation_kwargs: Generation = Generation()
    metric_list: tuple[Metric, ...] = ()
    filter_list: tuple[Filter, ...] = ()
    repeats: Literal[1] = 1
    should_decontaminate: bool = False
    doc_to_decontamination_query: str | None = None
    """The bare question, that overlap with a corpus is looked for; by default the worded one."""
    tag: Texts = ()
    group: Texts = ()
    task_alias: str | None = None
    metadata: dict[str, Any] = Field(default={})

    data_dir: str | None = None
    """Ours, as all that follow: a folder or a file with the documents, in place of `dataset_path`."""
    id: str | None = None
    """Column or template: a document's own id; by default a hash of task, split, subject and place."""
    subject: str | None = None
    """Column or template: examples are chosen among, and results are also given by, items of one subject."""
    cluster: str | None = None
    """Column or template: items of one cluster (a passage, a template) are not independent."""
    options: str | None = None
    """Column or template: what the choices say, where `doc_to_choice` has their letters; other protocols show it."""
    num_choices: Annotated[int, Field(ge=2)] | None = None
    """Items with another number of choices are refused."""
    doc_to_counted: str | None = None
    """Of a rolling task: the text whose words and bytes are counted, where it isn't the one that is scored."""
    protocols: Texts = ()
    """Names of the protocols that the task is asked under unless others are named."""
    prompts: dict[str, dict[str, Any]] = Field(default={})
    """Other wordings by name: any of doc_to_text, doc_to_target, doc_to_choice, description and the delimiters."""
    chance: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Score of guessing; by default 1 / choices, or 0."""
    file: str = ""
    """Where it was read, for messages; no key of a file."""
    built: str = ""
    """Table of schema TASK with its items, where the stage `task` has made them; no key of a file."""

    @field_validator("doc_to_choice", mode="before")
    @classmethod
    def _values(cls, value: Any) -> Any:
        """A mapping's values are its choices, as in lm-eval."""
        value = tuple(value.values()) if isinstance(value, Mapping) else value
        return tuple(map(str, value)) if isinstance(value, list | tuple) else value

    @property
    def evaluated_split(self) -> str | None:
        """The source's name of the split whose documents are asked, as in lm-eval; None for the only one."""
        return self.test_split or self.validation_split

    @property
    def shots_split(self) -> str | None:
        """The source's name of the split that examples are drawn from, as in lm-eval."""
        named = self.fewshot_config.split or self.fewshot_split
        return named or self.training_split or self.validation_split or self.test_split

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Those that are computed."""
        given = self.metric_list or tuple(Metric(metric=name) for name in DEFAULT_METRICS[self.output_type])
        return tuple(one for one in given if one.metric in METRICS[self.output_type])

    @property
    def not_computed(self) -> tuple[str, ...]:
        """Metrics of the file that are only defined over all items at once, or that we don't know."""
        return tuple(one.metric for one in self.metric_list if one.metric not in METRICS[self.output_type])


def setting(task: TaskFile) -> Setting:
    """What a protocol needs beside items. `options`: output_type, metrics ((name, options), …), filters
    ((name, ((function, arguments), …)), …), and the delimiters of examples where they differ.
    """
    until = task.generation_kwargs.until or (task.fewshot_delimiter,)
    shots = task.fewshot_config
    options: dict[str, Any] = {
        "output_type": task.output_type,
        "metrics": tuple((one.metric, one.options) for one in task.metrics),
        "filters": tuple(
            (one.name, tuple((step.function, step.arguments) for step in one.filter)) for one in task.filter_list
        ),
    }
    if shots.target_delimiter is not None:
        options["shots_target_delimiter"] = shots.target_delimiter
    return Setting(
        description="" if "{" in task.description else task.description,  # a template's text is the item's own
        target_delimiter=task.target_delimiter,
        fewshot_delimiter=task.fewshot_delimiter if shots.fewshot_delimiter is None else shots.fewshot_delimiter,
        stop=until,
        max_tokens=task.generation_kwargs.max_gen_toks,
        metrics=tuple(one.metric for one in task.metrics),
        options=tuple(options.items()),
    )


WORDING = (
    "doc_to_text",
    "doc_to_target",
    "doc_to_choice",
    "description",
    "target_delimiter",
    "fewshot_delimiter",
    "gen_prefix",
)


def variant(task: TaskFile, name: str) -> TaskFile:
    """The task in another of its wordings. Raises InputError for one that it hasn't."""
    if name not in task.prompts:
        raise InputError(f"{task.file}: no prompt `{name}`{nearest(name, list(task.prompts))}")
    return TaskFile.model_validate({**task.model_dump(), **task.prompts[name], "prompts": {}})
