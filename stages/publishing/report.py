"""publishing.report: the page, and the leaderboard as CSV, JSON and Markdown.

Reads an explicit list of what is in the pipeline (models, ladder points, checkpoints of params.yaml), never a glob: an
item that was removed leaves its files behind.
"""

from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ConfigDict, Field

from stages.base import schemas
from stages.base.errors import InputError, ParamError
from stages.base.files import read_jsonl, sha256_file
from stages.base.params import Section
from stages.base.record import StageRun, stage
from stages.publishing.corpus import waterfall
from stages.publishing.html.charts import compact
from stages.publishing.html.numbers import count, number, percent
from stages.publishing.html.page import render
from stages.publishing.index import headline as words
from stages.publishing.index.contamination import contamination_view, probability, verdict
from stages.publishing.index.cost import cost_view, plan_facts
from stages.publishing.index.evaluation import evaluation_view
from stages.publishing.index.leaderboard import in_pipeline, leaderboard_view
from stages.publishing.index.leaderboard_files import as_csv, as_json, as_markdown, published_rows
from stages.publishing.index.samples import continuations_view, samples_view
from stages.publishing.index.training import by_position, small, training_view
from stages.publishing.scaling.figure import Target, scaling_view


class ReportParams(Section):
    title: Annotated[str, Field(min_length=1)]
    prompts: Annotated[int, Field(ge=1)]  # questions shown with every model's answer
    side_by_side: Annotated[list[str], Field(min_length=1)]  # keys of judging.models
    curve_points: Annotated[int, Field(ge=20)]  # drawn of each training curve
    base: str  # the key of evaluation.checkpoints that others are compared with


