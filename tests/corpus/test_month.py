"""What a month of Common Crawl comes to on paper."""

import pytest

from bench.corpus.month import DOLLARS, FINEWEB, PAGES, by_bytes, of_fineweb, of_measured, table


def test_a_measured_cost_is_that_of_each_page() -> None:
    month = of_measured(20_000, 128.0, 66 * 2**20, 9e6)
    assert month.core_hours == pytest.approx(6.4e-3 * 2.5e9 / 3600) and month.dollars == month.core_hours * DOLLARS
    assert month.read == pytest.approx(66 * 2**20 / 20_000 * PAGES) and month.seconds_a_page == pytest.approx(6.4e-3)
    twice = of_measured(40_000, 256.0, 132 * 2**20, 18e6)
    assert all(one == pytest.approx(other) for one, other in zip(month, twice, strict=True))


def test_by_bytes_a_long_page_costs_more() -> None:
    by_page = of_measured(20_000, 128.0, 20_000 * 3_700, 9e6)
    month = by_bytes(by_page)
    assert month.read == pytest.approx(2.5e9 * 18_500, rel=1e-3) and month.dollars == month.core_hours * DOLLARS
    assert month.core_hours / by_page.core_hours == pytest.approx(5, rel=1e-3)


def test_the_jobs_of_fineweb_may_take_so_much_at_most() -> None:
    """By hand: 8,000 x 10 + 1,000 x 5 + 14 x 50 x 3 x 2 + 8 x 30 + 1,000 x 5."""
    assert [job.core_hours for job in FINEWEB] == [80_000, 5_000, 4_200, 240, 5_000]
    month = of_fineweb()
    assert month.core_hours == 94_440 and month.written == pytest.approx(458e9, rel=1e-3) and month.read is None


def test_the_table_has_a_row_for_each() -> None:
    shown = table({"ours": of_measured(1000, 36.0, 1e6, 1e5), "theirs": of_fineweb()}).splitlines()
    assert shown[2] == "| ours | 25,000 | 1,000 | 36 | 2.50 | 0.25 |"
    assert shown[3] == "| theirs | 94,440 | 3,778 | 136 | – | 0.46 |"
