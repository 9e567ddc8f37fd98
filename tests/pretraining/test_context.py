"""Context extension: long documents out of packed rows, long rows of them, loss by position, the stage."""

import json
import shutil
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.base import schemas
from stages.base.errors import InputError
from stages.base.tables import write_table
from stages.lm import memory, packed_training
from stages.lm.build import build_model
from stages.lm.checkpoint import load_model
from stages.lm.config import ModelConfig
from stages.lm.extension import ntk_theta
from stages.pretraining import context
from stages.pretraining.long_rows import (
    bucket_edges,
    long_documents,
    loss_by_position,
    packed_rows,
    segments,
    single_rows,
)
from stages.tokens.packing import pack, shuffle_rows
from tests.pretraining.test_pretraining import (
    MODEL,
    PARAMS,
    RECIPE,
    change_plan,
    finish,
    mixed,
    prepare,
    stage,
    tokenise,
)

BOS, PAD = 600, 601


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 200), min_size=1, max_size=15),
    repeats=st.integers(1, 3),
    seq_len=st.integers(16, 40),
    min_tokens=st.integers(1, 150),
)
def test_long_documents_come_back_whole_and_once(
    lengths: list[int], repeats: int, seq_len: int, min_tokens: int
) -> None:
    documents = [np.random.default_rng(i).integers(0, 600, n).astype(np.uint16) for i, n in enumerate(lengths)]
    packed = shuffle_rows(pack(documents, list(range(len(lengths))) * repeats, seq_len, BOS, PAD, 4, 8), 3)
    columns = {name: packed.placements[name] for name in packed.placements.dtype.names}
    found = long_documents(packed.rows, pa.table(columns), min_tokens)
    expected = [document for document in documents if len(document) >= min_tokens]
    assert [document.tolist() for document in found] == [document.tolist() for document in expected]


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(1, 90), min_size=1, max_size=30), seq_len=st.integers(8, 40))
def test_long_rows_hold_every_token_once_and_begin_with_the_longest(lengths: list[int], seq_len: int) -> None:
    ends = np.cumsum([0, *lengths])
    documents = [np.arange(first, last) + 1000 for first, last in pairwise(ends)]
    pieces = segments(documents, seq_len)
    rows = packed_rows(pieces, seq_len, BOS, PAD, seed=1)
    assert rows.shape[1] == seq_len + 1 and (rows[:, 0] == BOS).all()
    assert sorted(rows[rows >= 1000].tolist()) == list(range(1000, 1000 + sum(lengths)))
    starts = {int(piece[0]) for piece in pieces}
    for row in rows.tolist():
        text = [token for token in row if token >= 1000]
        heads = [place for place, token in enumerate(row) if token == BOS] + [len(text) + row.count(BOS)]
        sizes = np.diff(heads).tolist()
        assert sizes == sorted(sizes, reverse=True) and text[0] in starts
        assert row[len(row) - row.count(PAD) :] == [PAD] * row.count(PAD)
    alone = single_rows(pieces, seq_len, BOS, PAD)
    assert [[t for t in row if t >= 1000] for row in alone.tolist()] == [piece.tolist() for piece in pieces]


def test_buckets_double_up_to_the_new_length() -> None:
    assert bucket_edges(256, 1024) == [0, 64, 128, 256, 512, 1024]
    assert bucket_edges(256, 1500) == [0, 64, 128, 256, 512, 1024, 1500]


def test_loss_by_position_is_the_mean_of_the_plain_softmax() -> None:
    torch.manual_seed(0)
    model = build_model(ModelConfig.from_dict(MODEL | {"vocab_size": 640}), 3)
    torch.nn.init.normal_(model.lm_head.weight)
    pieces = [np.random.default_rng(i).integers(0, 600, n) for i, n in enumerate((32, 20, 9))]
    rows = single_rows(pieces, 32, BOS, PAD)
    found = loss_by_position(model, rows, (BOS, PAD), [0, 8, 16, 32])
    ids = torch.from_numpy(rows)
    with torch.no_grad():
        table = -model(ids[:, :-1]).log_softmax(-1).gather(2, ids[:, 1:, None]).squeeze(2)
    text = (ids[:, 1:] != PAD).numpy()
    for low, high in ((0, 8), (8, 16), (16, 32)):
        assert found[f"{low}_{high - 1}"] == pytest.approx(
            table.numpy()[:, low:high][text[:, low:high]].mean(), abs=1e-5
        )
    assert found["all"] == pytest.approx(table.numpy()[text].mean(), abs=1e-5)
    with pytest.raises(InputError, match=r"positions 16 to 31.*pretraining\.context\.seq_len"):
        loss_by_position(model, rows[2:], (BOS, PAD), [0, 8, 16, 32])


def test_the_slowest_rotation_turns_over_the_new_length_as_over_the_old_one() -> None:
    config = ModelConfig.from_dict(MODEL)
    slowest = (config.head_dim - 2) / config.head_dim
    new = ntk_theta(config, 4 * config.max_seq_len)
    assert 4 * config.max_seq_len * new**-slowest == pytest.approx(config.max_seq_len * config.rope_theta**-slowest)
    assert ntk_theta(config, config.max_seq_len) == config.rope_theta


