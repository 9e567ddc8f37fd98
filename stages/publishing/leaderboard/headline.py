"""The first sentence of the leaderboard, made of the numbers, so that a poor run reads as one."""

from collections.abc import Sequence

from stages.base.contracts.leaderboard import Comparison, Leaderboard, Row

VERDICT = {1: "", 0: ": no clear difference", -1: ", which is more"}


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
        claim += VERDICT[_compared(chosen, best, board.comparisons)]
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


def _compared(model: Row, control: Row, comparisons: Sequence[Comparison]) -> int:
    """1 where the paired interval lies above zero, -1 below, 0 for neither; without one, where the models' intervals
    are apart."""
    pair = (model.model, control.model, "right", "test")
    for row in comparisons:
        if (row.model, row.against, row.metric, row.split) == pair and row.low is not None and row.high is not None:
            return int(row.low > 0) - int(row.high < 0)
    ends = (model.right_low, model.right_high, control.right_low, control.right_high)
    if None in ends:
        return 0
    low, high, control_low, control_high = (end or 0.0 for end in ends)
    return int(low > control_high) - int(high < control_low)
