"""publishing.training_report: the curves of pretraining and alignment, and held-out text continued by the model."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from stages.base.files import read_jsonl
from stages.base.params import Section
from stages.base.record import StageRun, stage
from stages.publishing.html.numbers import count, number
from stages.publishing.html.site import SiteParams, Summary, publish_page, read_if_there
from stages.publishing.training.continuations import continuations_view
from stages.publishing.training.curves import Curve, by_position, curve, losses, offset, small

TUNED = ("sft", "reward", "rft", "dpo", "ppo", "grpo")
NAMES = {"pretrain": "pretraining_loss", "anneal": "anneal_loss"}  # of curves, for DVC's plots
WORDS = {"pretrain": "pretraining", "anneal": "its anneal"}
PRETRAINING, ALIGNMENT = Path("data/pretraining"), Path("data/alignment")


class TrainingReportParams(Section):
    curve_points: Annotated[int, Field(ge=20)]
    """Drawn of each curve: means over equal runs of steps."""


PARAMS: dict[str, Any] = {
    "publishing.training_report": TrainingReportParams,
    "publishing.site": SiteParams,
}


def alignment_charts(run: StageRun[TrainingReportParams]) -> tuple[list[dict[str, Any]], dict[str, Curve]]:
    """Small charts of SFT, reward model and the methods that start from them, and what they draw by name; of those that
    the pipeline has."""
    limit = run.params.curve_points
    rows = {name: steps_of(run, ALIGNMENT / name) for name in TUNED}
    reward = read_if_there(run, ALIGNMENT / "reward/metrics.json") or {}
    curves = {
        "sft_loss": curve(rows["sft"], "loss", limit),
        "reward_accuracy": curve(rows["reward"], "accuracy", limit),
        "dpo_accuracy": curve(rows["dpo"], "accuracy", limit),
        "ppo_reward": curve(rows["ppo"], "reward", limit),
        "ppo_kl": curve(rows["ppo"], "kl", limit),
        "grpo_reward": curve(rows["grpo"], "reward", limit),
        "grpo_kl": curve(rows["grpo"], "kl", limit),
        "rft_loss": curve(rows["rft"], "loss", limit),
    }
    ranked = "pairs ranked as annotated"
    charts = [
        small("SFT", curves["sft_loss"], "loss, nats per token", "c2"),
        small("SFT, on the validation split", *validated(rows["sft"]), "c3", marked=True),
        small("Reward model, on its training pairs", curves["reward_accuracy"], ranked, "c5", held_out(reward)),
        small("DPO", curves["dpo_accuracy"], ranked, "c1", one_after_another(rows["dpo"])),
        small("PPO: reward", curves["ppo_reward"], "mean reward of the answers", "c4"),
        small("PPO: distance", curves["ppo_kl"], "KL from the SFT model, nats", "c4"),
        small("GRPO: reward", curves["grpo_reward"], "mean reward of the answers, −1 to 1", "c3"),
        small("GRPO: distance", curves["grpo_kl"], "KL from the SFT model, nats", "c3"),
        small("RFT, on right answers of its own", curves["rft_loss"], "loss, nats per token", "c2"),
    ]
    return [chart for chart in charts if chart is not None], {name: one for name, one in curves.items() if one.steps}


def steps_of(run: StageRun[TrainingReportParams], folder: Path) -> list[dict[str, Any]]:
    """Rows of a stage's steps.jsonl; none where the pipeline lacks the stage."""
    path = folder / "steps.jsonl"
    return list(read_jsonl(run.input(path))) if path.is_file() else []


def validated(rows: list[dict[str, Any]]) -> tuple[Curve, str]:
    """What SFT's checkpoints were compared by: exactly right answers where truth is known, else the loss."""
    right = curve(rows, "validation_exact_right")
    return (right, "share exactly right") if right.steps else (curve(rows, "validation_loss"), "loss, nats per token")


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


def branches_table(run: StageRun[TrainingReportParams], anneal: float | None) -> dict[str, Any] | None:
    """Other finishes of the same trunk beside the anneal; None where params have none."""
    branches = run.section("pretraining.branches", dict[str, Any])
    rows = [] if anneal is None else [["anneal", f"{anneal:.4f}"]]
    for key in branches:
        loss = run.read_json(PRETRAINING / "branch" / key / "metrics.json")["validation_loss"]
        rows.append([key.replace("_", " "), f"{loss:.4f}"])
    return {"head": ["Finish", "Validation loss"], "rows": rows} if branches else None


