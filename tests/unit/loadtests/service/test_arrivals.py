"""Arrival shapes, by their schedules."""

import itertools

import numpy as np
import pytest

from loadtests.service.arrivals import Shape, constant, diurnal, poisson, spike, step
from loadtests.service.traffic import Traffic
from serving.pb import translation_service_pb2 as pb

SHAPES = {
    "constant": constant(50, 20),
    "poisson": poisson(50, 20),
    "step": step([10, 20, 40], 30),
    "spike": spike(20, 100, 30, start=10, end=15),
    "diurnal": diurnal(10, 100, 40),
}


def between(shape: Shape, start: float, end: float, seeds: int = 20) -> float:
    """Arrivals a second in a part of the run, over several runs."""
    counts = [np.count_nonzero((start <= due) & (due < end)) for due in map(shape.due_times, range(seeds))]
    return float(np.mean(counts)) / (end - start)


@pytest.mark.parametrize("name", SHAPES)
def test_due_times_ascend_within_the_run_and_repeat_with_the_seed(name: str) -> None:
    shape = SHAPES[name]
    due = shape.due_times(seed=3)
    assert np.all(np.diff(due) >= 0)
    assert 0 <= due[0] <= due[-1] < shape.seconds
    assert np.array_equal(due, shape.due_times(seed=3))
    assert name == "constant" or not np.array_equal(due[:100], shape.due_times(seed=4)[:100])


def test_constant_arrivals_have_even_gaps() -> None:
    due = constant(50, 20).due_times(seed=1)
    assert len(due) == 1000
    assert np.diff(due) == pytest.approx(0.02, abs=1e-9)


def test_gaps_of_a_poisson_process_are_exponential_and_independent() -> None:
    gaps = np.diff(poisson(100, 200).due_times(seed=7))
    assert len(gaps) == pytest.approx(20_000, rel=0.03)
    assert np.std(gaps) == pytest.approx(np.mean(gaps), rel=0.03)
    # A share of 1/e is longer than their mean.
    assert np.mean(gaps > 0.01) == pytest.approx(0.368, abs=0.015)
    assert np.corrcoef(gaps[:-1], gaps[1:])[0, 1] == pytest.approx(0, abs=0.03)


def test_steps_take_each_rate_for_an_equal_part() -> None:
    shape = SHAPES["step"]
    assert [between(shape, start, start + 10) for start in (0, 10, 20)] == pytest.approx([10, 20, 40], rel=0.1)


def test_a_spike_is_where_it_was_asked_for() -> None:
    shape = SHAPES["spike"]
    parts = [between(shape, start, end) for start, end in ((0, 10), (10, 15), (15, 30))]
    assert parts == pytest.approx([20, 100, 20], rel=0.1)


def test_a_day_is_calm_at_both_ends_and_busy_in_the_middle() -> None:
    parts = [between(SHAPES["diurnal"], start, start + 4) for start in (0, 8, 18, 28, 36)]
    assert parts == pytest.approx([12.9, 55, 99.3, 55, 12.9], rel=0.15)


def test_shares_of_a_schedule_are_the_schedule() -> None:
    calls = Traffic(["a", "b c"], [1, 4]).arrivals(poisson(50, 4), seed=5)
    shares = [calls[index::3] for index in range(3)]
    assert sorted(itertools.chain(*shares), key=lambda arrival: arrival.due) == calls


def test_calls_are_drawn_from_the_texts_and_beams() -> None:
    traffic = Traffic(["a", "b c"], [1, 4], abandoned=0.25, patience=2.0)
    asks = [arrival.ask for arrival in traffic.arrivals(constant(400, 10), seed=5)]
    requests = [pb.TranslateRequest.FromString(ask.request) for ask in asks]
    drawn = {(request.contents[0], request.options.beam_size) for request in requests}
    assert drawn == set(itertools.product(["a", "b c"], [1, 4]))
    assert all(ask.beam == request.options.beam_size for ask, request in zip(asks, requests, strict=True))
    leaving = [ask.abandon_after for ask in asks if ask.abandon_after is not None]
    assert len(leaving) / len(asks) == pytest.approx(0.25, abs=0.03)
    assert 0 <= min(leaving) <= max(leaving) <= 2.0
    assert np.mean(leaving) == pytest.approx(1.0, abs=0.1)
