"""The gate: bad params are one line and no work; lists of items are right, and nothing of left ones stays."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages import check
from stages.base.files import write_json
from stages.base.params import PARAMS_FILE, read_params
from stages.base.pipeline import read_pipeline
from stages.base.reference import params_schema
from stages.base.scales import COMPLETE, SCALES, compose, read_scale, render
from stages.check import check_values, declared_sections

ROOT = Path(__file__).resolve().parents[1]
SECTIONS = declared_sections()
SCHEMA = params_schema(SECTIONS)
GIVEN = {  # what a scale can't know
    "crawl": ["corpus.sources.crawl.path=x", "alignment.instructions.sources.own.path=x"],
    "posttrain": [
        "models.import.base_model.path=x",
        "alignment.instructions.sources.own.path=x",
        "alignment.preferences.sources.own.path=x",
    ],
}
LAID_OVER = {"claims_short": ["claims"], "room": ["claims"]}


def test_params_are_the_laptop_scale_as_dvc_writes_it(tmp_path: Path) -> None:
    from dvc.utils.hydra import apply_overrides

    text = (ROOT / PARAMS_FILE).read_text()
    assert text == render(ROOT / COMPLETE, read_scale(ROOT / COMPLETE)), "run `trainyard configure laptop --write`"
    path = tmp_path / "params.yaml"
    path.write_text(text)
    apply_overrides(str(path), ["scaling.plan.budget.flops=1e13", "corpus.dedup.jaccard=0.8", "alignment.sft.lr=2e-5"])
    old, new = text.splitlines(), path.read_text().splitlines()
    assert len(old) == len(new) and sum(a != b for a, b in zip(old, new, strict=True)) == 3
    assert read_params(path)["alignment"]["sft"]["lr"] == 2e-5


@pytest.mark.parametrize("scale", sorted(path.stem for path in (ROOT / SCALES).glob("*.yaml")))
def test_every_scale_is_complete_and_can_be_written(scale: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    base, values = compose([*LAID_OVER.get(scale, []), scale], GIVEN.get(scale, []), SCHEMA)
    check_values(values)
    assert render(base, values)


def test_from_an_imported_base_the_board_needs_nothing_of_corpus_or_pretraining(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    pipeline = read_pipeline(values=compose(["posttrain"], GIVEN["posttrain"], SCHEMA)[1])
    needed, pending = set(), [one for one in pipeline if one.label == "board"]
    while pending:
        one = pending.pop()
        needed.add(one)
        for dep in map(Path, one.deps):
            makers = [
                m for m in pipeline for out in map(Path, m.outs) if dep.is_relative_to(out) or out.is_relative_to(dep)
            ]
            pending += [maker for maker in makers if maker not in needed]
    rooms = {one.name.split(".")[0] for one in needed}
    # Of evaluation the questions alone: alignment.leakage holds instructions against them.
    assert rooms == {"check", "pretraining", "alignment", "judging", "publishing", "evaluation"}
    assert {one.name for one in needed if one.name.startswith("evaluation")} == {"evaluation.task"}
    assert {one.label for one in needed if one.name.startswith("pretraining")} == {"import@base_model"}


def test_every_parameter_says_what_it_is() -> None:
    silent = []

    def walk(schema: dict[str, Any], path: str) -> None:
        for union in ("anyOf", "oneOf"):
            for one in schema.get(union, []):
                walk(one, path)
        for name, field in schema.get("properties", {}).items():
            where = f"{path}.{name}" if path else name
            if schema.get("title") and "description" not in field and name not in ("kind", "max_drop"):
                silent.append(where)
            walk(field, where)
        for items in [schema.get("additionalProperties"), *schema.get("patternProperties", {}).values()]:
            if isinstance(items, dict):
                walk(items, f"{path}.*")

    walk(SCHEMA, "")
    assert not silent, f"{len(silent)} fields have no string below them: {sorted(set(silent))}"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The declared pipeline over params that tests may break."""
    monkeypatch.chdir(tmp_path)
    for name in ("dvc.yaml", "params.yaml", "requirements.lock", "requirements-torch.txt"):
        shutil.copy(ROOT / name, name)
    for name in ("stages", "lists"):
        os.symlink(ROOT / name, name)
    monkeypatch.setattr(check, "declared_sections", lambda: SECTIONS)
    return tmp_path


def model_folder(folder: Path, *names: str) -> str:
    folder.mkdir()
    for name in names or ("config.json", "model.safetensors", "tokenizer.json"):
        (folder / name).write_text("{}")
    return str(folder)


def text(path: Path, content: str) -> str:
    path.write_text(content)
    return str(path)


