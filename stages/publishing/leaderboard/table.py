"""The leaderboard as a page shows it."""

from collections.abc import Sequence
from typing import Any

from stages.base.contracts.agreement import Agreement
from stages.base.contracts.leaderboard import ONE_SEED, Comparison, Correlation, Leaderboard, Row
from stages.publishing.html.numbers import Scale, ceiling, count, floor, number, percent, value

ABOUT = {
    "trained": "trained here",
    "imported": "imported: {source}",
    "constant": "one fixed answer to every question",
    "shuffled": "correct answers, to other questions",
    "nearest_neighbour": "the answer to the most similar training question",
    "padded": "{source}, with empty sentences added",
    "few_shot": "{source}, shown answered questions before each",
    "endpoint": "a server's model, asked with {source}",
}
SOME_RUNS = (
    "The intervals say how sure the numbers of these very models are, given so many questions; another seed would "
    "train somewhat different models, and that spread is in the numbers over several trainings alone."
)
TRAINED = ("trained", "imported")
BY_POSITION = 40.0  # points from 50 beyond which a judge doesn't read the answers
TIERS = (
    "Tier: models of one tier can't be told apart from its first by {metric} on the same questions (all pairs, Holm's "
    "adjustment at 5 %)."
)
TIER_WORDS = {"right": "exactly right answers", "win_rate": "win rate"}
ONE_RUN = (
    "Every model was trained once. The intervals say how sure the numbers of these very models are, given so many "
    "questions; another seed would train somewhat different models, and that spread is not in them."
)


def leaderboard_view(board: Leaderboard, agreement: Agreement | None) -> dict[str, Any]:
    rows = board.rows
    rights = [x for row in rows for x in (number(row.right), number(row.right_high)) if x is not None]
    wins = [
        x
        for row in rows
        for x in map(number, (row.win_rate, row.lc_win_rate, row.lc_low, row.lc_high))
        if x is not None
    ]
    return {
        "intro": (
            "Test questions are of the test split: tuning showed none of them. Every model answered the same "
            f"{count(max((row.n for row in rows), default=0))}; a base model has never seen the chat format. Win rates "
            f"are against {board.baseline}; rows are ordered by length-controlled win rate, and controls hold no rank."
        ),
        "rows": [_row(row) for row in rows],
        "has_right": bool(rights),
        "has_tiers": board.tier_metric is not None,
        "has_corrected": any(row.n_truth for row in rows),
        "has_cost": any(row.usd for row in rows),
        "right_scale": Scale(0.0, min(100.0, ceiling(rights, 20))),
        "win_scale": Scale(floor([50.0, *wins], 10), ceiling([50.0, *wins], 10)),
        "judge_label": "simulated annotators" if board.judge.simulated else "judge",
        "judge_note": judge_note(board, has_right=bool(rights)),
        "one_run": SOME_RUNS if any(row.reruns for row in rows) else ONE_RUN,
        "reading": _reading(board, has_right=bool(rights)),
        "comparisons": comparisons_view(board.comparisons),
        "correlations": correlations_view(board.correlations),
        "leanings": leanings_view(rows),
        "agreement": agreement_view(agreement),
    }


def imported_view(board: Leaderboard) -> dict[str, Any]:
    """The view of a leaderboard made of annotation files, of whose models nothing else is known."""
    questions = count(max((row.n for row in board.rows), default=0))
    return leaderboard_view(board, None) | {
        "intro": (
            f"Verdicts on up to {questions} instructions for each model, read from annotation files. Win rates are "
            f"against {board.baseline}; rows are ordered by length-controlled win rate."
        ),
        "reading": " ".join(
            [
                "Small numbers are 95 % intervals. Length-controlled: the win rate a model would have at the "
                "baseline's length (Dubois et al. 2024). Their standard errors include the error of the fitted "
                "weights, which AlpacaEval's leave out. Bradley–Terry: strengths from battles implied by the "
                "comparisons with the baseline.",
                *([CORRECTED] if any(row.n_truth for row in board.rows) else []),
                *board.notes,
            ]
        ),
    }


