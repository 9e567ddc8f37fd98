"""A model card from the records of the model: what it was trained on and how, what it scored, what it cost."""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.base.errors import InputError, TrainyardError
from stages.base.params import nearest
from stages.base.plain_yaml import parse_yaml
from stages.publishing.cards.card import Card, Part, Table, known, listed, table_place, value_text
from stages.publishing.cards.costs import assumptions, costs, grid, span, together
from stages.publishing.claims.figures import duration
from stages.publishing.html.charts import compact
from stages.publishing.html.numbers import value
from stages.publishing.lineage.chain import Node, walk
from stages.publishing.lineage.project import Project
from stages.publishing.lineage.records import Graph

MODELS = "data/models"
ANY_LICENCE = "unknown"  # the Hub's word for a licence that nobody stated
LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,39}")  # the Hub's identifiers
README = "README.md"
FRONT = re.compile(r"\A---\r?\n(?P<yaml>.{0,20000}?)\r?\n---\s*(?:\n|\Z)", re.DOTALL)
BOARD_METRICS = (  # name → field, its ends, words
    ("right", "right_low", "right_high", "exactly right answers, %"),
    ("win_rate", "win_rate_low", "win_rate_high", "win rate, %"),
    ("lc_win_rate", "lc_low", "lc_high", "length-controlled win rate, %"),
)
LOAD = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = {folder}
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder)
question = [{{"role": "user", "content": "Who are you?"}}]
prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, tokenize=False)
ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt").input_ids
answer = model.generate(ids, max_new_tokens={tokens}, do_sample=False)
print(tokenizer.decode(answer[0, ids.shape[1]:], skip_special_tokens=True))
"""
LOAD_PLAIN = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = {folder}
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder)
ids = tokenizer("It lies in", return_tensors="pt").input_ids
text = model.generate(ids, max_new_tokens={tokens}, do_sample=False)
print(tokenizer.decode(text[0], skip_special_tokens=True))
"""


def published_models(project: Project) -> dict[str, str]:
    """Key → folder of every model of params.yaml that has one here: trained ones and imported ones."""
    models = (project.params or {}).get("models") or {}
    found = {str(key): f"{MODELS}/{key}" for key in models.get("trained") or {}}
    for key, one in (models.get("import") or {}).items():
        inside = f"{MODELS}/{key}"
        found[str(key)] = inside if project.files.place(f"{inside}/config.json") else str(one["path"])
    return {key: folder for key, folder in found.items() if project.files.place(f"{folder}/config.json")}


def model_card(
    project: Project, graph: Graph, key: str, languages: list[str], owner: str = "", revision: str = ""
) -> Card:
    """The card of a published model. `languages`: of the corpus; `owner`: namespace on the Hub under which cards name
    each other; `revision`: of git. Raises InputError for a key that is no published model."""
    folders = published_models(project)
    if key not in folders:
        raise InputError(f"no published model `{key}`{nearest(key, list(folders))}")
    folder = folders[key]
    writers, digest = graph.written(folder)
    nodes, _ = walk(writers, graph)
    trained = bool(writers) and all(record.stage != "pretraining.imported" for record in writers)
    base = _base(nodes, writers[0].label if writers else "", folders)
    board = _row(project, key)
    evaluation = known(project, f"data/evaluation/evaluate/{key}/evaluation.json") or {}
    results = _results(board, evaluation)
    config = known(project, f"{folder}/config.json") or {}
    parameters = _parameters(project, folder)
    licence = ANY_LICENCE if trained else stated_licence(project, key, folder)
    metadata: dict[str, Any] = {
        "license": licence,
        "language": languages if trained else [],
        "library_name": "transformers" if config.get("architectures") else "",
        "pipeline_tag": "text-generation",
        "tags": ["trainyard", *(record.stage.rpartition(".")[2] for record in writers)],
        "base_model": f"{owner}/{base}" if base and owner else "",  # without an owner it would name a stranger's
        "base_model_relation": "finetune" if base and owner else "",
        "datasets": _hub_datasets(project) if trained else [],
        "metrics": sorted({metric["type"] for one in results for metric in one["metrics"]}),
        "model-index": [{"name": key, "results": results}] if results else [],
    }
    lead = "Brought from elsewhere; evaluated and judged here."
    if trained:
        from_pages = any(node.record.stage == "pretraining.pretrain" for node in nodes.values())
        lead = (
            "Trained by Trainyard, from raw pages on."
            if from_pages
            else f"Tuned by Trainyard from {base or 'a model'}."
        )
    parts = [
        _what(config, parameters, folder, base, trained, licence),
        _load(project, folder, config),
        *_training(project, nodes, writers[0].label if writers else ""),
        *_evaluation(board, evaluation),
        *_compute(project, nodes, key),
        _limits(project, board, parameters, config, trained),
        _lineage(nodes, digest, revision),
    ]
    return Card(key, "model", key, lead, {name: one for name, one in metadata.items() if one}, parts)


