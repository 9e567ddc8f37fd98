import pyarrow as pa
import pytest

from stages.base import schemas
from stages.base.errors import DataLossError, ParamError
from stages.base.params import parse
from stages.corpus.mix import MixParams, mix
from tests.corpus.documents import settings, table

TEXT = """
max_drop: 0.5
sources:
  facts: {epochs: 8.0, validation: 0.0, anneal_quantile: 0.0, anneal_epochs: 2.0}
  web: {epochs: 1.0, validation: 0.2, anneal_quantile: 0.75, anneal_epochs: 1.0}
domains: {dull: 0.5, banned: 0.0, default: 1.0}
"""
PARAMS = parse("corpus.mix", settings(TEXT), MixParams)


def documents(count: int = 1000) -> pa.Table:
    return table(
        [
            {
                "text": f"text {n}",
                "source": "facts" if n % 5 == 0 else "web",
                "domain": ["fine", "dull", "banned"][n % 3],
                "quality": (n * 37 % count) / count,
            }
            for n in range(count)
        ]
    )


def test_parts_are_disjoint_and_complete() -> None:
    every = documents()
    tables, drops, _ = mix(every, PARAMS, seed=1)
    train, validation, anneal = (set(tables[name]["id"].to_pylist()) for name in ("train", "validation", "anneal"))
    dropped = set(drops["id"].to_pylist())
    assert not train & validation and not (train | validation) & dropped
    assert train | validation | dropped == set(every["id"].to_pylist())
    assert anneal < train
    assert all(part.schema == schemas.MIXED for part in tables.values())


def test_epochs_are_the_source_s_times_the_domain_s() -> None:
    tables, drops, _ = mix(documents(), PARAMS, seed=1)
    seen = {(row["source"], row["domain"], row["epochs"]) for row in tables["train"].to_pylist()}
    assert seen == {("facts", "fine", 8.0), ("facts", "dull", 4.0), ("web", "fine", 1.0), ("web", "dull", 0.5)}
    assert set(drops["reason"].to_pylist()) == {"zero_epochs"}
    assert set(tables["validation"]["epochs"].to_pylist()) == {1.0}


def test_validation_shares_are_by_source() -> None:
    tables, _, _ = mix(documents(5000), PARAMS, seed=1)
    assert set(tables["validation"]["source"].to_pylist()) == {"web"}
    web = sum(source == "web" for source in tables["train"]["source"].to_pylist())
    assert tables["validation"].num_rows / (web + tables["validation"].num_rows) == pytest.approx(0.2, abs=0.03)


def test_the_anneal_is_the_best_of_each_source() -> None:
    every = documents(2000)
    quality = dict(zip(every["id"].to_pylist(), every["quality"].to_pylist(), strict=True))
    tables, _, _ = mix(every, PARAMS, seed=1)
    chosen = set(tables["anneal"]["id"].to_pylist())
    web = [row["id"] for row in tables["train"].to_pylist() if row["source"] == "web"]
    inside, outside = [quality[i] for i in web if i in chosen], [quality[i] for i in web if i not in chosen]
    assert min(inside) >= max(outside)
    assert len(inside) / len(web) == pytest.approx(0.25, abs=0.01)


def test_a_document_more_moves_no_other() -> None:
    few, many = documents(900), documents(1000)
    before, after = (set(mix(part, PARAMS, seed=1)[0]["validation"]["id"].to_pylist()) for part in (few, many))
    assert before == {identifier for identifier in after if identifier in set(few["id"].to_pylist())}


def test_order_of_the_input_does_not_matter() -> None:
    every = documents(300)
    backwards = every.take(list(range(299, -1, -1)))
    assert all(
        mix(every, PARAMS, 1)[0][name].equals(mix(backwards, PARAMS, 1)[0][name]) for name in ("train", "anneal")
    )


def test_nothing_to_train_on_is_an_error() -> None:
    with pytest.raises(DataLossError, match=r"raise `corpus\.mix\.sources"):
        mix(table([{"text": "a", "source": "web", "domain": "banned"}]), PARAMS, seed=1)
    with pytest.raises(ParamError, match="neither `made_up` nor `default`"):
        mix(table([{"text": "a"}]), PARAMS, seed=1)