def _row(row: Row) -> dict[str, Any]:
    source = row.source.removeprefix("data/").removesuffix("/outputs.parquet").replace("/", " › ")
    about = ABOUT.get(row.kind, "{source}").format(source=source)
    missing = f"; {count(row.missing)} without a verdict" if row.missing else ""
    about += f"; {coverage(row)}" if row.kind in TRAINED and row.tier else ""
    return {
        "rank": row.rank,
        "tier": row.tier,
        "model": row.model,
        "about": about + missing,
        "lineage": row.lineage,
        "cost": row.usd,
        "control": row.control,
        "baseline": row.baseline,
        "chosen": row.chosen,
        "right": value(row.right, row.right_low, row.right_high),
        "win": value(row.win_rate, row.win_rate_low, row.win_rate_high),
        "corrected": value(row.corrected_win_rate, row.corrected_low, row.corrected_high),
        "lc": value(row.lc_win_rate, row.lc_low, row.lc_high),
        "bt": value(row.bradley_terry, row.bradley_terry_low, row.bradley_terry_high, digits=2),
        "length": count(row.mean_length or 0.0),
    }


def coverage(row: Row) -> str:
    """What a row's intervals are over, in words; of a model that was trained again, its interval over seeds."""
    again = row.reruns
    if again is None:
        return ONE_SEED
    shown = value(again.mean, again.low, again.high)
    number = f"{shown.text} % ({shown.range})" if shown else "no number"
    return f"{again.n} trainings: {TIER_WORDS[again.metric]} {number} over seeds and questions"


def judge_note(board: Leaderboard, *, has_right: bool) -> str:
    judge = board.judge
    if judge.simulated:
        exact = " Exactly right answers are counted against the facts and involve no judge." if has_right else ""
        told = any(judge.signal in note for note in board.notes)
        signal = "" if told else f" They go by {judge.signal}."
        return (
            f"Win rates, length-controlled win rates and Bradley–Terry strengths come from {judge.label}: programs, "
            "not people and not a language model, with a known bias towards length and a known rate of wrong labels."
            f"{signal} They show whether the measuring works, not what people would prefer.{exact}"
        )
    named = ", ".join(name for name in judge.versions if name != judge.label)
    versions = f" (it answered as {named})" if named else ""
    named_judge = f"Win rates and Bradley–Terry strengths come from {judge.label}, a language model{versions}."
    return " ".join([named_judge, *position_note(board.rows)])


def position_note(rows: Sequence[Row]) -> list[str]:
    """One sentence on what a judge's verdicts owe to the order in which the answers were shown, over all rows; none
    where that isn't known."""
    judged = [row for row in rows if not row.baseline and row.n]
    first, same = (
        _mean([(share, row.n) for row in judged if (share := getattr(row, name)) is not None])
        for name in ("prefers_first", "consistent")
    )
    if first is None:
        return []
    twice = "" if same is None else f", and {same:.0f} % of the pairs shown in both orders get the same answer twice"
    by_position = ": it judges by position" if abs(first - 50) > BY_POSITION else ""
    return [f"Of its verdicts {first:.0f} % go to the answer shown first{twice}{by_position}."]


def _mean(weighted: Sequence[tuple[float, int]]) -> float | None:
    return sum(share * n for share, n in weighted) / sum(n for _, n in weighted) if weighted else None