def stated_licence(project: Project, key: str, folder: str) -> str:
    """The `license` that the README of an imported model states in its metadata, in its folder or where it was brought
    from; "unknown" where it states none, or what is no name of a licence."""
    models = (project.params or {}).get("models") or {}
    brought = ((models.get("import") or {}).get(key) or {}).get("path")
    for place in (folder, brought):
        path = table_place(project, f"{place}/{README}") if place else None
        front = FRONT.match(path.read_text(encoding="utf-8", errors="replace")) if path is not None else None
        try:
            told = parse_yaml(front["yaml"], f"{place}/{README}") if front else None
        except TrainyardError:  # of another's file: nothing here depends on it
            told = None
        named = told.get("license") if isinstance(told, dict) else None
        if isinstance(named, str) and LICENCE.fullmatch(named):
            return named
    return ANY_LICENCE


def _row(project: Project, key: str) -> dict[str, Any]:
    board = known(project, "data/judging/leaderboard/leaderboard.json") or {}
    row: dict[str, Any] = next((one for one in board.get("rows", []) if one["model"] == key), {})
    return {"row": row, "judge": board.get("judge", {}), "baseline": board.get("baseline", "")}


def _base(nodes: Mapping[str, Node], own: str, folders: Mapping[str, str]) -> str:
    """The published model that this one was tuned from: whose folder the writer read; "" for none."""
    if own not in nodes:
        return ""
    read = nodes[own].record.inputs
    return next((key for key, folder in folders.items() if any(_within(path, folder) for path in read)), "")


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def _hub_datasets(project: Project) -> list[str]:
    """Names on the Hub of the datasets that pages, instructions and preferences come from."""
    params = project.params or {}
    groups = [params.get("corpus", {}).get("sources")]
    alignment = params.get("alignment", {})
    groups += [alignment.get(name, {}).get("sources") for name in ("instructions", "preferences")]
    items = [one for group in groups if isinstance(group, dict) for one in group.values() if isinstance(one, dict)]
    return sorted({str(one["path"]) for one in items if one.get("kind") == "hub"})


def _parameters(project: Project, folder: str) -> int:
    """Numbers in the folder's safetensors files, by their headers; 0 where there are none."""
    place = project.files.place(folder)
    total = 0
    for path in sorted(place.glob("*.safetensors")) if place is not None and place.is_dir() else []:
        if path.name != "head.safetensors":
            total += sum(math.prod(one["shape"]) for name, one in _header(path).items() if name != "__metadata__")
    return total


def _header(path: Path) -> dict[str, Any]:
    """Of a safetensors file: 8 bytes of its length, little-endian, then JSON."""
    with path.open("rb") as handle:
        size = int.from_bytes(handle.read(8), "little")
        if size > path.stat().st_size:
            raise InputError(f"{path}: not a safetensors file; restore it (`dvc checkout`)")
        found: dict[str, Any] = json.loads(handle.read(size))
    return found


