"""The gate before any work: the whole of params.yaml, what it names, the machine; and what code each stage stands on.

It is the first stage of the pipeline and runs again after any edit of code or params. It writes, for each stage, the
digests of the files that the stage imports (a stage reruns when its own have changed); for each folder of items, the
list of those that are in the pipeline; and the versions of Python and the packages. It removes what left items had
written: a folder that a later stage reads whole is then the same here and in a clone that pulls. It
keeps the points of a ladder that stands here, pulled perhaps: a longer one trains only what is new.
"""

import importlib
import json
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from stages import kernels
from stages.annotators.client import load_template
from stages.base import kept
from stages.base.artifacts import LADDER, MODELS
from stages.base.closure import code_files
from stages.base.errors import InputError, ParamError, ResourceError
from stages.base.files import read_json, sha256_file
from stages.base.params import Section, lookup, nearest, parse, read_params
from stages.base.pipeline import ITEM_KEY, Declared, folder_of, modules, read_pipeline
from stages.base.recipe import Recipe, Shape
from stages.base.record import stage
from stages.base.redaction import environment_secrets, secrets_in
from stages.base.scales import leaves
from stages.lm import accelerators
from stages.lm.config import ModelConfig
from stages.pretraining import imported
from stages.scaling.ladder import steps_of
from stages.scaling.study.study import FEWEST
from stages.tokens.pretokenizers import find_pre_tokenizer
from stages.tokens.vocabulary import SMALLEST


class CheckParams(Section):
    min_free_disk_gib: Annotated[float, Field(ge=0)]
    """Disk that must be free before a run."""
    min_memory_gib: Annotated[float, Field(ge=0)]
    """Memory that the machine must have."""


Count = Annotated[int, Field(ge=0)]
PARAMS: dict[str, Any] = {"check": CheckParams, "corpus.seed": Count, "run.seed": Count}
ITEMS = "items.json"
IMPORTED = "pretraining.imported"


def declared_sections() -> dict[str, Any]:
    """Every params section that a stage module declares, with its type; `phase.items.*` is each item of a mapping."""
    sections: dict[str, Any] = dict(PARAMS)
    for module in modules():
        try:
            sections |= importlib.import_module(f"stages.{module}").PARAMS
        except ModuleNotFoundError as error:
            raise ParamError(f"dvc.yaml: stage module stages.{module} can't be imported: {error}") from None
    return sections


def check_params(values: dict[str, Any], sections: dict[str, Any]) -> None:
    """Raises ParamError with every problem of the file in one line, not only the first."""
    problems = []
    for section, model in sections.items():
        try:
            for name, value in instances(values, section.split(".")):
                parse(name, value, model)
        except ParamError as error:
            problems.append(str(error))
    problems += unknown_sections(values, {tuple(section.split(".")) for section in sections}, ())
    if problems:
        raise ParamError("; ".join(dict.fromkeys(problems)))


def instances(values: dict[str, Any], section: list[str]) -> Iterator[tuple[str, Any]]:
    """Name and value of a section; of `phase.items.*`, of every item."""
    if "*" not in section:
        yield ".".join(section), lookup(values, ".".join(section))
        return
    depth = section.index("*")
    parent = ".".join(section[:depth])
    items = lookup(values, parent)
    if not isinstance(items, dict):
        raise ParamError(f"params.yaml: `{parent}` must be a mapping of names to items, {{}} for none")
    for key in items:
        if not ITEM_KEY.match(str(key)):
            raise ParamError(f"params.yaml: item key `{parent}.{key}` must match {ITEM_KEY.pattern}")
        yield from instances(values, [*section[:depth], key, *section[depth + 1 :]])


def unknown_sections(values: Any, known: set[tuple[str, ...]], path: tuple[str, ...]) -> list[str]:
    """Sections that no module reads: a misspelt one would otherwise be silently ignored."""
    if path in known or (*path, "*") in known or not isinstance(values, dict):
        return []
    names = sorted({section[len(path)] for section in known if section[: len(path)] == path})
    problems = []
    for name, value in values.items():
        if name in names:
            problems += unknown_sections(value, known, (*path, name))
        else:
            where, word = ".".join([*path, str(name)]), "section" if path else "phase"
            problems.append(f"params.yaml: unknown {word} `{where}`{nearest(str(name), names)}")
    return problems


