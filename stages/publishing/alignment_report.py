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
from stages.publishing.html.site import SiteParams, Summary, figures, publish_page, read_if_there

PARAMS: dict[str, Any] = {"publishing.site": SiteParams}
ALIGNMENT = Path("data/alignment")
LEARNED = (  # method, what it learned from, its key in metrics.json
    ("sft", "instructions", "examples"),
    ("sft", "of them machine-written", "machine_examples"),
    ("rft", "sampled answers", "sampled"),
    ("rft", "right ones, each once", "kept"),
    ("reward", "pairs", "training_pairs"),
    ("dpo", "pairs", "pairs"),
    ("grpo", "prompts", "prompts"),
    ("best_of_n", "answers of each prompt", "n"),
)


def data_view(tuned: dict[str, Any], reward: dict[str, Any]) -> dict[str, Any]:
    """What was learned from, and how much of it."""
    learned = {**tuned, "reward": reward}
    rows = [
        [method, what, count(learned[method][key])]
        for method, what, key in LEARNED
        if key in learned.get(method, {})  # else the pipeline lacks the method
    ]
    return {"head": ["Method", "What", "How many"], "rows": rows, "numeric": (2,)}


def main() -> None:
    with stage("publishing.alignment_report", SiteParams, section="publishing.site") as run:
        board = run.read_contract(LEADERBOARD, Leaderboard)
        base = run.section("alignment.base", str)
        every = {name: read_if_there(run, ALIGNMENT / name / "metrics.json") for name in LEARNS_FROM}
        tuned = {name: found for name, found in every.items() if found}
        evaluations = {
            model: run.read_contract(f"{EVALUATED}/{model}/evaluation.json", Evaluation)
            for model in run.items(EVALUATED)
        }
        picked = read_if_there(run, ALIGNMENT / "best_of_n/over_optimisation.json") or []
        steps = ALIGNMENT / "ppo/steps.jsonl"
        trained = list(read_jsonl(run.input(steps))) if steps.is_file() else []
        rewards = read_if_there(run, ALIGNMENT / "proxy_rewards/proxy_rewards.json") or {}
        reward, held_out = (read_if_there(run, ALIGNMENT / f"reward/{name}.json") for name in ("metrics", "held_out"))
        annotated = read_if_there(run, ALIGNMENT / "annotate/metrics.json") or {}
        view = {
            "base": base,
            "methods": methods_view(Measured(board, tuned, evaluations, rewards, base)),
            "reward": reward_view(reward, held_out, annotated) if reward and held_out else None,
            "over": over_optimisation_view(points_of(picked, trained, tuned.get("ppo", {}))),
            "data": data_view(tuned, reward or {}),
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
