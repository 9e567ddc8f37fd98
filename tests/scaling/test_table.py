"""Anyone's CSV: what is refused names its lines, what is odd is remarked on, and nothing is repaired in silence."""

import re
from pathlib import Path

import numpy as np
import pytest

from stages.base.errors import InputError
from stages.scaling.laws.law import Law
from stages.scaling.tables.table import other_unit, read_table

LAW = Law(406.4, 410.7, 1.69, 0.34, 0.28)


def grid() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n, d = (axis.ravel() for axis in np.meshgrid(np.geomspace(5e7, 1e10, 6), np.geomspace(1e9, 5e11, 6)))
    return n, d, np.asarray(LAW.predict(n, d)) * np.exp(0.01 * np.random.default_rng(0).standard_normal(n.size))


def write(folder: Path, text: str) -> Path:
    path = folder / "runs.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_columns_by_other_names_and_derived_ones(tmp_path: Path) -> None:
    table = read_table(
        write(tmp_path, "Params,FLOPS,loss,mixture,lr\n1e8,1.2e18,3.0,web,0.1\n2e8,2.4e18,2.9,web,0.2\n")
    )
    assert table.N.tolist() == [1e8, 2e8] and table.D.tolist() == [2e9, 2e9]
    assert table.recipe == ("web", "web") and table.extra["lr"].tolist() == [0.1, 0.2]
    assert table.lines == (2, 3) and not table.warnings


def test_integers_whose_flops_overflow_int64(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, "N,D,loss\n405000000000,15600000000000,1.8\n"))
    assert table.C[0] == pytest.approx(6 * 405e9 * 15.6e12)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("size,D,loss\n1,2,3\n", r"no column N; there are 'size', 'D', 'loss'"),
        ("N,loss\n1,3\n", r"no column D \(or C\)"),
        ("N,D,loss\n1,2,3\n1,,3\n1,2,3\n1,-2,3\n", r"`D` .*lines 3 \(empty\), 5 \(-2\)"),
        ("N,D,loss\n1,2,nan\n", r"`loss` .*lines 2 \(nan\)"),
        ("N,D,loss\n1,2,inf\n1,2,lots\n", r"lines 2 \(inf\), 3 \(lots\)"),
        ("N,D,loss\n0,2,3\n" * 1 + "0,2,3\n" * 6, r"and 2 more"),
        ("N,D,loss\n1,2\n", r"line 2: 2 cells, the header has 3"),
        ("N,params,D,loss\n1,1,2,3\n", r"columns `N` and `params` are both N"),
        ("N,D,loss\n", r"no runs"),
        ("", r"no column N or loss or D"),
        ("N,D,loss\n1,2,3\n-1,2,3\n1,0,3\n", r"`N` on lines 3 \(-1\); column `D` on lines 4 \(0\)"),
        ("N,D,loss\n1_0,2,3\n", r"`N` on lines 2 \(1_0\)"),
        ("N,D,loss\n1,\0,3\n", r"`D` on lines 2 \(unprintable\)"),
        ("N;D;loss\n1;2;3\n", r"separated by ';': save it with commas"),
        ("N\tD\tloss\n1\t2\t3\n", r"separated by tabs: save it with commas"),
        ("N,D,loss\n1,2,3\n" + '"' + "9" * 200_000 + '",2,3\n', r"line 3: field larger than .*quote left open"),
        ("N,D,loss\n1,2,3\n" + '"1,2,3\n' + "1,2,3\n" * 30_000, r"line 3: field larger than .*quote left open"),
        ("N,D,loss\n1e8,2e9,3\n1e300,1e300,2\n", r"6·N·D, or C, is no usable number of FLOPs on lines 3"),
        ("N,D,loss\n1e8,2e9,3\n1e-300,1e-300,2\n", r"6·N·D, or C, is no usable number of FLOPs on lines 3"),
        ("N,C,loss\n1e8,2e18,3\n1e-300,1e18,2\n1,1e299,2", r"FLOPs on lines 3, 4;"),
    ],
)
def test_bad_tables_are_refused_by_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_table(write(tmp_path, text))


def test_a_missing_file_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_table(tmp_path / "none.csv")
    (tmp_path / "runs.csv").write_bytes(b"N,D,loss\n\xff\xfe")
    with pytest.raises(InputError, match="not UTF-8"):
        read_table(tmp_path / "runs.csv")


