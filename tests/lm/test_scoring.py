"""Losses of packed rows with the document mask: as if every document were read alone."""

import numpy as np
import pytest
import torch

from stages.lm.build import build_model
from stages.lm.data import PackedRows
from stages.lm.scoring import rows_loss, token_losses
from tests.lm.conftest import shaken, tiny

BOS, PAD = 1, 0


def test_masked_losses_are_those_of_documents_read_alone(tmp_path) -> None:
    model = shaken(build_model(tiny(), 0))
    packed = [[[5, 9, 7], [8, 8], [20, 21, 22]], [[30, 31, 32, 33, 34, 35], [40]]]
    rows = np.full((2, 12), PAD, dtype=np.uint16)
    expected = np.full((2, 11), np.nan)
    for index, documents in enumerate(packed):
        place = 0
        for document in documents:
            ids = torch.tensor([[BOS, *document]])
            with torch.no_grad():
                table = model(ids[:, :-1]).log_softmax(-1).gather(2, ids[:, 1:, None])
            expected[index, place : place + len(document)] = -table.flatten().numpy()
            rows[index, place : place + ids.shape[1]] = ids.numpy()
            place += ids.shape[1]
    masked = token_losses(model, rows, (BOS, PAD), batch_rows=1, bos_id=BOS)
    np.testing.assert_allclose(masked, expected, atol=1e-5)
    assert np.nanmax(np.abs(token_losses(model, rows, (BOS, PAD)) - expected)) > 0.01, "unmasked, they see each other"
    rows.tofile(tmp_path / "rows.bin")
    found = rows_loss(model, PackedRows(tmp_path / "rows.bin", 11), (BOS, PAD), bos_id=BOS)
    assert found.tokens == np.count_nonzero(~np.isnan(expected))
    assert found.nats == pytest.approx(np.nansum(expected), abs=1e-4)
