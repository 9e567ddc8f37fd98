"""Held-out rows, and a model's loss on them: over all, by source and by domain."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from stages.base import schemas
from stages.base.artifacts import PACKED
from stages.base.contracts.pack import Domain, Pack, ValidationSource
from stages.base.errors import InputError
from stages.base.record import StageRun
from stages.lm.build import LanguageModel
from stages.lm.data import PackedRows
from stages.lm.scoring import token_losses


@dataclass(frozen=True)
class Validation:
    """Held-out rows, and where their documents stand in them."""

    rows: PackedRows
    placements: pa.Table  # schemas.PLACEMENT


def read_validation(run: StageRun[Any], pack: Pack) -> Validation:
    rows = PackedRows.of(run.input(f"{PACKED}/validation.bin"), pack)
    return Validation(rows, run.read_table(f"{PACKED}/validation.documents.parquet", schemas.PLACEMENT))


def measure(model: LanguageModel, validation: Validation, pack: Pack, document_mask: bool) -> dict[str, float]:
    """Validation loss in nats per token and bits per byte: over all rows, by source and by domain.

    document_mask: as in training, a token sees its own document only. Raises InputError where the document index
    doesn't account for every token of the rows.
    """
    silent, bos_id = (pack.pad_id, pack.bos_id), pack.bos_id if document_mask else None
    losses = token_losses(model, validation.rows.rows, silent, bos_id=bos_id).astype(np.float64)
    places = {name: validation.placements[name].to_numpy() for name in ("row", "offset", "length")}
    tokens, last = places["length"], len(losses) - 1
    if int(tokens.sum()) != int(np.count_nonzero(~np.isnan(losses))) or int(places["row"].max()) != last:
        raise InputError(
            f"{PACKED}/validation.documents.parquet: of other rows than validation.bin; run tokens.pack again"
        )
    first = places["row"] * losses.shape[1] + places["offset"] - 1  # a target stands one place before its token
    running = np.concatenate([[0.0], np.cumsum(np.nan_to_num(losses))])
    nats = running[first + tokens] - running[first]
    metrics: dict[str, float] = {}
    parts: dict[str, Mapping[str, ValidationSource | Domain]] = {
        "source": pack.validation.sources,
        "domain": pack.validation.domains,
    }
    for kind, held in parts.items():
        labels = np.array([label or "none" for label in validation.placements[kind].to_pylist()], dtype=object)
        for label, facts in sorted(held.items()):
            chosen = labels == label
            if not facts.tokens:
                continue
            name = label if kind == "source" else f"domain_{label}"
            metrics[f"validation_loss_{name}"] = float(nats[chosen].sum() / tokens[chosen].sum())
            metrics[f"validation_bpb_{name}"] = float(nats[chosen].sum() / (math.log(2) * facts.bytes))
    metrics["validation_loss"] = float(np.nansum(losses) / tokens.sum())
    metrics["validation_bpb"] = float(np.nansum(losses) / (math.log(2) * pack.validation.bytes))
    return metrics