def test_duplicates_and_compute_that_doesnt_fit_are_remarked(tmp_path: Path) -> None:
    rows = "1e8,2e9,1.2e18,3.0\n1e8,2e9,1.2e18,3.0\n2e8,2e9,2.4e21,2.9\n"
    twice, compute = read_table(write(tmp_path, "N,D,C,loss\n" + rows)).warnings
    assert "1 runs stand in the table twice" in twice and "lines 3 (as 2)" in twice
    assert "1e+03 times 6·N·D in 1 runs (lines 4)" in compute


def test_a_number_beyond_floats_is_no_warning(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    with pytest.raises(InputError):
        read_table(write(tmp_path, "N,D,loss\n1e200,1e200,3\n"))
    assert not recwarn.list


def test_columns_that_are_not_used_are_named(tmp_path: Path) -> None:
    (said,) = read_table(write(tmp_path, "N,D,loss,step,,note\n1e8,2e9,3,7,,a\n")).warnings
    assert said == "ignored columns: `step`, `note`."


@pytest.mark.parametrize("word", ["setting", "dataset", "model"])
def test_settings_data_sets_and_models_are_recipes(tmp_path: Path, word: str) -> None:
    table = read_table(write(tmp_path, f"N,D,loss,{word},bs,N_noembed\n1e8,2e9,3,a,64,8e7\n1e8,2e9,3,b,64,8e7\n"))
    assert table.recipe == ("a", "b") and not table.warnings
    assert table.extra["batch"].tolist() == [64, 64] and table.extra["N_nonembedding"].tolist() == [8e7, 8e7]


def test_of_two_columns_of_recipes_the_likelier_is_taken(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, "N,D,loss,model,dataset\n1e8,2e9,3,m,d\n"))
    assert table.recipe == ("d",) and table.warnings == ("ignored columns: `model`.",)


def test_a_column_named_by_the_reader(tmp_path: Path) -> None:
    path = write(tmp_path, "N,D,loss,c4_val,model\n1e8,2e9,9,3.1,x\n")
    table = read_table(path, {"loss": "c4_val", "run": "model"})
    assert table.loss.tolist() == [3.1] and table.run == ("x",) and table.recipe == ("",)
    assert table.warnings == ("ignored columns: `loss`.",)
    with pytest.raises(InputError, match="no column `c4` to take as loss; there are 'N'"):
        read_table(path, {"loss": "c4"})


def test_recipes_that_look_like_names_of_runs_are_remarked(tmp_path: Path) -> None:
    rows = "".join(f"{n}e8,2e9,3,run-{n}\n" for n in range(1, 5))
    (said,) = read_table(write(tmp_path, "N,D,loss,model\n" + rows)).warnings
    assert "4 recipes of 4 runs" in said and "--column run=COLUMN" in said


@pytest.mark.parametrize("share", [0.08, 0.5, 0.8])
def test_losses_in_bits_are_noticed(tmp_path: Path, share: float) -> None:
    n, d, loss = grid()
    bits = np.random.default_rng(1).random(n.size) < share
    mixed = np.where(bits, loss / np.log(2), loss)
    assert other_unit(n, d, mixed).tolist() == np.flatnonzero(bits).tolist()
    lines = "".join(f"{a},{b},{c}\n" for a, b, c in zip(n, d, mixed, strict=True))
    (said,) = read_table(write(tmp_path, "N,D,loss\n" + lines)).warnings
    assert "as of bits among nats" in said


def test_losses_of_one_unit_raise_no_remark(reference: Path) -> None:
    """Real tables, outliers and all."""
    assert other_unit(*grid()).size == 0
    for name in ("hoffmann2022_epoch_svg", "gemstones2025_fineweb_edu", "chinchilla_isoflop"):
        table = np.genfromtxt(reference / "scaling" / f"{name}.csv", delimiter=",", names=True, usecols=None)
        assert other_unit(table["N"], table["D"], table["loss"]).size == 0, name


def lines_of(*columns: np.ndarray) -> str:
    return "".join(",".join(map(str, row)) + "\n" for row in zip(*columns, strict=True))