def check_names(values: dict[str, Any], pipeline: list[Declared]) -> None:
    """Names of models are unique, and those that params give to items are some item's: a misspelt one would otherwise
    be met by the last stages of a long run."""
    makers = {(out, one.label): one for one in pipeline for out in one.outs if out.startswith(f"{MODELS}/")}
    made = {Path(out).name: one for (out, _), one in makers.items()}
    owners: dict[str, list[str]] = {}
    for section in ("models.trained", "models.import", "judging.answerers"):
        for key in lookup(values, section):
            owners.setdefault(key, []).append(f"`{section}.{key}`")
    for (out, label), one in makers.items():
        if one.name != IMPORTED and Path(out).name in lookup(values, "models.import"):
            owners[Path(out).name].append(f"what stage `{label}` trains")
    problems = [
        f"params.yaml: two models are named `{key}`: {places[0]} and {places[1]}; rename one"
        for key, places in owners.items()
        if len(places) > 1
    ]
    trained = [key for key, one in made.items() if one.name != IMPORTED]
    bases = [key for key, one in made.items() if one.name.startswith("pretraining.")]
    judged = [one.item for one in pipeline if one.name == "judging.respond" and one.item]
    for section, names, known in (
        ("models.trained", list(lookup(values, "models.trained")), trained),
        ("alignment.base", [lookup(values, "alignment.base")], bases),
        ("judging.baseline.model", [lookup(values, "judging.baseline.model")], judged),
        ("judging.leaderboard.subject", [lookup(values, "judging.leaderboard.subject")], judged),
        ("judging.leaderboard.against", lookup(values, "judging.leaderboard.against"), judged),
        ("publishing.board.side_by_side", lookup(values, "publishing.board.side_by_side"), judged),
    ):
        problems += [
            f"params.yaml: `{section}`: no model `{name}`{nearest(name, known)}" for name in names if name not in known
        ]
    if problems:
        raise ParamError("; ".join(problems))


def check_corpus_names(values: dict[str, Any]) -> None:
    """Settings of a source or a domain name one that there is: those of a misspelt one would be `default`'s."""
    sources = [*lookup(values, "corpus.sources"), "default"]
    domains = [*lookup(values, "corpus.domains.seeds"), "other", "default"]
    problems = [
        f"params.yaml: `{section}`: no {what} `{name}`{nearest(str(name), known)}"
        for section, what, known in (
            ("corpus.screen.language.keep", "source", sources),
            ("corpus.dedup.paragraphs", "source", sources),
            ("corpus.heuristics.rules", "source", sources),
            ("corpus.heuristics.max_outlier_score", "source", sources),
            ("corpus.quality.sources", "source", sources),
            ("corpus.mix.sources", "source", sources),
            ("corpus.mix.domains", "domain", domains),
            ("corpus.mix.shares", "domain", domains),
        )
        for name in lookup(values, section)
        if name not in known
    ]
    if problems:
        raise ParamError("; ".join(problems))


