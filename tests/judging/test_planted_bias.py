"""Length control against a planted truth. `bench/judging/planted_bias.py` measures the whole grid."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from bench.judging.planted_world import SENTENCES, SKILLS, World, coverage, rank_errors, world
from stages.annotators.pool import PoolSettings

ROOT = Path(__file__).resolve().parents[2]
SEEDS = range(20)


@pytest.fixture(scope="module")
def known() -> World:
    return world(80, seed=0)


def pool(**changes: float) -> PoolSettings:
    settings = yaml.safe_load((ROOT / "params.yaml").read_text())["judging"]["judge"]["annotator"]["pool"]
    return PoolSettings(**(settings | {"label_noise": 0.0} | changes))


def test_control_finds_the_true_ranking_where_length_bias_hides_it(known: World) -> None:
    """The grid's clear corner: a strong bias, no flipped verdict. Twenty seeds take 3 s."""
    errors = rank_errors(known, pool(length_bias=4.0), SEEDS)
    gain = errors.raw - errors.controlled
    assert errors.raw.mean() > 2 and errors.controlled.mean() < 1
    assert gain.mean() > 5 * gain.std(ddof=1) / len(SEEDS) ** 0.5 and gain.mean() > 1


def test_control_costs_little_where_there_is_no_bias(known: World) -> None:
    errors = rank_errors(known, pool(length_bias=0.0), SEEDS)
    assert errors.controlled.mean() < errors.raw.mean() + 0.5


def test_known_verdicts_mend_the_rates_of_a_biased_judge() -> None:
    found = coverage(world(400, seed=1), pool(length_bias=4.0, label_noise=0.1), 150, 50, draws=25, seed=0)
    assert found.naive < 40 and found.corrected > 92


def test_the_world_is_as_described(known: World) -> None:
    assert len(known.prompts) == 80 and len(known.models) == 8
    order = np.argsort(list(known.scores.values()))
    assert np.corrcoef(np.argsort(order), np.arange(8))[0, 1] > 0.9  # exact scores follow the skills
    lengths = [np.mean([len(text) for text in texts]) for texts in known.models.values()]
    assert np.corrcoef(lengths, SENTENCES)[0, 1] > 0.95 and np.corrcoef(SKILLS, SENTENCES)[0, 1] < -0.7
    facts = [text.split(".")[0] for text in known.baseline]
    for texts in known.gamed.values():
        assert [text.split(".")[0] for text in texts] == facts
