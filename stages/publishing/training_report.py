"""publishing.training_report: the curves of pretraining and alignment, and held-out text continued by the model."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from stages.base.files import read_jsonl
from stages.base.params import Section
from stages.base.record import StageRun, stage
from stages.publishing.html.numbers import count, number
from stages.publishing.html.site import SiteParams, Summary, publish_page
from stages.publishing.training.continuations import continuations_view
from stages.publishing.training.curves import Curve, by_position, curve, losses, offset, small

TUNED = ("sft", "reward", "rft", "dpo", "ppo", "grpo")
PRETRAINING, ALIGNMENT = Path("data/pretraining"), Path("data/alignment")


class TrainingReportParams(Section):
    curve_points: Annotated[int, Field(ge=20)]
    """Drawn of each curve: means over equal runs of steps."""


PARAMS: dict[str, Any] = {
    "publishing.training_report": TrainingReportParams,
    "publishing.site": SiteParams,
}


def alignment_charts(run: StageRun[TrainingReportParams]) -> tuple[list[dict[str, str]], dict[str, Curve]]:
    """Small charts of SFT, reward model and the methods that start from them, and what they draw by name."""
    limit = run.params.curve_points
    rows = {name: list(read_jsonl(run.input(ALIGNMENT / name / "steps.jsonl"))) for name in TUNED}
    reward = run.read_json(ALIGNMENT / "reward/metrics.json")
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
        small("PPO", curves["ppo_reward"], "mean reward of the answers", "c4"),
        small("PPO", curves["ppo_kl"], "KL from the SFT model, nats", "c4"),
        small("GRPO", curves["grpo_reward"], "mean reward of the answers, -1 to 1", "c3"),
        small("GRPO", curves["grpo_kl"], "KL from the SFT model, nats", "c3"),
        small("RFT, on right answers of its own", curves["rft_loss"], "loss, nats per token", "c2"),
    ]
    return [chart for chart in charts if chart is not None], curves


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


def branches_table(run: StageRun[TrainingReportParams], anneal: float) -> dict[str, Any] | None:
    """Other finishes of the same trunk beside the anneal; None where params have none."""
    branches = run.section("pretraining.branches", dict[str, Any])
    rows = [["anneal", f"{anneal:.4f}"]]
    for key in branches:
        loss = run.read_json(PRETRAINING / "branch" / key / "metrics.json")["validation_loss"]
        rows.append([key.replace("_", " "), f"{loss:.4f}"])
    return {"head": ["Finish", "Validation loss"], "rows": rows} if branches else None


def main() -> None:
    with stage("publishing.training_report", TrainingReportParams) as run:
        limit = run.params.curve_points
        phases = ("pretrain", "anneal")
        metrics = {name: run.read_json(PRETRAINING / name / "metrics.json") for name in phases}
        steps = {name: list(read_jsonl(run.input(PRETRAINING / name / "steps.jsonl"))) for name in phases}
        trunk = int(metrics["pretrain"]["trunk_steps"])
        before, after = (metrics[name]["validation_loss"] for name in phases)
        charts, curves = alignment_charts(run)
        pretraining = curve(steps["pretrain"], "loss", limit)
        anneal = offset(curve(steps["anneal"], "loss", limit), trunk)
        view = {
            "intro": (
                f"A trunk of {count(trunk)} steps at the planned learning rate. From its end the run goes on twice: "
                f"with a cooldown on the same stream, which is the run that the scaling law predicts (validation loss "
                f"{before:.3f}), and with an anneal of {count(len(steps['anneal']))} steps on the best text "
                f"({after:.3f}), whose model alignment may start from."
            ),
            "main": losses(pretraining, anneal, trunk),
            "key": [
                {"mark": "ln", "colour": "c2", "label": "pretraining: trunk and cooldown"},
                {"mark": "ln", "colour": "c4", "label": "anneal on the best text"},
            ],
            "branches": branches_table(run, after),
            "context": by_position(run.read_json(PRETRAINING / "context/metrics.json")),
            "charts": charts,
            "continuations": continuations_view(
                {name: run.read_json(PRETRAINING / name / "samples.json") for name in phases}
            ),
        }
        sections = [
            ("pretraining", "Pretraining"),
            ("context", "Context"),
            ("alignment", "Alignment"),
            ("continuations", "Continuations"),
        ]
        site = run.section("publishing.site", SiteParams)
        publish_page(run, "training", view, sections, site)
        for name, one in {"pretraining_loss": pretraining, "anneal_loss": anneal, **curves}.items():
            run.output(f"curves/{name}.csv").write_text(one.as_csv(), encoding="utf-8")
        line = (
            f"Pretraining reached a validation loss of {before:.3f} and its anneal {after:.3f}; every curve of SFT, "
            "reward model, RFT, DPO, PPO and GRPO."
        )
        run.write_contract("summary.json", Summary(line=line))


if __name__ == "__main__":
    main()