def check_training(values: dict[str, Any]) -> None:
    """What the ladder, the plan and what is trained by it would meet only after the corpus, or after the ladder."""
    problems = []

    def tried(place: str, attempt: Callable[[], object]) -> None:
        try:
            attempt()
        except ParamError as error:
            told = str(error).removeprefix("params.yaml: ").removeprefix("model config: ")
            problems.append(f"params.yaml: {told}" if place in told else f"params.yaml: `{place}`: {told}")

    recipe = parse("recipe", lookup(values, "recipe"), Recipe)
    vocabulary, length = lookup(values, "tokens.tokenizer.vocab_size"), lookup(values, "tokens.pack.seq_len")
    tried("tokens.tokenizer.pretokenizer", lambda: find_pre_tokenizer(lookup(values, "tokens.tokenizer.pretokenizer")))
    if vocabulary % 64 or vocabulary < SMALLEST:
        problems.append(
            f"params.yaml: `tokens.tokenizer.vocab_size`: a multiple of 64 from {SMALLEST}, got {vocabulary}"
        )
    if problems:
        raise ParamError("; ".join(problems))
    points, shapes = lookup(values, "scaling.points"), lookup(values, "scaling.plan.shapes")
    for key, shape in [*((f"scaling.points.{k}", v) for k, v in points.items()),
                       *((f"scaling.plan.shapes.{k}", v) for k, v in shapes.items())]:  # fmt: skip
        own, tokens = dict(shape), shape.get("tokens")
        kind = own.pop("arch", "transformer")
        own.pop("tokens", None)
        of = parse(key, own, Shape)
        tried(key, partial(ModelConfig.of, kind, of, recipe, vocabulary, length))
        if tokens is not None:
            tried(key, partial(steps_of, recipe, tokens, length))
        if kind == "lstm" and recipe.document_mask:
            problems.append(f"params.yaml: `{key}`: an LSTM needs `recipe.document_mask: false`")
    law = sum(point["arch"] == "transformer" for point in points.values())
    if points and law < FEWEST:
        problems.append(f"params.yaml: `scaling.points` has {law} Transformers, a law needs {FEWEST}; add points")
    if lookup(values, "pretraining.context.seq_len") <= length:
        problems.append("params.yaml: `pretraining.context.seq_len` must be more than `tokens.pack.seq_len`")
    budget = lookup(values, "scaling.plan.budget")
    for place, device in (
        ("cost_device", lookup(values, "scaling.plan.cost_device")),
        ("budget.device", budget["device"]),
    ):
        if device is not None:
            tried(f"scaling.plan.{place}", partial(accelerators.named, device))
    if problems:
        raise ParamError("; ".join(problems))


def check_annotators(values: dict[str, Any]) -> None:
    """What judging and annotating need and would miss only after all training."""
    for section in ("alignment.annotate.annotator", "judging.judge.annotator"):
        settings = lookup(values, section)
        if not Path(settings["prompt"]).is_file():
            raise ParamError(f"params.yaml: `{section}.prompt`: no file {settings['prompt']}")
        load_template(settings["prompt"])
        if settings["provider"] == "openai" and not re.match(r"https?://[^\s/]", settings["base_url"]):
            raise ParamError(f"params.yaml: `{section}.base_url` must begin with http:// or https://")
    teacher = lookup(values, "alignment.self_instruct.teacher")
    if teacher is not None and not Path(teacher["prompt"]).is_file():
        raise ParamError(f"params.yaml: `alignment.self_instruct.teacher.prompt`: no file {teacher['prompt']}")
    for section in ("alignment.instructions.sources", "alignment.preferences.sources"):
        if not lookup(values, section):
            raise ParamError(
                f"params.yaml: `{section}` is empty; alignment needs one item at least (docs/alignment.md)"
            )


def check_secrets(values: dict[str, Any]) -> None:
    """No key or password in params: what stands there is kept by git, dvc.lock, records and MLflow."""
    known = environment_secrets()
    for name, value in leaves(values):
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and (
                secrets_in(text) or any(secret == text or (secret in text and len(secret) > 11) for secret in known)
            ):
                raise ParamError(
                    f"params.yaml: `{name}` holds a key or password, and git, records and MLflow keep what stands "
                    "here; take it out, and name the environment variable that holds it where one can be named"
                )


def check_paths(pipeline: list[Declared]) -> None:
    """What an item reads is there and readable, or a stage writes it; a model to import is a model's folder."""
    outs = {out for one in pipeline for out in one.outs}
    for one in pipeline:
        for dep in one.deps if one.item is not None else ():
            if "://" in dep or any(_inside(dep, out) or _inside(out, dep) for out in outs):
                continue
            files = _files_at(Path(dep))
            if not files:
                hint = nearest(dep, sorted(outs)) if dep.startswith("data/") else "; no stage writes it"
                raise InputError(f"params.yaml: `{one.section}`: nothing readable at {dep}{hint}")
            if locked := next((file for file in files if not os.access(file, os.R_OK)), None):
                raise InputError(f"params.yaml: `{one.section}`: no permission to read {locked}")
            if one.name == IMPORTED and (missing := _missing_of_model({file.name for file in files})):
                raise InputError(f"params.yaml: `{one.section}`: {dep} is no model folder: it has no {missing}")
            if one.name == IMPORTED:
                imported.check_source(Path(dep))