def pretraining_view(run: StageRun[TrainingReportParams]) -> tuple[dict[str, Any] | None, dict[str, Curve]]:
    """The section of pretraining and its anneal, and its curves by name; None where the pipeline has neither."""
    limit = run.params.curve_points
    metrics = {name: read_if_there(run, PRETRAINING / name / "metrics.json") for name in ("pretrain", "anneal")}
    steps = {name: steps_of(run, PRETRAINING / name) for name, found in metrics.items() if found}
    if not any(steps.values()):
        return None, {}
    ends = {name: metrics[name]["validation_loss"] for name, rows in steps.items() if rows}
    trunk = int((metrics["pretrain"] or {}).get("trunk_steps", 0))
    curves = {name: curve(steps[name], "loss", limit) for name in ends}
    if "anneal" in curves:
        curves["anneal"] = offset(curves["anneal"], trunk)
    said = []
    if "pretrain" in ends:
        said.append(
            f"A trunk of {count(trunk)} steps at the planned learning rate, and a cooldown on the same stream, which "
            f"is the run that the scaling law predicts (validation loss {ends['pretrain']:.3f})."
        )
    if "anneal" in ends:
        said.append(
            f"{'From the end of the trunk also' if said else 'An'} an anneal of {count(len(steps['anneal']))} steps on "
            f"the best text ({ends['anneal']:.3f}), whose model alignment may start from."
        )
    held = sorted(
        key.removeprefix("validation_loss_").replace("_", " ")
        for key in next(metrics[name] for name in ends)
        if key.startswith("validation_loss_") and not key.startswith("validation_loss_domain_")
    )
    view = {
        "said": " ".join(said),
        "losses": losses({name: (curves[name], end) for name, end in ends.items()}, trunk),
        "reached": [f"{WORDS[name]} reached a validation loss of {end:.3f}" for name, end in ends.items()],
        "held_out": f" ({' and '.join(held)})" if held else "",
        "branches": branches_table(run, ends.get("anneal")),
    }
    return view, {NAMES[name]: one for name, one in curves.items()}


def continued(run: StageRun[TrainingReportParams]) -> list[dict[str, Any]]:
    samples = {name: read_if_there(run, PRETRAINING / name / "samples.json") for name in NAMES}
    found = {name: rows for name, rows in samples.items() if rows}
    return continuations_view(found) if found else []


def main() -> None:
    with stage("publishing.training_report", TrainingReportParams) as run:
        pretraining, drawn = pretraining_view(run)
        charts, curves = alignment_charts(run)
        longer = read_if_there(run, PRETRAINING / "context/metrics.json")
        view = {
            "pretraining": pretraining,
            "context": by_position(longer) if longer else None,
            "charts": charts,
            "continuations": continued(run),
        }
        found = [("pretraining", "Pretraining"), ("context", "Context"), ("alignment", "Alignment")]
        there = {**view, "alignment": charts}
        sections = [(id, name) for id, name in [*found, ("continuations", "Continuations")] if there[id]]
        publish_page(run, "training", view, sections, run.section("publishing.site", SiteParams))
        for name, one in {**drawn, **curves}.items():
            run.output(f"curves/{name}.csv").write_text(one.as_csv(), encoding="utf-8")
        methods = [name for name in TUNED if (ALIGNMENT / name / "steps.jsonl").is_file()]
        run.write_contract("summary.json", Summary(line=summary_line(pretraining, methods)))


def summary_line(pretraining: dict[str, Any] | None, methods: list[str]) -> str:
    names = {"sft": "SFT", "reward": "reward model"}
    shown = [names.get(name, name.upper()) for name in methods]
    curves = (
        f"every curve of {' and '.join([', '.join(shown[:-1]), shown[-1]] if shown[1:] else shown)}" if shown else ""
    )
    reached = " and ".join(pretraining["reached"]) if pretraining else ""
    line = "; ".join(part for part in (reached, curves) if part) or "nothing was trained"
    return f"{line[0].upper()}{line[1:]}."


if __name__ == "__main__":
    main()
