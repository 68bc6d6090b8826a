"""Quantiles of a histogram between two looks at it."""

import math

import pytest

from loadtests.service.histogram import between, quantile

BEFORE = {0.01: 5.0, 0.1: 5.0, math.inf: 5.0}
AFTER = {0.01: 95.0, 0.1: 104.0, math.inf: 105.0}


def test_what_was_there_before_does_not_count() -> None:
    assert between(BEFORE, AFTER) == {0.01: 90.0, 0.1: 99.0, math.inf: 100.0}


def test_quantiles_are_within_their_bucket() -> None:
    seen = between(BEFORE, AFTER)
    assert quantile(seen, 0.9) == pytest.approx(0.01)
    assert quantile(seen, 0.45) == pytest.approx(0.005)
    assert quantile(seen, 0.945) == pytest.approx(0.055)
    assert quantile(seen, 0.99) == pytest.approx(0.1)


def test_beyond_the_last_bound_nothing_is_known() -> None:
    assert quantile(between(BEFORE, AFTER), 0.999) == math.inf
    assert math.isnan(quantile(between(AFTER, AFTER), 0.5))
