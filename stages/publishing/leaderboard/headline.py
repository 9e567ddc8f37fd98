"""The first sentence of the leaderboard, made of the numbers, so that a poor run reads as one."""

from collections.abc import Sequence

from stages.base.contracts.leaderboard import Comparison, Leaderboard, Row


def headline(board: Leaderboard) -> str:
    """What the chosen model reaches, beside the best control. Without known truth it is a win rate."""
    if any(row.right is not None for row in board.rows if not row.control):
        return _right(board)
    return _wins(board)


def _right(board: Leaderboard) -> str:
    models = [row for row in board.rows if not row.control and row.right is not None]
    chosen = next((row for row in models if row.chosen), None) or max(models, key=lambda row: row.right or 0.0)
    claim = f"{_subject(chosen.model)} gets {chosen.right:.0f}\u202f% of unseen questions exactly right"
    # A padded control is a model's own answers made longer: a check of the judge, not of what was learned.
    controls = [row for row in board.rows if row.control and row.kind != "padded" and row.right is not None]
    if controls:
        best = max(controls, key=lambda row: row.right or 0.0)
        claim += f"; the best control, {_words(best.model)}, {best.right:.0f}\u202f%"
        if not _beats(chosen, best, board.comparisons):
            claim += ", which is not clearly fewer"
    return claim


def _wins(board: Leaderboard) -> str:
    models = [row for row in board.rows if not row.control and not row.baseline and row.lc_win_rate is not None]
    if not models:
        return f"No model was judged against {_words(board.baseline)}"
    chosen = next((row for row in models if row.chosen), models[0])
    claim = (
        f"{_subject(chosen.model)} wins {chosen.lc_win_rate:.0f}\u202f% of comparisons with {_words(board.baseline)}, "
        "length taken into account"
    )
    if chosen.lc_low is not None and chosen.lc_high is not None and chosen.lc_low <= 50 <= chosen.lc_high:
        claim += ": no clear difference"
    return claim


def _subject(name: str) -> str:
    """A model's key at the start of a sentence: DPO, Best of n."""
    return name.upper() if len(name) <= 4 else _words(name).capitalize()


def _words(name: str) -> str:
    return name.replace("_", " ")


def _beats(model: Row, control: Row, comparisons: Sequence[Comparison]) -> bool:
    """Whether the paired interval lies above zero; without one, whether the two models' intervals are apart."""
    pair = (model.model, control.model, "right", "test")
    for row in comparisons:
        if (row.model, row.against, row.metric, row.split) == pair:
            return (row.low or 0.0) > 0
    return (model.right_low or 0.0) > (control.right_high or 0.0)
