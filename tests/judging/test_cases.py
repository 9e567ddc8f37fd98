"""Situations of public bug reports; `cases/judging` beside the reference data says what is right and why."""

import csv
import json
import math
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import beta

from stages.cli import main
from stages.judging.alpaca_eval.board import Options, import_board

ROOT = Path(__file__).resolve().parents[2]
Entry = dict[str, Any]


@pytest.fixture(scope="session")
def cases() -> Path:
    reference = os.environ.get("TRAINYARD_REFERENCE", ROOT.parent / "shared" / "reference")
    folder = Path(reference).parent / "cases" / "judging"
    if not folder.is_dir():
        pytest.skip("cases not found: they lie beside the folder that TRAINYARD_REFERENCE names")
    return folder


def published(arguments: list[str | Path], out: Path) -> list[dict[str, str]]:
    assert main(["leaderboard", *map(str, arguments), "--out", str(out)]) == 0
    with (out / "leaderboard.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_f11_a_model_without_a_rate_comes_last_and_scrambles_nothing(cases: Path, tmp_path: Path) -> None:
    rows = published([cases / "F11_nan_rank.annotations.json"], tmp_path)
    assert [row["model"] for row in rows] == ["elm", "fir", "birch", "house", "cedar", "alder", "ash"]
    rates = [row["length_controlled_winrate"] for row in rows]
    assert [f"{float(rate):.1f}" for rate in rates[:6]] == ["87.3", "72.0", "58.7", "50.0", "34.0", "23.3"]
    assert rates[6] == "" and [row["rank"] for row in rows] == list("1234567")
    told = json.loads((tmp_path / "leaderboard.json").read_text(encoding="utf-8"))
    assert any(note.startswith("ash has no length-controlled rate") for note in told["notes"])


def test_f12_bounds_stay_within_0_and_100_and_are_the_exact_ones(cases: Path, tmp_path: Path) -> None:
    path = cases / "F12_intervals.annotations.json"
    rows = {row["model"]: row for row in published([path], tmp_path) if row["model"] != "house"}
    for model, row in rows.items():
        said = [e["preference"] - 1 for e in json.loads(path.read_text()) if e["generator_2"] == model]
        # Gaffke's bounds as they are defined: quantiles of the mean under random weights, with one more 0, or 1.
        weights = np.random.default_rng(0).dirichlet(np.ones(len(said) + 1), 200_000)
        exact = [100 * np.quantile(weights @ [*said, end], tail) for end, tail in ((0.0, 0.025), (1.0, 0.975))]
        assert [float(row[f"win_rate_{end}"]) for end in ("low", "high")] == pytest.approx(exact, abs=0.15)
        low, high = (float(row[f"length_controlled_winrate_{end}"]) for end in ("low", "high"))
        assert 0 <= low < float(row["length_controlled_winrate"]) < high <= 100
    assert set(rows) == {"strong", "weak"}


def entries(n: int, seed: int = 0, model: str = "m") -> list[Entry]:
    """Verdicts on n instructions; no two outputs of the baseline are of one length."""
    draw = random.Random(seed)
    lengths = draw.sample(range(200, 200 + 2 * n), n)
    return [
        {
            "instruction": f"Instruction {k}", "output_1": "b" * length, "generator_1": "base",
            "output_2": "m" * draw.randint(100, 400), "generator_2": model, "annotator": "gpt",
            "preference": draw.choice([1.0, 2.0]),
        }
        for k, length in enumerate(lengths)
    ]  # fmt: skip


def write(path: Path, rows: list[Entry]) -> Path:
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def table(path: Path, columns: dict[str, list[Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def refused(arguments: list[str | Path], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a refused command says."""
    assert main(["leaderboard", *map(str, arguments)]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("trainyard: leaderboard: ")]
    assert len(said) == 1
    return said[0]


def test_f15_difficulties_are_never_applied_by_place_unless_align_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, out = entries(60), ["--out", tmp_path / "out"]
    values = [math.sin(k) for k in range(60)]
    annotations = write(tmp_path / "a.json", rows)
    plain = table(tmp_path / "d.csv", {"instruction_index": list(range(60)), "instruction_difficulty": values})
    many = table(tmp_path / "805.csv", {"instruction_index": list(range(805)), "instruction_difficulty": [0.5] * 805})
    assert "--align position" in refused([annotations, "--difficulty", plain, *out], capsys)
    for more in ([], ["--align", "position"]):
        said = refused([annotations, "--difficulty", many, *more, *out], capsys)
        assert "805" in said and "60" in said and "another instruction set" in said

    def rate(rows: list[dict[str, str]]) -> str:
        return next(row["length_controlled_winrate"] for row in rows if row["model"] == "m")

    # With the text of each instruction the order of the file makes no difference; by place it does.
    texts = table(
        tmp_path / "t.csv", {"instruction": [row["instruction"] for row in rows], "instruction_difficulty": values}
    )
    shuffled = random.Random(1).sample(rows, 60)
    other = write(tmp_path / "shuffled.json", shuffled)
    by_place = published([annotations, "--difficulty", plain, "--align", "position"], tmp_path / "1")
    right = rate(by_place)
    for path in (annotations, other):
        by_text = published([path, "--difficulty", texts], tmp_path / "2")
        assert rate(by_text) == right
    wrong = published([other, "--difficulty", plain, "--align", "position"], tmp_path / "3")
    assert rate(wrong) != right


def test_f15_regularising_rows_of_another_order_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, out = entries(60), ["--out", tmp_path / "out"]
    columns: dict[str, list[Any]] = {
        "model": ["base_verbose"] * 60,
        "instruction_index": list(range(60)),
        "std_delta_len": [math.cos(k) for k in range(60)],
        "preference_surrogate_0to1": [0.5 + 0.3 * math.cos(k) for k in range(60)],
        "len_baseline": [len(row["output_1"]) for row in rows],
    }
    gamed = table(tmp_path / "g.csv", columns)
    annotations = write(tmp_path / "a.json", rows)
    assert published([annotations, "--gamed", gamed], tmp_path / "1")  # the baseline's lengths show the order
    other = write(tmp_path / "other.json", rows[::-1])
    assert "another order" in refused([other, "--gamed", gamed, *out], capsys)
    short = write(tmp_path / "short.json", rows[:50])
    assert "another instruction set" in refused([short, "--gamed", gamed, "--align", "position", *out], capsys)


def test_two_texts_under_one_baseline_name_are_named(tmp_path: Path) -> None:
    ours, theirs = entries(40, model="m"), entries(40, model="n")
    theirs[3] = theirs[3] | {"output_1": "another answer of base"}
    board, problems = import_board([write(tmp_path / "m.json", ours), write(tmp_path / "n.json", theirs)], Options())
    assert problems == ["base: 2 outputs under this name to 'Instruction 3'"]
    assert any(note.startswith("base has several outputs to 1 of 40 instructions") for note in board.notes)
    assert {row.model: row.n for row in board.rows if not row.baseline} == {"m": 40, "n": 40}


@pytest.mark.parametrize("option", ["--difficulty", "--gamed"])
def test_f19_files_of_options_that_cannot_be_read_are_one_line(
    tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    annotations = write(tmp_path / "a.json", entries(30))
    files = {
        "none.csv": None,
        "empty.csv": b"",
        "header.csv": b"instruction_index,instruction_difficulty,model,std_delta_len,preference_surrogate_0to1\n",
        "binary.csv": bytes(range(256)) * 40,
        "broken.csv.gz": b"\x1f\x8b\x08 no gzip",
        "other.csv": b"a,b\n1,2\n",
        "ragged.csv": b"a,b\n1,2\n1,2,3,4\n",
    }
    for name, content in files.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        said = refused([annotations, option, tmp_path / name, "--out", tmp_path / "out"], capsys)
        assert name in said, name
    refused([annotations, option, tmp_path, "--out", tmp_path / "out"], capsys)
    assert not (tmp_path / "out").exists()


def test_f19_hostile_numbers_and_a_million_columns_are_refused_quickly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    annotations, out = write(tmp_path / "a.json", entries(30)), ["--out", tmp_path / "out"]
    wide = tmp_path / "wide.csv"
    wide.write_text(",".join(f"c{k}" for k in range(1_000_000)) + "\n" + ",".join("1" * 1_000_000) + "\n")
    start = time.monotonic()
    assert "wide.csv" in refused([annotations, "--difficulty", wide, *out], capsys)
    assert time.monotonic() - start < 2
    for value in ("1e308", "-1e300", "inf", "nan", "1e999", "x"):
        path = table(
            tmp_path / "d.csv",
            {"instruction": [f"Instruction {k}" for k in range(30)], "instruction_difficulty": [0] * 29 + [value]},
        )
        assert "instruction_difficulty" in refused([annotations, "--difficulty", path, *out], capsys)
    rows = entries(30)
    rows[0]["price_per_example"], rows[1]["preference"] = 1e308, 10**400
    rows[2]["time_per_example"], rows[3]["price_per_example"] = 10**400, 1e308
    assert published([write(tmp_path / "hostile.json", rows)], tmp_path / "board")[0]["usd"] == "0"


def test_a_constant_suffix_has_no_length_controlled_rate(tmp_path: Path) -> None:
    """It wins by length what it wins; with no other length to compare, no number can say otherwise."""
    rows = [row | {"output_2": row["output_1"] + "!" * 50} for row in entries(60, model="suffix")]
    found = published([write(tmp_path / "s.json", rows), write(tmp_path / "m.json", entries(60))], tmp_path / "out")
    assert [row["model"] for row in found][-1] == "suffix" and found[-1]["length_controlled_winrate"] == ""
    assert float(found[-1]["win_rate"]) > 0 and found[-1]["win_rate_low"] != ""
    assert "50 characters longer" in (tmp_path / "out" / "leaderboard.html").read_text(encoding="utf-8")


def test_an_unbeaten_model_of_the_arena_says_how_it_was_rated(tmp_path: Path) -> None:
    rows = [row | {"preference": 2.0} for row in entries(30, model="all")]
    found = published([write(tmp_path / "m.json", rows), "--arena"], tmp_path / "out")
    ends = {row["model"]: (row["bradley_terry_low"], row["bradley_terry_high"]) for row in found}
    exact = beta.ppf(0.025, 30, 1)
    low, high = map(float, ends["all"])
    assert low == pytest.approx(np.log(exact / (1 - exact)) / 2, abs=2e-3)
    rated = next(float(row["bradley_terry"]) for row in found if row["model"] == "all")
    assert rated == pytest.approx(np.log(30.5 / 0.5) / 2, abs=1e-3), "Firth's: half a win and half a loss more"
    assert high > rated and tuple(map(float, ends["base"])) == pytest.approx((-high, -low))
    page = (tmp_path / "out" / "leaderboard.html").read_text(encoding="utf-8")
    assert "rated by penalised likelihood (Firth)" in page


def test_people_correct_a_judge_that_goes_by_length(tmp_path: Path) -> None:
    wide = [row | {"output_2": row["output_2"] * 3} for row in entries(400)]
    judged = [row | {"preference": 2.0 if len(row["output_2"]) > len(row["output_1"]) else 1.0} for row in wide]
    people = [row | {"annotator": "people", "preference": 1.0} for row in judged[:100]]
    path = write(tmp_path / "a.json", judged + people)
    (row,) = [row for row in published([path, "--human", "people"], tmp_path / "out") if row["model"] == "m"]
    assert float(row["win_rate"]) > 20 and row["n_truth"] == "100"
    assert float(row["corrected_win_rate"]) < 5 and float(row["corrected_high"]) < float(row["win_rate_low"])
    notes = json.loads((tmp_path / "out" / "leaderboard.json").read_text(encoding="utf-8"))["notes"]
    assert any(note.startswith("The judge goes by length: the longer answer wins 100 %") for note in notes)


def test_f19_a_missing_file_ends_the_command_itself_with_2(tmp_path: Path) -> None:
    annotations = write(tmp_path / "a.json", entries(30))
    command = [sys.executable, "-m", "stages.cli", "leaderboard", str(annotations), "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [*command, "--difficulty", "/nonexistent.csv"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1 and "Traceback" not in done.stderr
