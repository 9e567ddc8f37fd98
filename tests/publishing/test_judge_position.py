"""What the board says beside a judge's name of a judge that goes by the place of an answer."""

import pytest

from stages.base.contracts.leaderboard import Leaderboard
from stages.publishing.leaderboard.files import as_markdown
from stages.publishing.leaderboard.table import judge_note
from tests.contracts import judging


def board(*shares: tuple[float | None, float | None, int], simulated: bool = False) -> Leaderboard:
    """Of models with (first shown wins, same in both orders, comparisons); the baseline is judged against itself."""
    rows = [
        judging.row(f"m{place}", prefers_first=first, consistent=same, n=n, baseline=False, chosen=False)
        for place, (first, same, n) in enumerate(shares)
    ]
    judge = {
        "simulated": simulated, "provider": "openai", "model": "smol", "label": "smol", "signal": "",
        "versions": {"smol": 40},
    }  # fmt: skip
    return judging.leaderboard(rows=[judging.row(), *rows], judge=judge, chosen=None, comparisons=[])


@pytest.mark.parametrize(
    ("shares", "told"),
    [
        (((100.0, 0.0, 90), (90.0, 10.0, 10)),
         "Of its verdicts 99 % go to the answer shown first, and 1 % of the pairs shown in both orders get the same "
         "answer twice: it judges by position."),
        (((2.0, None, 90),), "Of its verdicts 2 % go to the answer shown first: it judges by position."),
        (((55.0, 80.0, 90), (None, None, 0)),
         "Of its verdicts 55 % go to the answer shown first, and 80 % of the pairs shown in both orders get the same "
         "answer twice."),
        (((None, None, 90),), ""),
    ],
)  # fmt: skip
def test_a_language_model_is_named_with_its_leaning(
    shares: tuple[tuple[float | None, float | None, int]], told: str
) -> None:
    one = board(*shares)
    for text in (judge_note(one, has_right=True), as_markdown(one, "T")):
        assert told in text and ("judges by position" in text) == ("judges by position" in told)
        assert ("Of its verdicts" in text) == bool(told)


def test_of_the_pool_whose_leanings_are_settings_nothing_is_said() -> None:
    assert "Of its verdicts" not in as_markdown(board((100.0, 0.0, 90), simulated=True), "T")
