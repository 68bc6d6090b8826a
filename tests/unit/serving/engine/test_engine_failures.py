"""The engine when something breaks, and when it ends: every sentence still gets exactly one answer."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from serving.engine.observer import Outcome
from serving.errors import EngineFailure, Unavailable
from serving.messages import Sampling
from serving.step import Ints
from tests.toy_runner import ToyGrid
from tests.unit.serving.engine.toy_engine import NAN_TOKEN, PATIENCE, Gate, Toy, sentence, tokens_of, toy_engine


def failing_once(toy: Toy, hook: str, error: BaseException) -> None:
    def fail() -> None:
        setattr(toy.runner, hook, lambda: None)
        raise error

    setattr(toy.runner, hook, fail)


def test_a_failed_step_ends_its_lane_only_and_the_engine_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()
    with toy_engine(gate=gate) as toy:
        hurt = [toy.engine.submit([sentence(5, 6)])]
        gate.reached()
        hurt.append(toy.engine.submit([sentence(7, 8)]))
        unhurt = toy.engine.submit([sentence(9, 10, beam=2)])
        gate.let()
        gate.reached()  # the beam-1 lane's second step
        gate.fail(RuntimeError("device lost"))
        gate.open()
        assert tokens_of(unhurt.future) == [(9, 10)]
        with caplog.at_level(logging.ERROR):
            for submission in hurt:
                with pytest.raises(EngineFailure) as failure:
                    submission.future.result(PATIENCE)
                assert "device lost" not in str(failure.value)
        assert tokens_of(toy.engine.submit([sentence(11)]).future) == [(11,)]
        assert toy.engine.healthy
        assert toy.seen.counts["restarted"] == 1


def test_a_failure_is_logged_once_with_traceback_and_ids(caplog: pytest.LogCaptureFixture) -> None:
    with toy_engine() as toy, caplog.at_level(logging.ERROR):
        failing_once(toy, "before_step", RuntimeError("device lost"))
        submission = toy.engine.submit([sentence(5), sentence(6)])
        with pytest.raises(EngineFailure):
            submission.future.result(PATIENCE)
        assert toy.engine.join(PATIENCE)
    (record,) = caplog.records
    assert record.exc_info is not None
    assert "request-5, request-6" in record.getMessage()
    assert toy.seen.counts[Outcome.FAILURE] == 2


def test_a_failed_encoder_ends_its_batch_only(caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()
    with toy_engine(gate=gate) as toy:
        running = toy.engine.submit([sentence(*range(5, 15))])
        gate.reached()
        failing_once(toy, "before_encode", RuntimeError("out of memory"))
        hurt = toy.engine.submit([sentence(6, 7)])
        gate.open()
        with pytest.raises(EngineFailure):
            hurt.future.result(PATIENCE)
        assert tokens_of(running.future) == [tuple(range(5, 15))]
        assert toy.engine.join(PATIENCE)
        assert toy.engine.snapshot().running_slots == 0


@pytest.mark.parametrize("sampling", [None, Sampling(seed=1)])
@pytest.mark.parametrize("beam", [1, 2])
def test_nan_ends_its_own_sentence_only(beam: int, sampling: Sampling | None) -> None:
    sampling = sampling if beam == 1 else None
    with toy_engine() as toy:
        poisoned = [sentence(5, NAN_TOKEN, beam=beam, sampling=sampling), sentence(NAN_TOKEN, beam=beam)]
        healthy = [sentence(5, 6, 7, beam=beam), sentence(8, beam=beam)]
        failed = [toy.engine.submit([one]) for one in poisoned]
        fine = [toy.engine.submit([one]) for one in healthy]
        assert [tokens_of(one.future) for one in fine] == [[(5, 6, 7)], [(8,)]]
        for submission in failed:
            with pytest.raises(EngineFailure, match="NaN"):
                submission.future.result(PATIENCE)
        assert toy.engine.healthy


def test_one_failure_cancels_the_rest_of_its_submission() -> None:
    with toy_engine() as toy:
        mixed = toy.engine.submit([sentence(NAN_TOKEN), sentence(*range(5, 25)), sentence(*range(6, 26), beam=2)])
        with pytest.raises(EngineFailure):
            mixed.future.result(PATIENCE)
        assert toy.engine.join(PATIENCE)
        assert toy.seen.counts[Outcome.CANCELLED] == 2
        assert len(toy.steps) < 5


def test_an_engine_that_only_fails_is_unhealthy_until_a_step_succeeds(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> None:
        raise RuntimeError("device lost")

    with toy_engine() as toy:
        toy.runner.before_step = broken
        for attempt in range(3):
            assert toy.engine.healthy, attempt
            with pytest.raises(EngineFailure):
                toy.engine.submit([sentence(5 + attempt)]).future.result(PATIENCE)
        assert not toy.engine.healthy
        toy.runner.before_step = lambda: None
        assert tokens_of(toy.engine.submit([sentence(5)]).future) == [(5,)]
        assert toy.engine.healthy


# The end.


def test_draining_finishes_what_was_accepted_and_refuses_the_rest() -> None:
    gate = Gate()
    with toy_engine(gate=gate, rows=1) as toy:
        accepted = [toy.engine.submit([sentence(5)]), toy.engine.submit([sentence(6)])]
        gate.reached()
        toy.engine.drain()
        with pytest.raises(Unavailable) as refused:
            toy.engine.submit([sentence(7)])
        assert refused.value.reason == "draining"
        assert not toy.engine.join(0)
        gate.open()
        assert toy.engine.join(PATIENCE)
        assert [tokens_of(one.future) for one in accepted] == [[(5,)], [(6,)]]


def test_stopping_ends_everything_with_an_answer() -> None:
    gate = Gate()
    with toy_engine(gate=gate, rows=1) as toy:
        submissions = [toy.engine.submit([sentence(5, 6), sentence(7)]), toy.engine.submit([sentence(8)])]
        gate.reached()
        stopping = threading.Thread(target=toy.engine.stop)
        stopping.start()
        while not toy.engine.snapshot().draining:
            pass
        gate.let()
        stopping.join(PATIENCE)
        for submission in submissions:
            with pytest.raises(Unavailable):
                submission.future.result(0)
            submission.cancel()
        with pytest.raises(Unavailable, match="another server"):
            toy.engine.submit([sentence(9)])
        assert not toy.engine.healthy
        assert toy.engine.join(0)
        assert toy.seen.counts[Outcome.STOPPED] == 3
        assert toy.engine.snapshot().queue_depth == toy.engine.snapshot().running_slots == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_dead_thread_leaves_nobody_waiting(workers: int, caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()
    with toy_engine(gate=gate, rows=1, workers=workers) as toy:
        submissions = [toy.engine.submit([sentence(5)]), toy.engine.submit([sentence(6)])]
        gate.reached()
        gate.fail(SystemExit(1))
        for submission in submissions:
            with pytest.raises(EngineFailure):
                submission.future.result(PATIENCE)
        assert not toy.engine.healthy
        assert "died" in caplog.text
        with pytest.raises(Unavailable):
            toy.engine.submit([sentence(7)])


def test_an_observer_that_raises_leaves_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("a metric")

    with toy_engine(rows=1) as toy:
        monkeypatch.setattr(toy.seen, "finished", broken)
        submissions = [toy.engine.submit([sentence(5)]), toy.engine.submit([sentence(6)])]
        assert tokens_of(submissions[0].future) == [(5,)]
        with pytest.raises(EngineFailure):
            submissions[1].future.result(PATIENCE)
        assert toy.engine.join(PATIENCE)


def test_a_grid_that_cannot_free_slots_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(grid: ToyGrid, order: Ints) -> None:
        raise RuntimeError("device lost")

    gate = Gate()
    with toy_engine(gate=gate) as toy:
        leaves, stays = toy.engine.submit([sentence(*range(5, 15))]), toy.engine.submit([sentence(*range(6, 16))])
        gate.reached()
        monkeypatch.setattr(ToyGrid, "keep", broken)
        leaves.cancel()
        gate.let()
        for submission in (leaves, stays):
            with pytest.raises(EngineFailure):
                submission.future.result(PATIENCE)
        monkeypatch.undo()
        gate.open()
        assert tokens_of(toy.engine.submit([sentence(7)]).future) == [(7,)]
        assert toy.engine.snapshot().running_slots == 0


def test_a_grid_that_cannot_be_made_fails_those_who_need_it(caplog: pytest.LogCaptureFixture) -> None:
    with toy_engine() as toy:
        make = toy.runner.grid

        def no_memory(beam: int, slots: int) -> ToyGrid:
            if beam == 2:
                raise MemoryError
            return make(beam, slots)

        toy.runner.grid = no_memory  # type: ignore[method-assign]
        failed = toy.engine.submit([sentence(5, beam=2)])
        fine = toy.engine.submit([sentence(6)])
        with pytest.raises(EngineFailure):
            failed.future.result(PATIENCE)
        assert tokens_of(fine.future) == [(6,)]