def _reading(board: Leaderboard, *, has_right: bool) -> str:
    parts = ["Small numbers are 95 % intervals."]
    if has_right:
        parts.append("Exactly right: every asked fact is there and no wrong one is.")
    parts.append(
        "Length-controlled: the win rate a model would have at the baseline's length (Dubois et al. 2024, without "
        "instruction difficulty). Bradley–Terry: log-strength from the comparisons with the baseline; no other pair "
        "was judged head to head. Controls answer without a model: a tuned model that doesn't beat them has learned "
        "nothing."
    )
    if board.tier_metric:
        parts.append(TIERS.format(metric=TIER_WORDS[board.tier_metric]))
    if any(row.n_truth for row in board.rows):
        parts.append(CORRECTED)
    if board.chosen:
        by = board.chosen.by.replace("_", " ")
        parts.append(f"{board.chosen.model} was chosen by {by} on the {board.chosen.split} split alone.")
    return " ".join([*parts, *board.notes])


def leanings_view(rows: Sequence[Row]) -> dict[str, Any] | None:
    """What the judge goes by beside the answers, a line a model; None where nothing is known of it."""
    table = []
    for row in rows:
        shares = [value(share) for share in (row.prefers_first, row.prefers_longer, row.consistent)]
        if any(shares) and not row.baseline:
            table.append([row.model, *(share.text if share else "–" for share in shares)])
    head = ["Model", "First shown wins, %", "Longer wins, %", "Same in both orders, %"]
    return {"head": head, "rows": table} if table else None


CORRECTED = (
    "Corrected: the win rate free of the judge's bias, made of the verdicts that are known to be right and of what the "
    "judge adds to them (prediction-powered inference, Angelopoulos et al. 2023)."
)


def comparisons_view(comparisons: Sequence[Comparison]) -> dict[str, Any] | None:
    table, metrics = [], set()
    for row in comparisons:
        difference = value(row.difference, row.low, row.high)
        if difference is None or row.split != "test":
            continue
        word = "undecided"
        if difference.low is not None and difference.low > 0:
            word = "better"
        elif difference.high is not None and difference.high < 0:
            word = "worse"
        metrics.add(row.metric)
        table.append([f"{row.model} − {row.against}", difference.text, difference.range or "–", word])
    if not table:
        return None
    what = " and ".join(
        {"right": "exactly right answers", "win_rate": "win rate"}[metric] for metric in sorted(metrics)
    )
    return {
        "head": ["Difference", "Points", "95 % interval", "Which is"],
        "rows": table,
        "what": what,
        "numeric": [1, 2],
    }


NAMES = {
    "win_rate": "win rate",
    "lc_win_rate": "length-controlled win rate",
    "bradley_terry": "Bradley–Terry",
    "right": "exactly right",
    "mean_length": "mean length",
}


def correlations_view(correlations: Sequence[Correlation]) -> dict[str, Any] | None:
    """A line for every two columns: do they rank the models alike?"""
    rows = []
    for row in correlations:
        shown = value(row.spearman, row.low, row.high, digits=2)
        if shown is not None:
            rows.append([f"{NAMES[row.a]} / {NAMES[row.b]}", shown.text, shown.range or "–", count(row.n)])
    return {"head": ["Columns", "Spearman", "95 % interval", "Models"], "rows": rows} if rows else None


def agreement_view(agreement: Agreement | None) -> list[tuple[str, str]]:
    if agreement is None:
        return []
    pool = agreement.pool
    shares = (
        (pool.agreement, "an annotator agrees with the majority of the others"),
        (pool.truth_agreement, "an annotator agrees with the exact score"),
        (pool.bias, "the majority is wrong by the exact score"),
        (pool.prefers_longer, "an annotator prefers the longer answer"),
    )
    shown = [(label, percent(share, 100.0)) for share, label in shares if share is not None]
    if (alpha := value(pool.alpha, pool.alpha_low, pool.alpha_high, digits=2)) is not None:
        told = f"{alpha.text} ({alpha.range})" if alpha.range else alpha.text
        shown.append(("Krippendorff's α of all, 95 % interval (1: they always agree, 0: as by chance)", told))
    if pool.usd_per_1000:
        shown.append(("1,000 verdicts cost", f"${pool.usd_per_1000:.2f}"))
    return [*shown, ("pairs judged", f"{count(agreement.n_pairs)}, by {agreement.label}")]