CONTEXT = {
    "seq_len": 96, "rope_theta": None, "min_tokens": 60, "tokens": 96 * 40, "batch_tokens": 192, "lr_share": 0.5,
    "warmup_steps": 2,
}  # fmt: skip


def write_params(folder: Path, context: dict, **recipe: Any) -> None:
    values = PARAMS | {"pretraining": PARAMS["pretraining"] | {"context": context}, "recipe": RECIPE | recipe}
    (folder / "params.yaml").write_text(yaml.safe_dump(values))


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("extended")
    prepare(folder)
    write_params(folder, CONTEXT)
    for name, count in (("train", 60), ("validation", 8)):
        table = mixed(count, "train")  # the same sentences: what is learned on long rows must show
        longer = pa.array([text * (1 + 3 * (i % 4)) for i, text in enumerate(table["text"].to_pylist())])
        write_table(folder / f"data/corpus/mix/{name}.parquet", table.set_column(3, "text", longer), schemas.MIXED)
    tokenise(folder)
    for module in ("pretrain", "anneal", "context"):
        finish(stage(folder, f"stages.pretraining.{module}"))
    return folder


def test_the_stage_leaves_a_longer_model_and_its_loss_by_position(extended: Path) -> None:
    folder = extended / "data/pretraining/context"
    metrics = json.loads((folder / "metrics.json").read_text())
    where = ["0_7", "8_15", "16_31", "32_63", "64_95", "all"]
    for when in ("before", "untrained", "after"):
        assert all(np.isfinite(metrics[f"loss_by_position_{when}_{name}"]) for name in where)
    assert metrics["loss_by_position_after_all"] < metrics["loss_by_position_before_all"]
    model, base = (load_model(extended / "data/models" / key) for key in ("context", "base"))
    assert model.config.max_seq_len == 96 and metrics["steps"] == 20
    assert model.config.rope_theta == metrics["rope_theta"] == ntk_theta(base.config, 96)
    assert {"validation_loss", "base_validation_loss", "validation_loss_domain_x"} <= set(metrics)
    assert model(torch.zeros((1, 96), dtype=torch.int64)).shape == (1, 96, 320)
    first = (extended / "data/models/context/model.safetensors").read_bytes()
    finish(stage(extended, "stages.pretraining.context"))
    assert (extended / "data/models/context/model.safetensors").read_bytes() == first


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seq_len": 32}, "`pretraining.context.seq_len` is 32"),
        ({"min_tokens": 5000}, "lower `pretraining.context.min_tokens`"),
        ({"seq_len": 4096}, "lower `pretraining.context.seq_len`"),
        ({"rope_theta": 0.0}, "`pretraining.context.rope_theta`"),
    ],
)
def test_bad_params_are_named(extended: Path, tmp_path: Path, change: dict, said: str) -> None:
    (tmp_path / "data").symlink_to(extended / "data")
    write_params(tmp_path, CONTEXT | change)
    process = stage(tmp_path, "stages.pretraining.context")
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 2 and said in error and "Traceback" not in error


def test_the_longer_rows_are_checked_for_memory_and_compiled(
    extended: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data/pretraining").mkdir(parents=True)
    (tmp_path / "data/models").mkdir()
    for name in ("corpus", "tokens", "pretraining/anneal", "models/base"):
        (tmp_path / "data" / name).symlink_to(extended / "data" / name)
    shutil.copytree(extended / "data/scaling", tmp_path / "data/scaling")
    changed = {"compile": "on", "document_mask": True}
    change_plan(tmp_path, recipe=RECIPE | changed)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRAINYARD_TRACK", "off")
    shapes = []

    class View:
        def hidden(self, example: torch.Tensor, documents: torch.Tensor) -> None:
            assert example.stride(0) == example.shape[1] + 1  # as the rows of a batch stand in memory
            shapes.append((tuple(example.shape), documents.shape == example.shape))
            raise InputError("far enough")

    def compiler(_: object, losses: Callable[[View], Iterable[torch.Tensor]], dtype: torch.dtype) -> None:
        assert dtype == torch.float32  # the recipe's precision
        list(losses(View()))

    monkeypatch.setattr(packed_training, "compiled", compiler)
    for seq_len in (48, 96):
        write_params(tmp_path, CONTEXT | {"seq_len": seq_len}, **changed)
        with pytest.raises(SystemExit):
            context.main()
    assert shapes == [((2, 48), True), ((1, 96), True)]  # the tokens of four rows of 32 at once, but a whole row
    monkeypatch.setattr(memory, "available", lambda _: 1)
    for seq_len, param in ((48, "recipe.micro_rows"), (96, "pretraining.context.seq_len")):
        write_params(tmp_path, CONTEXT | {"seq_len": seq_len}, **changed)
        with pytest.raises(SystemExit):
            context.main()
        assert f"`{param}`: a training step needs" in capsys.readouterr().err