class Items(Section):
    """A dict of items that other stages check; here its keys are the list of what is in the pipeline."""

    model_config = ConfigDict(extra="allow", frozen=True)

    def as_dict(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


PARAMS: dict[str, type[Section]] = {"publishing.report": ReportParams}
JUDGING, CORPUS, ALIGNMENT = "data/judging", "data/corpus", "data/alignment"
CONTAMINATION = "data/evaluation/contamination/contamination.json"
CURVES = ("sft", "reward", "dpo", "ppo")


class Sources:
    """Reads inputs and remembers their hashes for the page."""

    def __init__(self, run: StageRun[ReportParams]) -> None:
        self.run, self.digests = run, dict[str, str]()

    def path(self, path: str) -> str:
        self.run.input(path)
        self.digests[path] = sha256_file(path)
        return path

    def json(self, path: str) -> Any:
        self.digests[path] = sha256_file(self.run.input(path))
        return self.run.read_json(path)

    def steps(self, path: str) -> list[dict[str, Any]]:
        return list(read_jsonl(self.path(path)))

    def table(self, path: str, schema: pa.Schema) -> pa.Table:
        self.digests[path] = sha256_file(self.run.input(path))
        return self.run.read_table(path, schema)

    def columns(self, path: str, names: list[str]) -> pa.Table:
        return pq.read_table(self.path(path), columns=names)


def corpus_section(read: Sources, pack: dict[str, Any]) -> tuple[dict[str, Any], list[waterfall.Caught], int, int]:
    """The view, the planted defects, and the pages in and documents out."""
    steps = []
    for name in waterfall.STAGES:
        kept = f"{CORPUS}/{name}/{'pages' if name == 'ingest' else 'documents'}.parquet"
        rows = pq.read_metadata(read.path(kept)).num_rows
        steps.append(waterfall.step(name, rows, read.table(f"{CORPUS}/{name}/drops.parquet", schemas.DROP)))
    left = read.columns(f"{CORPUS}/{waterfall.STAGES[-1]}/documents.parquet", ["url", "text"])
    texts = dict(zip(left["url"].to_pylist(), left["text"].to_pylist(), strict=True))
    planted = read.table(f"{CORPUS}/atlas/planted.parquet", schemas.PLANTED)
    collected = set(read.columns(f"{CORPUS}/ingest/pages.parquet", ["url"])["url"].to_pylist())
    invented = [
        url for url in read.columns(f"{CORPUS}/atlas/pages.parquet", ["url"])["url"].to_pylist() if url in collected
    ]
    dealt = waterfall.caught(planted, invented, texts)
    pages = steps[0].kept + sum(steps[0].dropped.values())
    view = {
        "intro": (
            "Every page that comes in is extracted, screened, deduplicated, filtered, scored and checked against "
            "the test "
            "questions. Hatched: what that step dropped, with its reasons."
        ),
        "steps": waterfall.waterfall_view(steps),
        "caption": f"{steps[-1].kept:,} of {pages:,} pages are left ({percent(steps[-1].kept, pages)}).",
        "planted": waterfall.planted_view(dealt),
        "innocent": waterfall.innocent_line(planted, invented, texts, "encyclopaedia"),
        "mixture": waterfall.mixture_view(pack),
    }
    return view, dealt, pages, steps[-1].kept


def samples_section(read: Sources, params: ReportParams, models: dict[str, Any], seed: int) -> dict[str, Any]:
    unknown = [model for model in params.side_by_side if model not in models]
    if unknown:
        raise ParamError(
            f"publishing.report.side_by_side: no `{unknown[0]}` in judging.models; known: {', '.join(models)}"
        )
    outputs = {
        name: read.table(f"{JUDGING}/respond/{name}/outputs.parquet", schemas.OUTPUT) for name in params.side_by_side
    }
    exact = {name: read.table(f"{JUDGING}/judge/{name}/exact.parquet", schemas.EXACT) for name in params.side_by_side}
    questions = read.table(f"{ALIGNMENT}/instructions/instructions.parquet", schemas.INSTRUCTION)
    return {
        "intro": (
            "Questions of the test split, drawn by seed and not by looking at the answers. The same decoding for "
            "every model."
        ),
        "questions": samples_view(questions, outputs, exact, params.prompts, seed),
    }


def training_section(read: Sources, limit: int) -> dict[str, Any]:
    stages = {name: read.steps(f"data/pretraining/{name}/steps.jsonl") for name in ("pretrain", "anneal")}
    metrics = {name: read.json(f"data/pretraining/{name}/metrics.json") for name in stages}
    rows = {name: read.steps(f"{ALIGNMENT}/{name}/steps.jsonl") for name in CURVES}
    reward = read.json(f"{ALIGNMENT}/reward/metrics.json")
    charts = [
        small("SFT", rows["sft"], "loss", "loss, nats per token", "c2", limit),
        small(
            "SFT, on the validation split",
            rows["sft"],
            "validation_exact_right",
            "share exactly right",
            "c3",
            limit,
            "validation_exact_right",
        ),
        small(
            "Reward model, on its training pairs",
            rows["reward"],
            "accuracy",
            "pairs ranked as annotated",
            "c5",
            limit,
            caption=held_out(reward),
        ),
        small(
            "DPO",
            rows["dpo"],
            "accuracy",
            "pairs ranked as annotated",
            "c1",
            limit,
            caption=one_after_another(rows["dpo"]),
        ),
        small("PPO", rows["ppo"], "reward", "mean reward of the answers", "c4", limit),
        small("PPO", rows["ppo"], "kl", "KL from the SFT model, nats", "c4", limit),
        by_position(read.json("data/pretraining/context/metrics.json")),
    ]
    said = {name: read.json(f"data/pretraining/{name}/samples.json") for name in stages}
    return training_view(stages["pretrain"], stages["anneal"], metrics, limit, charts) | {
        "continuations": continuations_view(said)
    }


def held_out(reward: dict[str, Any]) -> str:
    """What the reward model's curve doesn't say: how it does on pairs it was not trained on."""
    ranked = {
        "as annotated": number(reward.get("held_out_accuracy")),
        "by the exact score": number(reward.get("held_out_score_accuracy")),
    }
    told = [f"{share:.1%} {how}" for how, share in ranked.items() if share is not None]
    return f"On {count(reward['held_out_pairs'])} held-out pairs: {', '.join(told)} (chance 50 %)." if told else ""


def one_after_another(rows: list[dict[str, Any]]) -> str:
    betas = sorted({row["beta"] for row in rows if "beta" in row})
    return f"Runs with β = {', '.join(f'{beta:g}' for beta in betas)}, one after another." if len(betas) > 1 else ""


def build(
    read: Sources, run: StageRun[ReportParams], models: dict[str, Any], points: list[str], checkpoints: list[str]
) -> tuple[dict, Any]:
    """Everything on the page, and leaderboard.json."""
    params = run.params
    board = read.json(f"{JUDGING}/leaderboard/leaderboard.json")
    fit, plan = read.json("data/scaling/fit/fit.json"), read.json("data/scaling/plan/plan.json")
    pretrain = read.json("data/pretraining/pretrain/metrics.json")
    contamination = read.json(CONTAMINATION)
    pack = read.json("data/tokens/pack/pack.json")
    measured = {key: read.json(f"data/evaluation/evaluate/{key}/metrics.json") for key in checkpoints}
    if params.base not in measured:
        raise ParamError(
            f"publishing.report.base: no `{params.base}` in evaluation.checkpoints; known: {', '.join(checkpoints)}"
        )
    target = Target.of(plan, pretrain["validation_loss"])
    corpus, dealt, pages, documents = corpus_section(read, pack)
    rows = in_pipeline(board, models)
    if not rows:
        raise InputError(
            "data/judging/leaderboard/leaderboard.json has no row of judging.models; rerun judging.leaderboard"
        )
    sizes = {
        "parameters": plan["n_params"],
        "tokens": plan["tokens"],
        "predicted": target.predicted,
        "reached": target.reached,
    }
    view = {
        "title": params.title,
        "headline": words.headline(rows, board["comparisons"], sizes),
        "stations": words.stations(
            pages, documents, plan["tokens"], len(points), plan["n_params"], len(rows), rows[0]["n"]
        ),
        "tiles": tiles(target, plan, measured[params.base], contamination, dealt),
        "board": leaderboard_view(
            board, models, verdict(contamination), read.json(f"{JUDGING}/agreement/agreement.json")
        ),
        "samples": samples_section(read, params, models, run.seed),
        "scaling": scaling_view(fit, points, target, plan_facts(plan), plan["level"]) | {"reasons": plan["reasons"]},
        "training": training_section(read, params.curve_points),
        "corpus": corpus,
        "evaluation": evaluation_view(measured, params.base),
        "contamination": contamination_view(contamination),
        "cost": cost_view(plan),
    }
    return view, board


def tiles(
    target: Target, plan: dict, base: dict, contamination: dict, dealt: list[waterfall.Caught]
) -> list[dict[str, str]]:
    p = contamination["ordering"]["p_value"]
    planted, good = sum(row.planted for row in dealt), sum(row.caught for row in dealt)
    return [
        {
            "value": f"{target.reached:.3f}",
            "label": f"loss reached; {target.low:.3f} to {target.high:.3f} was predicted",
        },
        {"value": f"{base['bpb']:.3f}", "label": "bits per byte of unseen text, before alignment"},
        {"value": compact(plan["planned_flops"]), "label": "FLOPs of pretraining, divided by the scaling law"},
        {"value": percent(good, planted), "label": f"of {planted:,} planted defects dealt with"},
        {
            "value": verdict(contamination)["word"],
            "label": f"test set against training data, ordering test p = {probability(p)}",
        },
    ]


def main() -> None:
    with stage("publishing.report", ReportParams, seed="run.seed") as run:
        models = run.section("judging.models", Items).as_dict()
        points = list(run.section("scaling.points", Items).as_dict())
        checkpoints = list(run.section("evaluation.checkpoints", Items).as_dict())
        read = Sources(run)
        view, board = build(read, run, models, points, checkpoints)
        view["lineage"] = {
            "example": next(row["model"] for row in in_pipeline(board, models)),
            "seeds": [(name, str(run.root_seed(name))) for name in ("corpus.seed", "run.seed")],
            "inputs": [(path, digest[:16]) for path, digest in sorted(read.digests.items())],
        }
        run.publish("reports/index.html", render(view))
        rows = published_rows(board, models, verdict(read.json(CONTAMINATION)))
        run.publish("reports/leaderboard.csv", as_csv(rows))
        run.publish("reports/leaderboard.json", as_json(rows, board))
        run.publish("reports/leaderboard.md", as_markdown(board, models, run.params.title))


if __name__ == "__main__":
    main()
