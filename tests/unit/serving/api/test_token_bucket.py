"""Rates."""

import pytest

from serving.api.token_bucket import TokenBucket


def test_a_rate_limit_admits_a_second_of_burst_and_says_when_to_return() -> None:
    now = 100.0
    bucket = TokenBucket(2.0, clock=lambda: now)
    assert [bucket.take() for _ in range(3)] == [0.0, 0.0, pytest.approx(0.5)]
    now += 0.5
    assert bucket.take() == 0.0
    assert bucket.take() == pytest.approx(0.5)
    now += 1000.0
    assert [bucket.take() for _ in range(3)] == [0.0, 0.0, pytest.approx(0.5)]


def test_a_rate_below_one_a_second_still_admits() -> None:
    now = 0.0
    bucket = TokenBucket(0.1, clock=lambda: now)
    assert bucket.take() == 0.0
    assert bucket.take() == pytest.approx(10.0)
    now += 10.0
    assert bucket.take() == 0.0


def test_more_than_a_bucket_is_taken_from_a_full_one_and_paid_for_later() -> None:
    now = 0.0
    bucket = TokenBucket(10.0, clock=lambda: now)
    assert bucket.take(30) == 0.0
    assert bucket.take(1) == pytest.approx(2.1)
    now = 2.1
    assert bucket.take(1) == 0.0
    assert bucket.take(30) == pytest.approx(1.0)
