"""The parts of the mixture are disjoint and complete, shares are met as far as the bound on epochs lets them, and
sorting on disk is sorting."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from stages.base import schemas
from stages.base.errors import DataLossError, InputError, ParamError
from stages.base.params import parse
from stages.base.tables import read_table, write_table
from stages.corpus import mix
from stages.corpus.mix import MixParams, check, divide, holding_out, measure, plan, summarise, survey
from stages.corpus.mixing.external_sort import sort_by_id
from stages.corpus.mixing.shares import Group, balance, fill, reached
from tests.corpus.documents import settings, table

SETTINGS = settings(
    """
    max_drop: 0.5
    sources:
      facts: {epochs: 8.0, validation: 0.0, anneal_quantile: 0.0, anneal_epochs: 2.0}
      web: {epochs: 1.0, validation: 0.2, anneal_quantile: 0.75, anneal_epochs: 1.0}
    least_validation: 0.1
    domains: {dull: 0.5, banned: 0.0, default: 1.0}
    shares: {}
    max_epochs: 16.0
    """
)
PARAMS = parse("corpus.mix", SETTINGS, MixParams)


def documents(count: int = 1000) -> pa.Table:
    return table(
        [
            {
                "text": f"text {n} é" + "x" * (n % 17),
                "source": "facts" if n % 5 == 0 else "web",
                "domain": ["fine", "dull", "banned"][n % 3],
                "quality": (n * 37 % count) / count,
            }
            for n in range(count)
        ]
    )


def mixed(every: pa.Table, params: MixParams = PARAMS, size: int = 64) -> tuple[dict[str, pa.Table], pa.Table, dict]:
    """Tables, drops and metrics, as the stage makes them."""
    found = survey([every.slice(start, size) for start in range(0, every.num_rows, size)], params, 1)
    decided = plan(found, params, 1)
    order = np.argsort(every["id"].to_pylist(), kind="stable")
    tables, drops = divide(every.take(pa.array(order)), decided)
    check({name: part.num_rows for name, part in tables.items()}, decided)
    metrics, domains = summarise({name: measure(part) for name, part in tables.items()}, decided, found)
    return tables, drops, metrics | {"domains": domains}


def test_parts_are_disjoint_and_complete() -> None:
    every = documents()
    tables, drops, _ = mixed(every)
    train, validation, anneal = (set(tables[name]["id"].to_pylist()) for name in ("train", "validation", "anneal"))
    dropped = set(drops["id"].to_pylist())
    assert not train & validation and not (train | validation) & dropped
    assert train | validation | dropped == set(every["id"].to_pylist())
    assert anneal < train
    assert all(part.schema == schemas.MIXED for part in tables.values())


def test_epochs_are_the_source_s_times_the_domain_s() -> None:
    tables, drops, _ = mixed(documents())
    seen = {(row["source"], row["domain"], row["epochs"]) for row in tables["train"].to_pylist()}
    assert seen == {("facts", "fine", 8.0), ("facts", "dull", 4.0), ("web", "fine", 1.0), ("web", "dull", 0.5)}
    assert set(drops["reason"].to_pylist()) == {"zero_epochs"}
    assert set(tables["validation"]["epochs"].to_pylist()) == {1.0}
    capped, _, _ = mixed(documents(), parse("corpus.mix", SETTINGS | {"max_epochs": 3.0}, MixParams))
    assert set(capped["train"]["epochs"].to_pylist()) == {3.0, 1.0, 0.5}


def test_validation_shares_are_by_source() -> None:
    tables, _, _ = mixed(documents(5000))
    assert set(tables["validation"]["source"].to_pylist()) == {"web"}
    web = sum(source == "web" for source in tables["train"]["source"].to_pylist())
    assert tables["validation"].num_rows / (web + tables["validation"].num_rows) == pytest.approx(0.2, abs=0.03)


def test_the_anneal_is_the_best_of_each_source() -> None:
    every = documents(2000)
    quality = dict(zip(every["id"].to_pylist(), every["quality"].to_pylist(), strict=True))
    tables, _, _ = mixed(every)
    chosen = set(tables["anneal"]["id"].to_pylist())
    web = [row["id"] for row in tables["train"].to_pylist() if row["source"] == "web"]
    inside, outside = [quality[i] for i in web if i in chosen], [quality[i] for i in web if i not in chosen]
    assert min(inside) >= max(outside)
    assert len(inside) / len(web) == pytest.approx(0.25, abs=0.01)
    assert {row["epochs"] for row in tables["anneal"].to_pylist() if row["source"] == "facts"} == {2.0}


@pytest.mark.parametrize("values", [[float("nan")], [0.25], [0.1, 0.9, 0.9, 0.9, 0.9]], ids=str)
def test_equal_qualities_enter_the_anneal_as_the_quantile_says(values: list[float]) -> None:
    """Without scores, or where most are the same: a quarter, drawn by id, and never a worse one for a better."""
    rows = [{"text": f"text {n}", "source": "web", "domain": "fine"} for n in range(4000)]
    every = table([row | {"quality": values[n % len(values)]} for n, row in enumerate(rows)])
    tables, _, _ = mixed(every)
    chosen = set(tables["anneal"]["id"].to_pylist())
    assert len(chosen) / tables["train"].num_rows == pytest.approx(0.25, abs=0.03)
    if len(values) > 1:
        quality = dict(zip(every["id"].to_pylist(), every["quality"].to_pylist(), strict=True))
        assert {round(quality[one], 3) for one in chosen} == {0.9}
    fewer = mixed(every.slice(0, 3900))[0]["anneal"]["id"].to_pylist()
    assert len(chosen.symmetric_difference(fewer)) < 100  # a document more moves hardly any other


def test_a_document_more_moves_no_other() -> None:
    few, many = documents(900), documents(1000)
    before, after = (set(mixed(part)[0]["validation"]["id"].to_pylist()) for part in (few, many))
    assert before == {identifier for identifier in after if identifier in set(few["id"].to_pylist())}


def test_order_and_portions_of_the_input_do_not_matter() -> None:
    every = documents(300)
    backwards = every.take(list(range(299, -1, -1)))
    (tables, drops, metrics), (others, gone, same) = mixed(every), mixed(backwards, size=7)
    assert all(tables[name].equals(others[name]) for name in tables)
    assert drops.equals(gone) and metrics == same


def test_figures_are_those_of_the_tables() -> None:
    tables, _, metrics = mixed(documents())
    train = tables["train"].to_pylist()
    characters, read, domains = Counter(), Counter(), Counter()
    for row in train:
        characters[row["domain"]] += len(row["text"])
        read[row["domain"]] += len(row["text"]) * row["epochs"]
        domains[row["domain"]] += len(row["text"].encode()) * row["epochs"]
    for name in ("fine", "dull"):
        assert metrics[f"train_domain_{name}_characters"] == characters[name]
        assert metrics[f"train_domain_{name}_characters_read"] == read[name]
        assert metrics["domains"][name]["bytes_read"] == domains[name]
    assert metrics["validation_source_web_documents"] == tables["validation"].num_rows


def test_a_domain_gets_the_share_asked_for() -> None:
    params = parse("corpus.mix", SETTINGS | {"shares": {"dull": 0.5}}, MixParams)
    plain, wanted = mixed(documents())[2]["domains"], mixed(documents(), params)
    tables, _, metrics = wanted
    after = {name: figures["bytes_read"] for name, figures in metrics["domains"].items()}
    before = {name: figures["bytes_read"] for name, figures in plain.items()}
    assert before["dull"] / sum(before.values()) < 0.4
    assert after["dull"] / sum(after.values()) == pytest.approx(0.5, abs=1e-6)
    assert sum(after.values()) == pytest.approx(sum(before.values()), rel=1e-6)
    assert metrics["share_dull_reached"] == pytest.approx(0.5, abs=1e-6)
    assert metrics["share_dull_residual"] == pytest.approx(0, abs=1e-6)
    epochs = {(row["source"], row["domain"]): row["epochs"] for row in tables["train"].to_pylist()}
    assert epochs["facts", "fine"] / epochs["web", "fine"] == pytest.approx(8)
    assert epochs["facts", "dull"] / epochs["web", "dull"] == pytest.approx(8)


def test_a_share_out_of_reach_falls_short_and_says_so() -> None:
    params = parse("corpus.mix", SETTINGS | {"shares": {"dull": 0.9}, "max_epochs": 1.0}, MixParams)
    tables, _, metrics = mixed(documents(), params)
    assert max(tables["train"]["epochs"].to_pylist()) == 1.0
    assert 0.5 < metrics["share_dull_reached"] < 0.9
    assert metrics["share_dull_residual"] == pytest.approx(0.9 - metrics["share_dull_reached"])


def test_shares_leave_a_group_that_only_validates_alone() -> None:
    params = parse("corpus.mix", SETTINGS | {"shares": {"dull": 0.5}}, MixParams)
    table = documents()
    every = table.filter(pa.compute.equal(table["source"], "web"))
    validating = mixed(every)[0]["validation"]["id"].to_pylist()
    rare = [domain if name not in validating else "rare" for name, domain in
            zip(every["id"].to_pylist(), every["domain"].to_pylist(), strict=True)]  # fmt: skip
    place = every.schema.get_field_index("domain")
    tables, drops, _ = mixed(every.set_column(place, every.schema.field(place), pa.array(rare)), params)
    assert drops.num_rows == rare.count("banned")
    assert sorted(tables["validation"]["id"].to_pylist()) == sorted(validating)


@pytest.mark.parametrize(
    ("section", "name", "known"),
    [("sources", "wbe", "facts, web"), ("domains", "dul", "banned, dull, fine")],
)
def test_a_misspelt_name_is_refused_and_one_that_the_corpus_lacks_is_counted(
    section: str, name: str, known: str
) -> None:
    settings = dict(SETTINGS[section])
    value = settings.pop({"wbe": "web", "dul": "dull"}[name])
    misspelt = parse("corpus.mix", SETTINGS | {section: settings | {"default": value, name: value}}, MixParams)
    with pytest.raises(ParamError, match=rf"`corpus\.mix\.{section}\.{name}`.*there are {known}; correct or remove it"):
        mixed(documents(), misspelt)
    more = parse("corpus.mix", SETTINGS | {section: SETTINGS[section] | {"poetry": value}}, MixParams)
    assert mixed(documents(), more)[2][f"absent_{section}"] == 1
    assert mixed(documents())[2][f"absent_{section}"] == 0


def test_shares_that_can_not_be_are_refused() -> None:
    with pytest.raises(ParamError, match=r"`corpus\.mix\.shares`.*more than 1"):
        parse("corpus.mix", SETTINGS | {"shares": {"dull": 0.6, "fine": 0.5}}, MixParams)
    with pytest.raises(ParamError, match=r"shares\.missing`: no training text has this domain; there are dull, fine"):
        mixed(documents(), parse("corpus.mix", SETTINGS | {"shares": {"missing": 0.1}}, MixParams))
    with pytest.raises(ParamError, match=r"names every domain and comes to 0\.9"):
        mixed(documents(), parse("corpus.mix", SETTINGS | {"shares": {"dull": 0.5, "fine": 0.4}}, MixParams))


parts = st.lists(st.tuples(st.floats(0.1, 10), st.integers(1, 1000)), min_size=1, max_size=6)


@given(parts, st.floats(0.01, 20_000), st.floats(0.5, 20))
def test_filling_meets_the_target_or_the_cap(pairs: list[tuple[float, int]], target: float, cap: float) -> None:
    epochs, sizes = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    filled = fill(epochs, sizes, target, cap)
    assert max(filled) <= cap
    read = sum(one * size for one, size in zip(filled, sizes, strict=True))
    assert read == pytest.approx(min(target, cap * sum(sizes)))
    factors = [one / epoch for one, epoch in zip(filled, epochs, strict=True) if one < cap]
    assert not factors or max(factors) == pytest.approx(min(factors))


@given(parts, st.floats(0.05, 0.95))
def test_balanced_shares_are_reached_and_the_reading_stays(pairs: list[tuple[float, int]], share: float) -> None:
    groups = [Group(f"s{n}", "a" if n % 2 else "b") for n in range(len(pairs))] + [Group("s", "a"), Group("s", "b")]
    epochs = dict(zip(groups, [*(pair[0] for pair in pairs), 1.0, 1.0], strict=True))
    sizes = dict(zip(groups, [*(pair[1] for pair in pairs), 10, 10], strict=True))
    balanced = balance(epochs, sizes, {"a": share}, 1e9)
    assert reached(balanced, sizes)["a"] == pytest.approx(share, rel=1e-5)
    before, after = (sum(one[group] * sizes[group] for group in groups) for one in (epochs, balanced))
    assert after == pytest.approx(before)


def test_nothing_to_train_on_is_an_error() -> None:
    with pytest.raises(DataLossError, match=r"raise `corpus\.mix\.sources"):
        mixed(table([{"text": "a", "source": "web", "domain": "banned"}]))
    with pytest.raises(ParamError, match="neither `made_up` nor `default`"):
        mixed(table([{"text": "a"}]))


@pytest.mark.parametrize("bucket", [300, 5000, 1 << 20])
def test_sorting_on_disk_is_sorting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bucket: int) -> None:
    monkeypatch.setattr("stages.corpus.mixing.external_sort.BUCKET_BYTES", bucket)
    every = documents(500)
    every = pa.concat_tables([every, every.slice(0, 20)])  # equal ids stay in their order
    portions = [every.slice(start, 33) for start in range(0, every.num_rows, 33)]
    found = list(sort_by_id(portions, 30_000, tmp_path / "sorting"))
    assert (len(found) > 3) == (bucket < 5001)
    order = np.argsort(every["id"].to_pylist(), kind="stable")
    assert pa.concat_tables(found).equals(every.take(pa.array(order)))
    assert not (tmp_path / "sorting").exists()


@pytest.mark.parametrize("identifier", ["nothexadecimal!!", "0123456789abcdef0"])
def test_an_id_that_is_no_hash_is_refused(tmp_path: Path, identifier: str) -> None:
    with pytest.raises(InputError, match="16 hex digits"):
        list(sort_by_id([table([{"text": "a", "id": identifier}])], 1, tmp_path / "sorting"))
    assert not (tmp_path / "sorting").exists()


def test_the_stage_s_bytes_do_not_depend_on_the_buckets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump({"corpus": {"seed": 1, "mix": SETTINGS | {"max_drop": 0.5}}}))
    write_table(mix.DOCUMENTS, documents(700), schemas.DOCUMENT)
    written = []
    for bucket in (1 << 26, 3000):
        monkeypatch.setattr("stages.corpus.mixing.external_sort.BUCKET_BYTES", bucket)
        mix.main()
        files = sorted(Path("data/corpus/mix").iterdir())
        written.append({path.name: path.read_bytes() for path in files})
    assert written[0] == written[1]
    tables = {"anneal.parquet", "drops.parquet", "train.parquet", "validation.parquet"}
    assert set(written[0]) == tables | {"histograms.json", "metrics.json", "record.json"}
    train = read_table("data/corpus/mix/train.parquet", schemas.MIXED)
    assert train["id"].to_pylist() == sorted(train["id"].to_pylist())
    figures = json.loads(Path("data/corpus/mix/histograms.json").read_text())["domains"]
    assert sum(figure["documents"] for figure in figures.values()) == train.num_rows


def test_something_validates_where_no_sources_share_does() -> None:
    """A source that is read whole, alone: some of its documents are held out after all."""
    every = documents().filter(pa.array([n % 5 == 0 for n in range(1000)]))
    found = survey([every], PARAMS, 1)
    params = holding_out(PARAMS, found)
    assert found.held_out == 0 and {source.validation for source in params.sources.values()} == {0.1, 0.2}
    assert 5 < survey([every], params, 1).held_out < 50
    assert holding_out(PARAMS, survey([documents()], PARAMS, 1)) is PARAMS
