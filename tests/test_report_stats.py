"""Means and their intervals: by hand, and against scipy."""

import math
import statistics

import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from tas_bench.report.stats import mean_interval, wilson


def test_interval_by_hand():
    """For 1, 2, 3: s = 1, t(0.975, 2) = 4.302653, so half = 4.302653 / sqrt(3)."""
    found = mean_interval([1.0, 2.0, 3.0])
    assert (found.mean, found.n) == (2.0, 3)
    assert found.half_width == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)


def test_what_is_not_finite_has_no_mean():
    assert mean_interval([1.0, math.inf, 3.0, math.nan]) == mean_interval([1.0, 3.0])


@pytest.mark.parametrize(("values", "mean"), [([], None), ([68.95], 68.95)])
def test_interval_of_too_few(values, mean):
    found = mean_interval(values)
    assert (found.mean, found.half_width, found.n) == (mean, None, len(values))


@given(st.lists(st.floats(0, 100), min_size=2, max_size=20))
def test_interval_agrees_with_scipy(values):
    found = mean_interval(values)
    assert found.mean == pytest.approx(statistics.fmean(values))
    error = scipy.stats.sem(values)
    if error > 1e-9:
        low, high = scipy.stats.t.interval(0.95, len(values) - 1, loc=found.mean, scale=error)
        assert found.half_width == pytest.approx((high - low) / 2, rel=1e-6)
    else:
        assert found.half_width == pytest.approx(0, abs=1e-6)


def test_wilson():
    assert wilson(3, 3) == pytest.approx((0.4385, 1.0), abs=1e-4)
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)