@pytest.mark.parametrize(
    ("n_unit", "d_unit", "said"),
    [
        (1e6, 1e9, r"N is below 10,000 parameters in 30 runs .* D is below 10,000 tokens in 36 runs"),
        (1e6, 1e6, "N is below 10,000 parameters in 30 runs"),
        (1e9, 1e9, r"N is less than one parameter on lines 2 \(0.05\)"),
        (1.0, 1e9, r"D is below 10,000 tokens in 36 runs \(lines 2, 3"),
        (1.0, 1e12, r"D is less than one token on lines 2 \(0.001\)"),
        (1e6, 1.0, "N is below 10,000 parameters"),
        (1.0, 1e3, "D is less than 0.1 tokens per parameter in"),
    ],
)
def test_parameters_and_tokens_in_other_units_are_refused_or_remarked(
    tmp_path: Path, n_unit: float, d_unit: float, said: str
) -> None:
    n, d, loss = grid()
    path = write(tmp_path, "N,D,loss\n" + lines_of(n / n_unit, d / d_unit, loss))
    try:
        told = " ".join(read_table(path).warnings)
    except InputError as error:
        told = str(error)
    assert re.search(said, told), told


@pytest.mark.parametrize(
    ("unit", "name"), [(1e18, "exaFLOPs"), (1e12, "teraFLOPs"), (8.64e19, "petaFLOP/s-days"), (1e21, "zettaFLOPs")]
)
def test_compute_in_other_units_is_named(tmp_path: Path, unit: float, name: str) -> None:
    n, d, loss = grid()
    (said,) = read_table(write(tmp_path, "N,D,C,loss\n" + lines_of(n, d, 6 * n * d / unit, loss))).warnings
    assert "6·N·D in 36 runs (lines 2, 3, 4, 5, 6 and 31 more)" in said and f"if C is in {name}" in said
    with pytest.raises(InputError, match=r"D \(C / 6·N\) is less than one token on lines 2"):
        read_table(write(tmp_path, "N,C,loss\n" + lines_of(n, 6 * n * d / unit / 1e6, loss)))


def test_compute_of_some_rows_in_another_unit_is_named_by_row(tmp_path: Path) -> None:
    n, d, loss = grid()
    c = 6 * n * d
    c[[3, 7]] /= 1e18
    c[11] *= 1e3
    first, second = read_table(write(tmp_path, "N,D,C,loss\n" + lines_of(n, d, c, loss))).warnings
    assert "in 2 runs (lines 5, 9)" in first and "exaFLOPs" in first and "in 1 runs (lines 13)" in second


@pytest.mark.parametrize("unit", [1e3, 1e6])
@pytest.mark.parametrize("share", [0.1, 0.2])
@pytest.mark.parametrize("column", ["N", "D"])
def test_some_rows_in_another_unit_are_named(tmp_path: Path, column: str, share: float, unit: float) -> None:
    """Of one value each, as of a source that counts otherwise."""
    n, d, loss = grid()
    values = {"N": n, "D": d}[column]
    rows = np.isin(values, np.unique(values)[: 1 + int(5 * share)])
    values[rows] /= unit
    told = " ".join(read_table(write(tmp_path, "N,D,loss\n" + lines_of(n, d, loss))).warnings)
    lines = [str(line) for line in np.flatnonzero(rows) + 2]
    assert f"{column} of {rows.sum()} runs (lines {', '.join(lines[:5])}" in told, told
    assert {1e3: "in thousands", 1e6: "in millions"}[unit] in told


def test_runs_far_larger_than_the_rest_are_of_their_unit(tmp_path: Path) -> None:
    n, d, loss = grid()
    far_n, far_d = np.array([4e11, 8e11]), np.array([1.5e13, 1.5e13])
    far_loss = np.asarray(LAW.predict(far_n, far_d))
    joined = [np.concatenate(pair) for pair in ((n, far_n), (d, far_d), (loss, far_loss))]
    assert not read_table(write(tmp_path, "N,D,loss\n" + lines_of(*joined))).warnings


def test_real_tables_raise_no_remarks_of_units(reference: Path) -> None:
    columns = {"hoffmann2022_epoch_svg": {}, "gemstones2025_fineweb_edu": {}, "chinchilla_isoflop": {}}
    columns |= {"porian2024_isoflop": {}, "gadre2024_overtraining": {"loss": "c4_val"}}
    for name, given in columns.items():
        told = " ".join(read_table(reference / "scaling" / f"{name}.csv", given).warnings)
        assert not re.search("below|less than|fits the other|bits among", told), (name, told)


def test_hostile_names_are_cut(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, f"N,D,loss,recipe\n1e8,2e9,3,{'x' * 500}\u202e\x07\n"))
    assert table.recipe == ("x" * 60,)
