"""Points, knees, sustained throughput and recovery, on calls whose answer is known."""

import math
from collections.abc import Callable

import pytest

from loadtests.service.calls import Call
from loadtests.service.curve import Point, knee, points, sustained
from loadtests.service.recovery import recovery_seconds


def run(rates: list[float], seconds: float, latency: Callable[[float], float]) -> list[Call]:
    """Evenly spaced calls at each rate in turn, with a latency by due time."""
    calls = []
    for step, rate in enumerate(rates):
        due = [step * seconds + number / rate for number in range(round(rate * seconds))]
        calls += [Call(moment, 0.0, latency(moment), "OK", 1) for moment in due]
    return calls


def point(answered: float, latency: float) -> Point:
    return Point(answered, answered, 100, 0, latency, latency, latency, latency, latency)


def test_points_count_what_is_due_and_what_is_answered_in_each_step() -> None:
    curve = points(run([10, 20], 10, lambda due: 0.1 if due < 10 else 0.5), 2, 20, settle=2)
    assert [one.offered for one in curve] == pytest.approx([10, 20])
    assert curve[0].answered == pytest.approx(10, abs=0.2)
    assert [one.p99 for one in curve] == pytest.approx([0.1, 0.5])
    assert [one.calls for one in curve] == [80, 160]


def test_an_overloaded_step_answers_less_than_it_is_offered() -> None:
    # The server answers 10 a second; due at twice that, the n-th call waits for all before it.
    calls = run([20], 10, lambda due: (due * 20 + 1) / 10 - due)
    (one,) = points(calls, 1, 10, settle=0)
    assert one.offered == pytest.approx(20)
    assert one.answered == pytest.approx(10, rel=0.02)


def test_settling_is_left_out() -> None:
    calls = run([10, 10], 10, lambda due: 5.0 if 10 <= due < 11 else 0.1)
    assert points(calls, 2, 20, settle=1)[1].p99 == pytest.approx(0.1)
    assert points(calls, 2, 20, settle=0)[1].p99 == pytest.approx(5.0)


def test_failures_show() -> None:
    calls = [Call(0.1 * number, 0.0, 0.01, "OK" if number % 10 else "UNAVAILABLE", 1) for number in range(100)]
    (one,) = points(calls, 1, 10, settle=0)
    assert (one.failed, one.p50) == (10, 0.01)
    assert math.isinf(one.p99)
    assert one.power == 0


def test_the_knee_is_found_wherever_the_curve_ends() -> None:
    # A queue with one server (M/M/1) of rate 100: latency 1 / (100 - load), whose power is greatest at load 50.
    curve = [point(load, 1 / (100 - load)) for load in range(10, 100, 10)]
    assert knee(curve).answered == 50
    assert knee(curve[:6]).answered == 50
    # Latency that stays low until the end: the knee is where it turns.
    assert knee([point(10, 0.1), point(50, 0.1), point(90, 0.12), point(100, 1.0), point(101, 5.0)]).answered == 90


def test_sustained_throughput_at_a_limit() -> None:
    curve = [point(10, 0.1), point(50, 0.2), point(90, 0.8), point(100, math.inf)]
    assert sustained(curve, 0.2) == pytest.approx(50)
    assert sustained(curve, 0.4) == pytest.approx(70)  # 0.4 is half way from 0.2 to 0.8 in the logarithm
    assert sustained(curve, 0.05) == 0
    assert sustained(curve, 5.0) == pytest.approx(90)  # failures are never within a limit
    assert sustained(curve[:2], 5.0) == pytest.approx(50)


def test_the_first_step_over_the_limit_ends_what_is_sustained() -> None:
    assert sustained([point(10, 0.1), point(20, math.inf), point(30, 0.1)], 0.5) == pytest.approx(10)


@pytest.mark.parametrize("seconds", [0, 4, 9])
def test_recovery_lasts_until_latency_is_what_it_was(seconds: int) -> None:
    calls = run([20], 50, lambda due: 3.0 if 10 <= due < 20 + seconds else 0.1)
    assert recovery_seconds(calls, 10, 20) == seconds


def test_one_calm_second_is_no_recovery() -> None:
    calls = run([20], 50, lambda due: 3.0 if 10 <= due < 25 and not 21 <= due < 22 else 0.1)
    assert recovery_seconds(calls, 10, 20) == 5


def test_a_server_that_stays_slow_does_not_recover() -> None:
    assert recovery_seconds(run([20], 50, lambda due: 3.0 if due >= 10 else 0.1), 10, 20) == math.inf
