"""publishing.alignment_report: what each method of alignment brings and costs, beside the model it started from."""

from pathlib import Path
from typing import Any

from stages.base.artifacts import EVALUATED, LEADERBOARD
from stages.base.contracts.evaluation import Evaluation
from stages.base.contracts.leaderboard import Leaderboard
from stages.base.files import read_jsonl
from stages.base.record import stage
from stages.publishing.alignment.methods import LEARNS_FROM, Measured, methods_view
from stages.publishing.alignment.over_optimisation import over_optimisation_view, points_of
from stages.publishing.alignment.reward_model import reward_view
from stages.publishing.html.numbers import count
from stages.publishing.html.site import SiteParams, Summary, figures, publish_page

PARAMS: dict[str, Any] = {"publishing.site": SiteParams}
ALIGNMENT = Path("data/alignment")


def data_view(tuned: dict[str, Any], reward: dict[str, Any]) -> dict[str, Any]:
    """What was learned from, and how much of it."""
    rows = [
        ["sft", "instructions", count(tuned["sft"]["examples"])],
        ["sft", "of them machine-written", count(tuned["sft"]["machine_examples"])],
        ["rft", "sampled answers", count(tuned["rft"]["sampled"])],
        ["rft", "right ones, each once", count(tuned["rft"]["kept"])],
        ["reward", "pairs", count(reward["training_pairs"])],
        ["dpo", "pairs", count(tuned["dpo"]["pairs"])],
        ["grpo", "prompts", count(tuned["grpo"]["prompts"])],
        ["best_of_n", "answers of each prompt", count(tuned["best_of_n"]["n"])],
    ]
    return {"head": ["Method", "What", "How many"], "rows": rows, "numeric": (2,)}


def main() -> None:
    with stage("publishing.alignment_report", SiteParams, section="publishing.site") as run:
        board = run.read_contract(LEADERBOARD, Leaderboard)
        base = run.section("alignment.base", str)
        tuned = {name: run.read_json(ALIGNMENT / name / "metrics.json") for name in LEARNS_FROM}
        evaluations = {
            model: run.read_contract(f"{EVALUATED}/{model}/evaluation.json", Evaluation)
            for model in run.items(EVALUATED)
        }
        picked = run.read_json(ALIGNMENT / "best_of_n/over_optimisation.json")
        trained = list(read_jsonl(run.input(ALIGNMENT / "ppo/steps.jsonl")))
        rewards = run.read_json(ALIGNMENT / "proxy_rewards/proxy_rewards.json")
        reward, held_out = (run.read_json(ALIGNMENT / f"reward/{name}.json") for name in ("metrics", "held_out"))
        annotated = run.read_json(ALIGNMENT / "annotate/metrics.json")
        view = {
            "base": base,
            "methods": methods_view(Measured(board, tuned, evaluations, rewards, base)),
            "reward": reward_view(reward, held_out, annotated),
            "over": over_optimisation_view(points_of(picked, trained, tuned["ppo"])),
            "data": data_view(tuned, reward),
        }
        sections = [
            ("methods", "Methods"),
            ("reward", "Reward model"),
            ("over", "Reward and truth"),
            ("data", "Data"),
        ]
        publish_page(run, "alignment", view, [(id, name) for id, name in sections if view[id]], run.params)
        right = {row.model: row.right for row in board.rows if row.model in LEARNS_FROM and row.right is not None}
        best = max(right, key=right.__getitem__, default="")
        told = f"{best} answers {right[best]:.1f} % exactly right" if best else "the methods side by side"
        run.write_contract(
            "summary.json",
            Summary(
                line=f"{told[0].upper()}{told[1:]}; every method beside the model it started from, over KL and length.",
                tiles=figures((f"{right[best]:.1f} %", f"exactly right answers, {best}")) if best else [],
            ),
        )


if __name__ == "__main__":
    main()