def _inside(path: str, folder: str) -> bool:
    return Path(path).is_relative_to(folder)


def _files_at(path: Path) -> list[Path]:
    """The file itself, or all files below a folder."""
    if not path.is_dir():
        return [path] if path.exists() else []
    return [Path(folder, name) for folder, _, names in os.walk(path) for name in names]


def _missing_of_model(names: set[str]) -> str | None:
    """The part of a model's folder that is not among the files."""
    if "config.json" not in names:
        return "config.json"
    if not any(name.endswith(".safetensors") for name in names):
        return "weights (*.safetensors)"
    return None if "tokenizer.json" in names else "tokenizer.json"


def check_machine(params: CheckParams) -> None:
    """Raises ResourceError if the disk or the memory is too small for the run."""
    free = shutil.disk_usage(".").free / 2**30
    if free < params.min_free_disk_gib:
        raise ResourceError(
            f"{free:.1f} GiB of disk are free, `check.min_free_disk_gib` asks for {params.min_free_disk_gib}; "
            "free some space, or run `dvc gc -w`"
        )
    memory = Path("/proc/meminfo")
    if memory.exists():
        total = int(memory.read_text().split(maxsplit=2)[1]) / 2**20
        if total < params.min_memory_gib:
            raise ResourceError(
                f"{total:.1f} GiB of memory, `check.min_memory_gib` asks for {params.min_memory_gib}; "
                "use a larger machine"
            )


def check_values(values: dict[str, Any]) -> list[Declared]:
    """All that can be said of params without looking further than dvc.yaml; the pipeline they make."""
    check_params(values, declared_sections())
    return check_items(values)


def check_items(values: dict[str, Any]) -> list[Declared]:
    """What params say of one another, once every section is known to be right; the pipeline they make."""
    pipeline = read_pipeline(values=values)
    check_names(values, pipeline)
    check_corpus_names(values)
    check_training(values)
    check_annotators(values)
    check_secrets(values)
    return pipeline


def check() -> list[Declared]:
    """The pipeline. Raises TrainyardError with the first group of problems."""
    values = read_params()
    pipeline = check_values(values)
    check_paths(pipeline)
    check_machine(parse("check", values["check"], CheckParams))
    return pipeline


def remove_left_items(pipeline: list[Declared]) -> None:
    """Remove the folders of items that left params, and the models they made: those whose record says so, no other."""
    here = {one.folder for one in pipeline}
    outs = {Path(out) for one in pipeline for out in one.outs}
    for name, items in modules().items():
        for folder in sorted(folder_of(name).glob("*")) if items else ():
            if folder in here or not (folder / "record.json").is_file():
                continue
            record = read_json(folder / "record.json")
            if (record.get("stage"), record.get("item")) != (name, folder.name):
                continue
            made = {Path(*Path(out).parts[:3]) for out in record["outputs"] if out.startswith(f"{MODELS}/")}
            for left in [*(made - outs), folder]:
                shutil.rmtree(left, ignore_errors=True)


def main() -> None:
    with stage("check", CheckParams) as run:
        pipeline = check()
        kernels.start()
        for name in sorted({one.name for one in pipeline} - {"check"}):
            run.write_json(f"code/{name}.json", code_files(f"stages.{name}"))
        run.write_json("packages.json", versions(run.input("requirements.lock"), run.input("requirements-torch.txt")))
        for out in next(one.outs for one in pipeline if one.name == "check"):
            if Path(out).name == ITEMS:
                keys = [one.item for one in pipeline if one.item and one.folder.parent == Path(out).parent]
                run.publish(out, json.dumps(keys) + "\n")
        remove_left_items(pipeline)
        kept.adopt(Path(LADDER))


def warm() -> None:
    """What every check of one code does alike, for a process that forks many: import the stages, digest their files."""
    declared_sections()
    for name in modules():
        code_files(f"stages.{name}")


def versions(lock: Path, torch: Path) -> dict[str, str]:
    """What decides which documentation `package_docs` finds installed."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        lock.name: sha256_file(lock),
        torch.name: torch.read_text(encoding="utf-8"),
    }


if __name__ == "__main__":
    main()