def empty(folder: Path) -> str:
    folder.mkdir()
    return str(folder)


def put(values: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for part in parents:
        values = values[part]
    values[last] = value


FILES = {"kind": "files", "licence": "x", "max_damaged": 0, "pattern": None}
BAD: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "a source without pages": (
        "corpus.sources.mine", lambda at: FILES | {"path": str(at / "absent")},
        "`corpus.sources.mine`: nothing readable at",
    ),
    "a source of an empty folder": (
        "corpus.sources.mine", lambda at: FILES | {"path": empty(at / "empty")},
        "`corpus.sources.mine`: nothing readable at",
    ),
    "a task without its questions": (
        "evaluation.tasks.mmlu", lambda at: {"kind": "mmlu", "path": str(at / "mmlu")},
        "`evaluation.tasks.mmlu`",
    ),
    "a point that can't be built": (
        "scaling.points.w24_c1.n_head", lambda at: 5, "`scaling.points.w24_c1`: n_head is 5; it must be a divisor",
    ),
    "a shape that can't be built": (
        "scaling.plan.shapes.d96_l4.n_kv_head", lambda at: 2, "`scaling.plan.shapes.d96_l4`: n_kv_head is 2",
    ),
    "a point too short for its schedule": (
        "recipe.warmup_steps", lambda at: 10**6, "fewer than 1000000 of warm-up",
    ),
    "a ladder without a law": (
        "scaling.points", lambda at: {"a": {"arch": "lstm", "n_layer": 1, "d_model": 64, "n_head": 1, "n_kv_head": 1,
        "d_ff": 64, "tokens": 10**6}}, "`scaling.points` has 0 Transformers, a law needs",
    ),
    "an LSTM and a mask": ("recipe.document_mask", lambda at: True, "an LSTM needs `recipe.document_mask: false`"),
    "an unknown device": (
        "scaling.plan.cost_device", lambda at: "h1000", "`scaling.plan.cost_device`: unknown device 'h1000'",
    ),
    "an unknown pre-tokenizer": ("tokens.tokenizer.pretokenizer", lambda at: "gpt9", "`tokens.tokenizer.pretokenizer`"),
    "an odd vocabulary": ("tokens.tokenizer.vocab_size", lambda at: 4097, "a multiple of 64"),
    "a context that isn't longer": ("pretraining.context.seq_len", lambda at: 256, "`pretraining.context.seq_len`"),
    "a number that is none": ("corpus.extract.max_page_bytes", lambda at: 10**400, "no parameter is as large as that"),
    "seconds without an end": ("corpus.extract.max_page_seconds", lambda at: 1e29, "less than or equal to 1000000"),
    "a pattern that is none": (
        "corpus.domains.seeds", lambda at: {"a": ["("]}, "`corpus.domains.seeds.a.0`",
    ),
    "a prompt with other words": (
        "judging.judge.annotator.prompt", lambda at: text(at / "p.txt", "%(instruction)s %(answer)s"), "may use only",
    ),
    "a password in an address": (
        "judging.judge.annotator.base_url", lambda at: "https://me:hunter2hunter2@host/v1", "holds a key or password",
    ),
    "an import without config": (
        "models.import.theirs", lambda at: {"path": model_folder(at / "m", "model.safetensors", "tokenizer.json")},
        "m is no model folder: it has no config.json",
    ),
    "an import without weights": (
        "models.import.theirs", lambda at: {"path": model_folder(at / "m", "config.json", "tokenizer.json")},
        "m is no model folder: it has no weights",
    ),
    "an import without tokenizer": (
        "models.import.theirs", lambda at: {"path": model_folder(at / "m", "config.json", "a.safetensors")},
        "m is no model folder: it has no tokenizer.json",
    ),
    "an import of a trained one's name": (
        "models.import.dpo", lambda at: {"path": model_folder(at / "m")},
        "two models are named `dpo`: `models.trained.dpo` and `models.import.dpo`",
    ),
    "an import of an untold one's name": (
        "models.import.context", lambda at: {"path": model_folder(at / "m")},
        "two models are named `context`: `models.import.context` and what stage `context` trains",
    ),
    "an answerer of a model's name": (
        "judging.answerers.sft", lambda at: {"kind": "constant", "path": "data/alignment/instructions/items.json"},
        "two models are named `sft`: `models.trained.sft` and `judging.answerers.sft`",
    ),
    "a base that nobody trains": (
        "alignment.base", lambda at: "bsae", "`alignment.base`: no model `bsae`; did you mean `base`?",
    ),
    "a base that alignment makes": ("alignment.base", lambda at: "sft", "`alignment.base`: no model `sft`"),
    "a trained model that no stage trains": (
        "models.trained.dpoo", lambda at: {}, "`models.trained`: no model `dpoo`; did you mean `dpo`?",
    ),
    "a subject that isn't judged": (
        "judging.leaderboard.subject", lambda at: "sfft",
        "`judging.leaderboard.subject`: no model `sfft`; did you mean `sft`?",
    ),
    "an unknown kind": (
        "corpus.sources.mine", lambda at: {"kind": "wrac", "path": "x"},
        "`corpus.sources.mine.kind`: unknown kind `wrac`; did you mean `warc`?",
    ),
    "a misspelt section": ("corpus.dedupp", lambda at: {}, "unknown section `corpus.dedupp`; did you mean `dedup`?"),
    "a misspelt deep section": (
        "alignment.instructions.sourcess", lambda at: {},
        "unknown section `alignment.instructions.sourcess`; did you mean `sources`?",
    ),
    "a key that is none": ("corpus.sources", lambda at: {"A b": {}}, "item key `corpus.sources.A b` must match"),
    "a misspelt parameter": ("alignment.sft.epochss", lambda at: 3, "did you mean `epochs`?"),
    "a split that protects nothing": (
        "corpus.decontaminate.splits", lambda at: ["tset"], "corpus.decontaminate.splits",
    ),
    "a factor of a domain that isn't there": (
        "corpus.mix.domains", lambda at: {"default": 1.0, "numercis": 2.0},
        "`corpus.mix.domains`: no domain `numercis`; did you mean `numerics`?",
    ),
    "languages of a source that isn't there": (
        "corpus.screen.language.keep", lambda at: {"default": ["en"], "atlsa": ["en"]},
        "`corpus.screen.language.keep`: no source `atlsa`; did you mean `atlas`?",
    ),
    "a bad seed": ("corpus.seed", lambda at: "x", "`corpus.seed`"),
    "a full disk": ("check.min_free_disk_gib", lambda at: 1e9, "free some space"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD, ids=str)
def test_bad_params_are_one_line_before_any_work(project: Path, case: str, capsys: pytest.CaptureFixture) -> None:
    path, value, message = BAD[case]
    values = read_params()
    put(values, path, value(project))
    write_json(PARAMS_FILE, values)  # JSON is YAML
    with pytest.raises(SystemExit) as caught:
        check.main()
    assert caught.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and message in lines[0], lines
    assert not (project / "data/check").exists()


def test_a_key_that_stands_twice_is_one_line(project: Path, capsys: pytest.CaptureFixture) -> None:
    text = PARAMS_FILE.read_text().replace("  seed: 1\n", "  seed: 1\n  seed: 2\n", 1)
    PARAMS_FILE.write_text(text)
    line = text.splitlines().index("  seed: 2") + 1
    with pytest.raises(SystemExit):
        check.main()
    assert f"`run.seed` stands twice, on lines {line - 1} and {line}" in capsys.readouterr().err


def test_check_lists_the_items_and_removes_what_left_ones_wrote(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "code_files", lambda module: {})
    left, stranger = project / "data/judging/respond/gone", project / "data/judging/respond/notes"
    write_json(left / "record.json", {"stage": "judging.respond", "item": "gone", "outputs": {}})
    write_json(stranger / "x.json", {})
    imported = project / "data/pretraining/imported/theirs"
    outputs = {"data/models/theirs/config.json": "0", "data/models/base/config.json": "0"}
    write_json(imported / "record.json", {"stage": "pretraining.imported", "item": "theirs", "outputs": outputs})
    for name in ("theirs", "base", "mine"):
        write_json(project / f"data/models/{name}/config.json", {})
    kept = project / "data/judging/respond/sft"
    write_json(kept / "record.json", {"stage": "judging.respond", "item": "sft", "outputs": {}})
    check.main()
    assert json.loads(Path("data/judging/respond/items.json").read_text()) == [
        "base", "sft", "rft", "dpo", "ppo", "grpo", "base_few_shot", "best_of_n", "constant", "shuffled",
        "nearest_neighbour", "padded",
    ]  # fmt: skip
    evaluated = json.loads(Path("data/evaluation/evaluate/items.json").read_text())
    assert evaluated == ["base", "sft", "rft", "dpo", "ppo", "grpo"]
    assert json.loads(Path("data/corpus/source/items.json").read_text()) == ["atlas", "package_docs"]
    assert not left.exists() and not imported.exists() and kept.exists() and stranger.exists()
    assert sorted(path.name for path in Path("data/models").iterdir()) == ["base", "mine"]
    versions = json.loads(Path("data/check/packages.json").read_text())
    assert versions["requirements-torch.txt"].startswith("torch")
