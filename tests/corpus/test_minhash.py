import numpy as np
import pytest

from stages.corpus.duplicates.minhash import band_keys, family, meeting_probability, signature

BANDS, ROWS, PAIRS = 14, 8, 300


def naive_signature(shingles: list[int], multipliers: list[int], offsets: list[int]) -> list[int]:
    """The definition, in Python's integers."""
    return [
        min(((x >> 32) * a + b) % (1 << 64) for x in shingles) >> 32 for a, b in zip(multipliers, offsets, strict=True)
    ]


def planted_pair(random: np.random.Generator, jaccard: float, size: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Two random sets of `size` with about this similarity, and the exact one."""
    common = round(2 * size * jaccard / (1 + jaccard))
    pool = random.integers(0, 1 << 64, 2 * size - common, np.uint64)
    return pool[:size], pool[size - common :], common / len(pool)


def test_the_kernel_is_the_definition() -> None:
    random = np.random.default_rng(4)
    functions = family(9, 3)
    for size in (1, 2, 33, 100):
        shingles = random.integers(0, 1 << 64, size, np.uint64)
        expected = naive_signature(shingles.tolist(), functions.multipliers.tolist(), functions.offsets.tolist())
        assert signature(shingles, *functions).tolist() == expected


def test_repeated_shingles_and_their_order_change_nothing() -> None:
    shingles = np.random.default_rng(1).integers(0, 1 << 64, 50, np.uint64)
    functions = family(112, 0)
    doubled = np.concatenate([shingles[::-1], shingles[:20]])
    assert (signature(shingles, *functions) == signature(doubled, *functions)).all()


@pytest.mark.parametrize("jaccard", [0.95, 0.83, 0.49, 0.1, 0.0])
def test_signatures_are_unbiased(jaccard: float) -> None:
    """The share of equal entries estimates J: over many pairs its mean is within four standard errors."""
    functions, pairs = 256, 200
    rates, exact = [], 0.0
    for seed in range(pairs):
        one, other, exact = planted_pair(np.random.default_rng(seed), jaccard, 300)
        drawn = family(functions, seed)
        rates.append((signature(one, *drawn) == signature(other, *drawn)).mean())
    error = np.std(rates, ddof=1) / pairs**0.5
    assert np.mean(rates) == pytest.approx(exact, abs=4 * error + 1e-4)
    # The functions are as good as independent: the spread is a binomial's.
    assert np.std(rates) == pytest.approx((exact * (1 - exact) / functions) ** 0.5, rel=0.25)


@pytest.mark.parametrize("jaccard", [0.95, 0.90, 0.83, 0.75, 0.63, 0.49])
def test_banding_follows_the_s_curve(jaccard: float) -> None:
    """Share of planted pairs that share a bucket, against 1 - (1 - J^8)^14; no verification here."""
    random = np.random.default_rng(11)
    drawn = family(BANDS * ROWS, 5)
    found, exact = 0, 0.0
    for _ in range(PAIRS):
        one, other, exact = planted_pair(random, jaccard, 400)
        keys = [band_keys(signature(part, *drawn), BANDS) for part in (one, other)]
        found += bool((keys[0] == keys[1]).any())
    assert exact == pytest.approx(jaccard, abs=0.002)
    assert found / PAIRS == pytest.approx(meeting_probability(jaccard, BANDS, ROWS), abs=0.05)


def test_published_points_of_the_s_curve() -> None:
    """FineWeb's banding at the similarities that its authors give."""
    assert meeting_probability(0.8, 14, 8) == pytest.approx(0.924, abs=0.001)
    assert meeting_probability(0.75, 14, 8) == pytest.approx(0.77, abs=0.005)


def test_keys_of_bands_are_equal_where_their_rows_are() -> None:
    one = np.arange(12, dtype=np.uint32)
    other = one.copy()
    other[5] = 99  # in the second band of three
    assert (band_keys(one, 3) == band_keys(other, 3)).tolist() == [True, False, True]
    assert band_keys(one[::-1].copy(), 3)[2] != band_keys(one, 3)[0]
