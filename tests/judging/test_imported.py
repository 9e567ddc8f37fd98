"""Files of AlpacaEval in and out: rows that can't be used are named, never averaged in."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from stages.base.contracts.leaderboard import COVERAGE
from stages.base.errors import InputError
from stages.cli import main
from stages.judging.alpaca_eval.board import Options, import_board
from stages.judging.alpaca_eval.files import from_annotations
from tests.annotators.flaky_server import Scripted

ROOT = Path(__file__).resolve().parents[2]


def entry(number: int, model: str, preference: Any) -> dict[str, Any]:
    return {
        "instruction": f"Instruction {number}",
        "output_1": "b" * (10 + number % 3),
        "generator_1": "base",
        "output_2": "m" * (10 + (number + 1) % 3),  # as long as the baseline's, on average
        "generator_2": model,
        "annotator": "gpt",
        "preference": preference,
    }


def some(model: str, chance: float, seed: int, n: int = 60) -> list[dict[str, Any]]:
    wins = np.random.default_rng(seed).random(n) < chance
    return [entry(number, model, 1.9 if won else 1.1) for number, won in enumerate(wins)]


def write(path: Path, rows: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows))
    return path


def test_models_are_ranked_against_their_baseline(tmp_path: Path) -> None:
    good, bad = some("good", 0.7, 1), some("bad", 0.3, 2)
    # The same verdicts with the sides exchanged say the same.
    turned = [
        row | {"output_1": row["output_2"], "output_2": row["output_1"], "generator_1": "bad", "generator_2": "base"}
        | {"preference": 3 - row["preference"]}
        for row in bad
    ]  # fmt: skip
    files = [write(tmp_path / "good.json", good), write(tmp_path / "bad.json", bad)]
    board, problems = import_board(files, Options(arena=True))
    assert [row.model for row in board.rows] == ["good", "base", "bad"] and not problems
    rates = {row.model: row.win_rate for row in board.rows}
    assert (
        rates["good"] == pytest.approx(100 * np.mean([row["preference"] - 1 for row in good])) and rates["base"] == 50
    )
    strengths = [row.bradley_terry for row in board.rows]
    assert strengths == sorted(strengths, reverse=True)
    again, _ = import_board([files[0], write(tmp_path / "turned.json", turned)], Options(baseline="base", arena=True))
    assert again.rows == board.rows


def test_every_row_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    rows = some("m", 0.5, 3, n=40)
    rows[3]["preference"] = None
    rows[4]["preference"] = 7
    rows[5]["generator_1"] = "other"
    del rows[6]["output_2"]
    rows[7]["preference"] = "2"
    rows[8]["preference"] = 0  # AlpacaEval's other way to write a draw
    rows += [rows[9], rows[10] | {"preference": 3 - rows[10]["preference"]}]
    whole = write(tmp_path / "whole.json", some("n", 0.5, 4, n=40))
    board, problems = import_board([write(tmp_path / "m.json", rows), whole], Options())
    told = "\n".join(problems)
    for word in (
        "entry 4: preference 7", "entry 5: judged against `other`", "entry 6: no `output_2`", "entry 7: preference '2'",
        "instruction 9 has 2 verdicts; counted once", "instruction 10 has 2 verdicts; they differ",
        "m: no row for instruction 4", "m: no row for instruction 5",
    ):  # fmt: skip
        assert word in told, word
    (row,) = [row for row in board.rows if row.model == "m"]
    assert (row.n_total, row.missing) == (34, 1), "4 rows unusable, 1 contradicted, 1 without a verdict"
    used = [r["preference"] for k, r in enumerate(rows[:40]) if k not in (3, 4, 5, 6, 7, 10)]
    expected = [0.5 if preference == 0 else preference - 1 for preference in used]
    assert row.win_rate == pytest.approx(100 * np.mean(expected))
    assert "rows of the files could not be used" in board.notes[0] and COVERAGE in board.notes


def test_a_baseline_or_a_judge_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "m.json", some("m", 0.5, 1))
    with pytest.raises(InputError, match=r"`nobody`; baselines in these files: base"):
        import_board([path], Options(baseline="nobody"))
    with pytest.raises(InputError, match=r"`him`; judges in these files: gpt"):
        import_board([path], Options(annotator="him"))
    other = write(tmp_path / "o.json", [row | {"annotator": "claude"} for row in some("o", 0.5, 2)])
    with pytest.raises(InputError, match="verdicts of 2 judges: claude, gpt"):
        import_board([path, other], Options())
    board, problems = import_board([path, other], Options(annotator="gpt"))
    assert [row.model for row in board.rows if not row.baseline] == ["m"] and len(problems) == 60
    (tmp_path / "results").mkdir()
    with pytest.raises(InputError, match=r"no annotations\.json"):
        import_board([tmp_path / "results"], Options())


def test_a_file_without_generator_2_is_named_after_its_folder(tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if k != "generator_2"} for row in some("x", 0.5, 1)]
    write(tmp_path / "results" / "deepseek" / "judge" / "annotations.json", rows)
    board, _ = import_board([tmp_path / "results"], Options())
    assert {row.model for row in board.rows} == {"base", "deepseek"}


def test_hostile_texts_stay_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "<script>alert(1)</script>"
    rows = [row | {"generator_2": name, "output_2": "half \ud800 pair"} for row in some("x", 0.5, 1)]
    assert main(["leaderboard", str(write(tmp_path / "x.json", rows)), "--out", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "leaderboard.html").read_text()
    assert "nan" not in (tmp_path / "out" / "leaderboard.csv").read_text().lower().split("\n", 1)[1]
    json.loads((tmp_path / "out" / "leaderboard.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert name not in page and "&lt;script&gt;alert(1)" in page
    assert "http://" not in page and "https://" not in page, "the page opens offline"
    for text in ("[", "{}", "[1]", "[" * 100_000):
        (tmp_path / "bad.json").write_text(text)
        assert main(["leaderboard", str(tmp_path / "bad.json"), "--out", str(tmp_path / "no")]) == 2
    assert not (tmp_path / "no").exists() and "bad.json" in capsys.readouterr().err


def test_outputs_are_judged_from_the_command_line(tmp_path: Path, start, capsys: pytest.CaptureFixture[str]) -> None:
    def script(body: dict[str, Any], tries: int) -> tuple[int, dict[str, Any], str]:
        lines = body["messages"][0]["content"].splitlines()
        first = next(line for line in lines if line.startswith('{"output_1"'))
        text = "pass" if "four" in first else "1" if "good" in first else "2"
        usage = {"prompt_tokens": 100, "completion_tokens": 1}
        return 200, {"model": "judge-7", "choices": [{"message": {"content": text}}], "usage": usage}, ""

    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    annotator = params["judging"]["judge"]["annotator"]
    annotator |= {"provider": "openai", "model": "judge", "order": "both", "base_url": start(Scripted(script))}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    prompts = ["one", "two", "three", "four", "five"]
    ours = [{"instruction": p, "output": f"good answer to {p}", "generator": "mine"} for p in prompts]
    theirs = [{"instruction": p, "output": f"bad answer to {p}", "generator": "theirs"} for p in prompts[:4]]
    command = ["judge", str(write(tmp_path / "ours.json", [*ours, {"output": "?"}])), "--baseline"]
    command += [str(write(tmp_path / "theirs.json", theirs)), "--out", str(tmp_path / "annotations.json")]
    assert main([*command, "--max-cost", "0.000001"]) == 2
    assert "max_cost_usd" in capsys.readouterr().err and not (tmp_path / "annotations.json").exists()
    assert main(command) == 0
    told = capsys.readouterr().err
    assert "entry 5: no `instruction`" in told and "no output for 'five'" in told and "no preference for 'four'" in told
    rows = json.loads((tmp_path / "annotations.json").read_text())
    assert [row["preference"] for row in rows] == [2.0, 2.0, 2.0, None]
    assert {(row["generator_1"], row["generator_2"]) for row in rows} == {("theirs", "mine")}
    assert [row["annotator_version"] for row in rows] == [*["judge-7"] * 3, ""]  # a reply without a verdict is nobody's
    assert main(["leaderboard", str(tmp_path / "annotations.json"), "--out", str(tmp_path / "board")]) == 0
    with (tmp_path / "board" / "leaderboard.csv").open(newline="") as handle:
        table = {row["model"]: row for row in csv.DictReader(handle)}
    assert (
        table["mine"]["win_rate"] == "100" and table["mine"]["missing"] == "1" and table["theirs"]["win_rate"] == "50"
    )


def test_the_pipelines_annotations_read_back_the_same(tmp_path: Path) -> None:
    rows = [
        {
            "id": str(k), "split": "test", "model": "m", "baseline": "base", "annotator": "judge",
            "preference": math.nan if k == 5 else 1 + (k % 10) / 10, "usd": 0.001, "seconds": 0.5,
        }
        for k in range(40)
    ]  # fmt: skip
    texts = {str(k): (f"prompt {k}", "b" * (10 + k % 7), "m" * (10 + k % 4)) for k in range(40)}
    written = from_annotations(rows, texts)
    text = json.dumps([row | {"preference": None} if math.isnan(row["preference"]) else row for row in written])
    (tmp_path / "a.json").write_text(text)
    board, problems = import_board([tmp_path / "a.json"], Options())
    (row,) = [row for row in board.rows if row.model == "m"]
    known = [r["preference"] - 1 for r in rows if not math.isnan(r["preference"])]
    assert row.win_rate == pytest.approx(100 * np.mean(known)) and row.missing == 1 and not problems
    assert row.usd == pytest.approx(0.04) and row.seconds_per_1000 == 500
