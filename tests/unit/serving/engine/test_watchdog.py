"""Runs of the model that hang or fail again and again, and the sentences that make them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from serving.engine.engine import Engine
from serving.engine.observer import Outcome, RejectReason
from serving.engine.quarantine import Quarantine, Verdict
from serving.engine.scheduler import EngineLimits
from serving.engine.threads import Threads
from serving.errors import EngineFailure, Quarantined
from serving.step import Candidates, StepPlan
from tests.toy_runner import ToyGrid, ToyRunner
from tests.unit.serving.engine.toy_engine import MODEL, PATIENCE, Recorder, sentence, tokens_of

EVIL = 13  # a token that makes the toy model do what ``mode`` says


@dataclass
class Fragile:
    """An engine over a model that hangs or fails where a slot holds the evil token."""

    mode: str
    free: threading.Event = field(default_factory=threading.Event)
    opened: int = 0
    reopened: threading.Event = field(default_factory=threading.Event)
    steps_with_company: int = 0
    seen: Recorder = field(default_factory=Recorder)

    def runner(self) -> ToyRunner:
        self.opened += 1
        if self.opened > 1:
            self.reopened.set()
        fragile = self

        class Grid(ToyGrid):
            def step(self, plan: StepPlan) -> Candidates:
                if any(EVIL in source for source in self._sources):
                    fragile.break_down(len(self._sources))
                return super().step(plan)

        class Runner(ToyRunner):
            def grid(self, beam: int, slots: int) -> ToyGrid:
                return Grid(self, beam, slots)

        return Runner(MODEL)

    def break_down(self, slots: int) -> None:
        self.steps_with_company += slots > 1
        if self.mode == "fail":
            raise RuntimeError("device lost")
        assert self.free.wait(PATIENCE)


@contextmanager
def fragile_engine(mode: str, workers: int = 1) -> Iterator[tuple[Engine, Fragile]]:
    fragile = Fragile(mode)
    limits = EngineLimits(run_seconds=1.0, workers=workers)
    engine = Engine(Threads(fragile.runner(), fragile.runner), limits=limits, observer=fragile.seen)
    try:
        yield engine, fragile
    finally:
        fragile.free.set()
        engine.stop(PATIENCE)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_step_that_hangs_fails_its_sentences_and_the_engine_goes_on(
    workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    with fragile_engine("hang", workers) as (engine, fragile), caplog.at_level(logging.CRITICAL):
        hung = engine.submit([sentence(5, EVIL)])
        with pytest.raises(EngineFailure):
            hung.future.result(PATIENCE)
        assert tokens_of(engine.submit([sentence(5, 6)]).future) == [(5, 6)]
        assert fragile.reopened.wait(PATIENCE)  # another worker may have answered before
        assert fragile.opened == 2
        assert engine.healthy
        assert engine.join(PATIENCE)
        assert engine.snapshot().running_slots == 0
        assert fragile.seen.counts[Outcome.FAILURE] == 1
        assert "request-5" in caplog.text
        fragile.free.set()  # the thread comes back, and finds another in its place
        assert tokens_of(engine.submit([sentence(7)]).future) == [(7,)]
        assert fragile.seen.counts[Outcome.FAILURE] == 1


@pytest.mark.parametrize("mode", ["hang", "fail"])
def test_who_breaks_the_engine_twice_is_refused_and_its_company_is_not(mode: str) -> None:
    with fragile_engine(mode) as (engine, fragile):
        company = [sentence(5, 6), sentence(6, 7, 8)]
        first = engine.submit([sentence(5, EVIL), *company])
        with pytest.raises(EngineFailure):
            first.future.result(PATIENCE)
        assert engine.join(PATIENCE)
        assert fragile.steps_with_company == 1
        again = engine.submit([sentence(5, EVIL)])
        good = engine.submit(company)
        with pytest.raises(EngineFailure):
            again.future.result(PATIENCE)
        assert tokens_of(good.future) == [(5, 6), (6, 7, 8)]
        assert fragile.steps_with_company == 1  # it ran alone, so that the others were not in it again
        with pytest.raises(Quarantined, match="refused for an hour"):
            engine.submit([sentence(9), sentence(5, EVIL)])
        assert fragile.seen.counts["rejected", RejectReason.QUARANTINED] == 2
        assert tokens_of(engine.submit(company).future) == [(5, 6), (6, 7, 8)]


def test_a_model_that_fails_again_and_again_is_loaded_again() -> None:
    with fragile_engine("fail") as (engine, fragile):
        for token in (5, 6):
            with pytest.raises(EngineFailure):
                engine.submit([sentence(token, EVIL)]).future.result(PATIENCE)
        assert tokens_of(engine.submit([sentence(5, 6)]).future) == [(5, 6)]
        assert fragile.opened == 2


def test_a_model_that_cannot_be_loaded_again_stays() -> None:
    fragile = Fragile("fail")

    def reopen() -> ToyRunner:
        raise OSError("the disk is gone")

    with Engine(Threads(fragile.runner(), reopen)) as engine:
        for token in (5, 6, 7):
            with pytest.raises(EngineFailure):
                engine.submit([sentence(token, EVIL)]).future.result(PATIENCE)
        assert not engine.healthy
        assert tokens_of(engine.submit([sentence(5, 6)]).future) == [(5, 6)]
        assert engine.healthy


def test_the_quarantine_forgives_and_forgets() -> None:
    quarantine, one, other = Quarantine(), sentence(5, 6), sentence(7)
    quarantine.accuse([one, one], 0)
    assert quarantine.verdict(one, 0) is Verdict.ALONE
    assert quarantine.verdict(sentence(5, 6, beam=2), 0) is Verdict.CLEAR
    assert quarantine.verdict(other, 0) is Verdict.CLEAR
    quarantine.acquit(one)
    assert quarantine.verdict(one, 0) is Verdict.CLEAR
    for now in (10, 20):
        quarantine.accuse([one], now)
    assert quarantine.verdict(one, 3000) is Verdict.REFUSED
    assert quarantine.verdict(one, 4000) is Verdict.CLEAR
    for token in range(2000):
        quarantine.accuse([sentence(5, token)], 0)
    assert quarantine.verdict(sentence(5, 0), 0) is Verdict.CLEAR
    assert quarantine.verdict(sentence(5, 1999), 0) is Verdict.ALONE
