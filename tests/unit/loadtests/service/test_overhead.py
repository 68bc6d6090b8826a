"""What is left of a call without the engine."""

from datetime import timedelta

import pytest

from loadtests.service.overhead import overhead
from serving.pb import translation_service_pb2 as pb


def test_overhead_is_a_round_trip_without_queue_and_computation() -> None:
    answer = pb.TranslateResponse()
    answer.queue_time.FromTimedelta(timedelta(milliseconds=2))
    answer.compute_time.FromTimedelta(timedelta(milliseconds=10))
    assert overhead(0.0135, answer) == pytest.approx(0.0015)
    assert overhead(0.001, pb.TranslateResponse()) == 0.001
