"""publishing.board: the leaderboard as a page, CSV, JSON and Markdown, and the judged answers to browse.

Reads what judging wrote and the questions, nothing of corpus, ladder or pretraining.
"""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from stages.base import schemas
from stages.base.artifacts import AGREEMENT, JUDGED, LEADERBOARD, RESPONSES, read_instructions
from stages.base.contracts.agreement import Agreement
from stages.base.contracts.leaderboard import Leaderboard
from stages.base.errors import ParamError
from stages.base.params import Section, nearest
from stages.base.record import StageRun, stage
from stages.publishing.html.numbers import count
from stages.publishing.html.site import SiteParams, Summary, figures, finite, publish_page
from stages.publishing.leaderboard.answers import Entrant, answers_view
from stages.publishing.leaderboard.files import as_csv, as_json, as_markdown, published_rows
from stages.publishing.leaderboard.headline import headline
from stages.publishing.leaderboard.samples import samples_view
from stages.publishing.leaderboard.table import leaderboard_view

TRACKED = 3  # tuned models with weights whose numbers go to reports/metrics.json


class BoardParams(Section):
    prompts: Annotated[int, Field(ge=1)]
    """Test questions shown with every model's answer, drawn by seed."""
    side_by_side: Annotated[list[str], Field(min_length=1)]
    """Models and answerers whose answers are shown."""


PARAMS: dict[str, Any] = {"publishing.board": BoardParams, "publishing.site": SiteParams}


def entrants(run: StageRun[BoardParams], board: Leaderboard) -> dict[str, Entrant]:
    """What every model of the board answered, and how it was judged; without those that have no such files."""
    found = {}
    for model in [row.model for row in board.rows]:
        tables = (
            (f"{RESPONSES}/{model}/outputs.parquet", schemas.OUTPUT),
            (f"{JUDGED}/{model}/annotations.parquet", schemas.ANNOTATION),
            (f"{JUDGED}/{model}/exact.parquet", schemas.EXACT),
        )
        rows = [run.read_table(path, schema).to_pylist() if Path(path).is_file() else [] for path, schema in tables]
        if rows[0]:
            found[model] = Entrant.of(*rows)
    return found


def samples_section(run: StageRun[BoardParams], board: Leaderboard) -> dict[str, Any]:
    shown, known = run.params.side_by_side, [row.model for row in board.rows]
    for name in shown:
        if name not in known:
            raise ParamError(
                f"params.yaml: `publishing.board.side_by_side`: no `{name}` on the leaderboard{nearest(name, known)}"
            )
    outputs = {name: run.read_table(f"{RESPONSES}/{name}/outputs.parquet", schemas.OUTPUT) for name in shown}
    exact = {name: run.read_table(f"{JUDGED}/{name}/exact.parquet", schemas.EXACT) for name in shown}
    return {
        "intro": (
            "Questions of the test split, drawn by seed and not by looking at the answers. The same decoding for "
            "every model."
        ),
        "questions": samples_view(read_instructions(run), outputs, exact, run.params.prompts, run.seed),
    }


def summary(board: Leaderboard, base: str) -> Summary:
    """`base`: the model that alignment started from; its numbers are those of a model that can't chat."""
    models = [row for row in board.rows if row.kind in ("trained", "imported") and row.model != base]
    models = sorted(models, key=lambda row: (row.kind != "trained", not row.baseline, row.model))[:TRACKED]
    numbers: dict[str, float | None] = {}
    for row in models:
        numbers[f"{row.model}/right"] = row.right
        if not row.baseline:
            numbers |= {
                f"{row.model}/win_rate": row.win_rate,
                f"{row.model}/lc": row.lc_win_rate,
                f"{row.model}/lc_low": row.lc_low,
                f"{row.model}/lc_high": row.lc_high,
            }
    return Summary(
        line=f"{headline(board)}.",
        stations=figures(
            (count(len(board.rows)), "contestants, controls among them"),
            (count(board.rows[0].n), "test questions each"),
        ),
        metrics=finite(**numbers),
    )


def publish_board(run: StageRun[BoardParams]) -> None:
    """Write the page, the files beside it and the summary; `trainyard verify` makes them anew by this."""
    site = run.section("publishing.site", SiteParams)
    board = run.read_contract(LEADERBOARD, Leaderboard)
    view = {
        "claim": headline(board),
        "board": leaderboard_view(board, run.read_contract(AGREEMENT, Agreement)),
        "samples": samples_section(run, board),
        "example": board.rows[0].model,
    }
    sections = [("leaderboard", "Models"), ("samples", "Side by side")]
    publish_page(run, "leaderboard", view, sections, site)
    answers = answers_view(read_instructions(run), entrants(run, board), board.baseline, run.seed)
    publish_page(run, "answers", {"answers": answers}, [], site)
    rows = published_rows(board)
    run.publish("reports/leaderboard.csv", as_csv(rows))
    run.publish("reports/leaderboard.json", as_json(rows, board))
    run.publish("reports/leaderboard.md", as_markdown(board, site.title))
    run.write_contract("summary.json", summary(board, run.section("alignment.base", str)))


def main() -> None:
    with stage("publishing.board", BoardParams, seed="run.seed") as run:
        publish_board(run)


if __name__ == "__main__":
    main()