def _results(board: Mapping[str, Any], evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """`results` of the Hub's model-index: a task and dataset each, with metrics whose names say their intervals."""
    found = []
    row = board["row"]
    judged = [
        _metric(name, row[name], row.get(low), row.get(high), f"{words} of the test questions")
        for name, low, high, words in BOARD_METRICS
        if row.get(name) is not None
    ]
    if judged:
        found.append(_result("Held-out questions of this project", "trainyard-questions", "test", judged))
    for task, told in evaluation.get("tasks", {}).items():
        metrics = []
        for protocol, one in told["protocols"].items():
            score = one.get("scores", {}).get(one.get("metric", "acc"))
            if score and score["mean"] is not None:
                kind = one.get("metric", "acc")
                words = f"{kind}, protocol {protocol}, {one.get('shots') or 0:g} examples"
                metrics.append(_metric(_type(kind), score["mean"], score["low"], score["high"], words))
        if metrics:
            found.append(_result(task, task, told.get("split") or "test", metrics))
    for text, told in evaluation.get("texts", {}).items():
        metric = _metric("bits_per_byte", told["bpb"], told.get("bpb_low"), told.get("bpb_high"), "bits per byte")
        found.append(_result(text, text, "validation", [metric]))
    return found


def _type(metric: str) -> str:
    return "accuracy" if metric.startswith("acc") else metric


def _result(name: str, kind: str, split: str, metrics: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "task": {"type": "text-generation", "name": "Text generation"},
        "dataset": {"name": name, "type": kind, "split": split},
        "metrics": metrics,
    }


def _metric(kind: str, mean: float, low: float | None, high: float | None, words: str) -> dict[str, Any]:
    known_ends = low is not None and high is not None
    interval = f", 95 % interval {low:.4g} to {high:.4g}" if known_ends else ""
    return {"type": kind, "value": round(float(mean), 6), "name": f"{words}{interval}"}


def _what(config: Mapping[str, Any], parameters: int, folder: str, base: str, trained: bool, licence: str) -> Part:
    unstated = "not stated" + "; licences of the training pages stand in the data card" * trained
    facts = [
        ("Architecture", ", ".join(config.get("architectures") or []) or str(config.get("model_type", "unknown"))),
        ("Parameters", f"{parameters:,}" if parameters else "unknown"),
        ("Layers", str(config.get("num_hidden_layers", "unknown"))),
        ("Width", str(config.get("hidden_size", "unknown"))),
        ("Context, tokens", str(config.get("max_position_embeddings", "unknown"))),
        ("Vocabulary, tokens", str(config.get("vocab_size", "unknown"))),
        ("Tuned from", base or ("nothing: pretrained from scratch" if trained else "unknown")),
        ("Folder", folder),
        ("Licence of the weights", unstated if licence == ANY_LICENCE else f"{licence}, by its own README"),
    ]
    return Part("What it is", facts=facts)


def _load(project: Project, folder: str, config: Mapping[str, Any]) -> Part:
    if not config.get("architectures"):
        return Part("How to load it", ["transformers has no such model; trainyard chat and trainyard serve load it."])
    told = known(project, f"{folder}/tokenizer_config.json") or {}
    chat = bool(told.get("chat_template")) or table_place(project, f"{folder}/chat_template.jinja") is not None
    code = (LOAD if chat else LOAD_PLAIN).format(folder=json.dumps(folder), tokens=48)
    return Part("How to load it", ["With transformers; name the folder where the files lie."], code=code)


def _training(project: Project, nodes: Mapping[str, Node], own: str) -> list[Part]:
    """The stages that trained it, with what each read; and the params of the last."""
    stages = [name for name in nodes if name.partition(".")[0] in ("pretraining", "alignment")]
    if not stages:
        return []
    rows = []
    for name in stages:
        record = nodes[name].record
        counts = f"{record.rows['in']:,} rows read, {record.rows['out']:,} used" if record.rows else ""
        metrics = known(project, f"data/{'/'.join(record.stage.split('.'))}/metrics.json") or {}
        read = metrics.get("tokens")
        counts = f"{compact(read)} tokens, {compact(metrics['flops'])} FLOPs" if read and "flops" in metrics else counts
        rows.append([name, counts, "" if record.seed is None else str(record.seed)])
    params = [
        (f"{section}.{name}", value_text(one))
        for section, values in nodes[own].record.params.items()
        for name, one in (values.items() if isinstance(values, dict) else [("", values)])
    ]
    return [
        Part(
            "Training",
            [
                "The stages behind these weights, the last first; a seed is derived from the run's root seed and the "
                "stage's name."
            ],
            table=Table(["Stage", "Data", "Seed"], rows, [2]),
        ),
        Part(f"Params of {own}", facts=[(name.rstrip("."), said) for name, said in params]),
    ]


def _evaluation(board: Mapping[str, Any], evaluation: Mapping[str, Any]) -> list[Part]:
    rows = []
    row, judge = board["row"], board["judge"]
    for name, low, high, words in BOARD_METRICS:
        shown = value(row.get(name), row.get(low), row.get(high))
        if shown is not None:
            rows.append([f"Test questions: {words}", shown.text, shown.range, str(row.get("n", ""))])
    for task, told in evaluation.get("tasks", {}).items():
        for protocol, one in told["protocols"].items():
            score = one.get("scores", {}).get(one.get("metric", "acc")) or {}
            shown = value(score.get("mean"), score.get("low"), score.get("high"), factor=100)
            if shown is not None:
                chance = told.get("chance_acc")
                by_chance = f", by chance {100 * chance:.1f}" if chance is not None else ""
                name = f"{task}, {protocol}: {one.get('metric', 'acc')}, %{by_chance}"
                rows.append([name, shown.text, shown.range, str(score.get("n", ""))])
    for text, told in evaluation.get("texts", {}).items():
        shown = value(told["bpb"], told.get("bpb_low"), told.get("bpb_high"), digits=3)
        if shown is not None:
            rows.append([f"{text}: bits per byte", shown.text, shown.range, str(told.get("documents", ""))])
    if not rows:
        return []
    against = f"Win rates are against {board['baseline']}, judged by {judge['label']}." if judge else ""
    alone = "The baseline's own win rates are 50 by definition." if row.get("baseline") else ""
    text = f"95 % intervals cover the choice of items and not a rerun of training. {against} {alone}"
    return [
        Part("Evaluation", [text.strip()], table=Table(["What", "Value", "95 % interval", "Items"], rows, [1, 2, 3]))
    ]


def _compute(project: Project, nodes: Mapping[str, Node], key: str) -> list[Part]:
    of_chain = costs(project, nodes)
    if not of_chain:
        return []
    total, kg = together(of_chain, key), grid(project)
    facts = [
        ("CPU time, all stages behind it", f"{duration(total.cpu)} ({len(of_chain)} of {len(nodes)} have a reading)"),
        ("Accelerator time", f"{total.gpu_hours:.3g} GPU-hours"),
        ("Energy", span(total.kwh, 1000, "Wh")),
    ]
    if kg:
        low, middle, high = (kwh * kg[0] for kwh in total.kwh)
        facts.append(("CO2eq", span((low, middle, high), 1000, "g")))
    return [Part("Compute, energy and carbon", assumptions(project), facts=facts)]


def _limits(
    project: Project, board: Mapping[str, Any], parameters: int, config: Mapping[str, Any], trained: bool
) -> Part:
    text = []
    if trained and parameters:
        text.append(
            f"A model of {compact(parameters)} parameters: it knows what its few pages repeat, and states falsehoods "
            "fluently. Not for decisions about people, and not for advice."
        )
    if context := config.get("max_position_embeddings"):
        text.append(f"It reads at most {context:,} tokens, question and answer together.")
    if board["judge"].get("simulated"):
        text.append(
            "Win rates come from simulated annotators with a known length bias and noise; they say nothing of what "
            "people would prefer. Exactly right answers involve no judge."
        )
    if board["row"] and board["row"].get("reruns") is None:
        text.append("It was trained once: another seed may change every number by more than the intervals say.")
    contamination = known(project, "data/evaluation/contamination/contamination.json") or {}
    verdicts = _contaminated(contamination)
    if verdicts:
        text.append(f"Contamination of its tests by the training text: {listed(verdicts)}.")
    text.append("It was not tested for safety; nothing filters its answers.")
    return Part("Limits", text)


def _contaminated(told: Mapping[str, Any]) -> list[str]:
    """Task and verdict of each task that contamination speaks of."""
    return [f"{one['task']} {one['verdict']}" for one in told.get("verdicts", [])]


def _lineage(nodes: Mapping[str, Node], digest: str | None, revision: str) -> Part:
    facts = [("git revision", revision or "unknown"), ("sha256 of the folder", digest or "of no record")]
    rows = [[name, node.record.fingerprint[:16], node.record.code[:16]] for name, node in nodes.items()]
    text = [
        "A stage's run is a digest of what it read and wrote, its params and its code; "
        "trainyard trace follows the chain of a leaderboard's row and checks it."
    ]
    return Part("Lineage", text, facts, Table(["Stage", "Run", "Code"], rows) if rows else None)
