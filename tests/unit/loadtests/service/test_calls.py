"""Percentiles, and the account of what became of calls."""

import math
from pathlib import Path

import pytest

from loadtests.service.calls import Call, latencies, milliseconds, percentile, read_calls, summary, write_calls


def call(due: float, latency: float, status: str = "OK", *, queue: float = 0.0, compute: float = 0.0) -> Call:
    return Call(due, 0.001, latency, status, 4, queue, compute, target_tokens=5)


def test_percentiles_are_values_that_occurred() -> None:
    values = [float(number) for number in range(1000, 0, -1)]
    assert [percentile(values, percent) for percent in (50, 90, 99, 99.9, 100)] == [500, 900, 990, 999, 1000]
    assert percentile([7.0], 0.1) == 7.0
    assert math.isnan(percentile([], 50))


def test_failed_calls_were_never_answered_and_abandoned_ones_do_not_count() -> None:
    calls = [call(0, 0.1)] * 97 + [call(0, 0.001, "RESOURCE_EXHAUSTED")] * 3 + [call(0, 9.0, "ABANDONED")] * 50
    figures = milliseconds(latencies(calls))
    assert figures["p90"] == pytest.approx(100)
    assert figures["p99"] is None
    assert figures["max"] is None


def test_every_scheduled_call_has_one_outcome() -> None:
    calls = [call(0, 1.0), call(1, 0.5), call(1, 0.2, "ABANDONED"), call(3, 0.1, "UNAVAILABLE")]
    figures = summary(calls, scheduled=6)
    assert figures["outcomes"] == {"ABANDONED": 1, "LOST": 2, "OK": 2, "UNAVAILABLE": 1}
    assert figures["calls"] == 6
    assert figures["failed_share"] == pytest.approx(3 / 5)
    assert figures["seconds"] == pytest.approx(3.1)
    assert summary(calls)["failed_share"] == pytest.approx(1 / 3)


def test_what_the_server_reports_is_kept_apart_from_what_the_caller_saw() -> None:
    figures = summary([call(0, 0.5, queue=0.1, compute=0.3), call(0.5, 0.5, queue=0.2, compute=0.2)])
    assert figures["queue_ms"]["max"] == pytest.approx(200)
    assert figures["compute_ms"]["max"] == pytest.approx(300)
    assert figures["latency_ms"]["p50"] == pytest.approx(500)
    assert figures["target_tokens_per_second"] == pytest.approx(10)
    assert figures["sentences_per_second"] == pytest.approx(2)


def test_a_run_without_calls_has_no_latency() -> None:
    figures = summary([])
    assert figures["calls"] == 0
    assert figures["failed_share"] == 0
    assert set(figures["latency_ms"].values()) == {None}


def test_calls_survive_a_file_in_order_of_due_time(tmp_path: Path) -> None:
    calls = [call(2, 0.25, queue=0.125), call(1, 0.5, "CANCELLED")]
    write_calls(tmp_path / "calls.csv", calls)
    assert read_calls(tmp_path / "calls.csv") == calls[::-1]
