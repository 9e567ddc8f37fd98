"""Two projects' ladders as one table: what they hold, and when their losses can't be compared."""

import json
from pathlib import Path

import numpy as np
import pytest

from stages.base.errors import InputError
from stages.base.files import write_json
from stages.cli import main
from stages.scaling.laws.law import Law
from stages.scaling.tables.ladders import read_ladders
from tests.contracts.scaling import point

LAW = Law(A=110.0, B=160.0, E=1.9, alpha=0.34, beta=0.35)


def ladder(folder: Path, worse: float = 1.0, bytes_per_token: float = 4.0) -> Path:
    """Nine runs of a law; `worse`: how many times the compute this recipe needs, each run as if of 1/√worse N and D."""
    keys = []
    for n in (2e5, 5e5, 1.2e6):
        for d in (1e6, 3e6, 9e6):
            loss = float(LAW.predict(n / worse**0.5, d / worse**0.5))
            key, bpb = f"n{n:.0f}_d{d:.0f}", loss / np.log(2) / bytes_per_token
            keys.append(key)
            size = {"n_params": int(n), "n_nonembedding": int(n / 3), "tokens": int(d), "flops": 6 * n * d}
            value = point(key=key, loss=loss, bpb=bpb, **size)
            write_json(folder / key / "point.json", value.model_dump(mode="json"))
    write_json(folder / "points.json", {"points": keys})
    return folder


def test_one_ladder_is_a_table_of_its_points(tmp_path: Path) -> None:
    table = read_ladders([("plain", ladder(tmp_path / "plain"))])
    assert table.recipes == ["transformer"] and len(table.loss) == 9
    assert "n200000_d1000000" in table.run


def test_two_overlays_of_params_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = ladder(tmp_path / "a"), ladder(tmp_path / "b", worse=1.5)
    out = tmp_path / "out"
    assert main(["scaling", "fit", f"plain={one}", f"deep={other}", "--out", str(out)]) == 0
    result = json.loads((out / "scaling.json").read_text())
    assert {recipe["name"] for recipe in result["recipes"]} == {"plain transformer", "deep transformer"}
    value, low, high = result["rivals"][0]["factor"]["multiplier"]
    assert low <= value <= high and value == pytest.approx(1.5, rel=0.02)
    assert (
        "with the exponents of plain transformer the 9 runs of deep transformer need 1.5"
        in (out / "scaling.html").read_text()
    )


@pytest.mark.parametrize("given", ["lr=1", "low=lr=1"])
def test_a_folder_may_have_an_equals_sign_in_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ladder(tmp_path / "lr=1")
    assert main(["scaling", "fit", given, "--out", "out"]) == 0
    assert (tmp_path / "out" / "scaling.html").is_file()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"loss": None}, "not a point of a ladder"),
        ({"loss": 0.0}, "positive and finite"),
        ({"arch": 3}, "not a point of a ladder"),
    ],
)
def test_a_broken_point_is_named(tmp_path: Path, change: dict, said: str) -> None:
    file = ladder(tmp_path / "a") / "n200000_d1000000" / "point.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(InputError, match=f"n200000_d1.*{said}"):
        read_ladders([("a", tmp_path / "a")])


def test_losses_on_another_yardstick_are_refused(tmp_path: Path) -> None:
    one, other = ladder(tmp_path / "a"), ladder(tmp_path / "b", bytes_per_token=3.0)
    with pytest.raises(InputError, match="another validation text or tokenizer"):
        read_ladders([("a", one), ("b", other)])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["empty"], "no points.json"),
        (["a", "missing"], "not a folder"),
        (["a", "a"], "there is another"),
        (["a", "--column", "loss=x"], "--column is for a CSV"),
    ],
)
def test_what_cannot_be_read_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ladder(tmp_path / "a")
    (tmp_path / "empty").mkdir()
    assert main(["scaling", "fit", *arguments, "--out", "out"]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_points_that_left_the_pipeline_are_not_read(tmp_path: Path) -> None:
    folder = ladder(tmp_path / "a")
    write_json(folder / "left" / "point.json", point(key="left").model_dump(mode="json"))
    assert "left" not in read_ladders([("a", folder)]).run
