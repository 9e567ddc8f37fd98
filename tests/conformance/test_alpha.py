"""Krippendorff's α beside Evalica's, on tables with votes missing."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from stages.annotators.agreement import krippendorff_alpha

ROOT = Path(__file__).resolve().parents[2]
EVALICA = """
import json, sys, evalica, pandas
tables = json.load(sys.stdin)
print(json.dumps([evalica.alpha(pandas.DataFrame(table, dtype=float).T, solver="naive").alpha for table in tables]))
"""


def test_alpha_as_evalica_has_it() -> None:
    python = os.environ.get("TRAINYARD_PEERS_PYTHON") or str(ROOT / ".venv-peers" / "bin" / "python")
    if not Path(python).exists():
        pytest.skip("no peers' environment: set TRAINYARD_PEERS_PYTHON, or make .venv-peers")
    rng = np.random.default_rng(5)
    tables = []
    for annotators, missing in ((2, 0.0), (3, 0.2), (9, 0.7)):
        better = rng.choice([1.0, 1.5, 2.0], size=(60, 1), p=[0.4, 0.2, 0.4])
        said = np.where(rng.random((60, annotators)) < 0.7, better, rng.choice([1.0, 2.0], size=(60, annotators)))
        tables.append(np.where(rng.random(said.shape) < missing, np.nan, said))
    listed = [[[None if np.isnan(one) else one for one in row] for row in table.tolist()] for table in tables]
    peer = subprocess.run([python, "-c", EVALICA], input=json.dumps(listed), capture_output=True, text=True, check=True)
    assert [krippendorff_alpha(table).value for table in tables] == pytest.approx(json.loads(peer.stdout), abs=1e-12)
