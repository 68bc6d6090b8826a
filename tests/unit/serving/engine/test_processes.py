"""Workers in processes of their own: they answer as threads do, and what happens when one hangs or dies."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil
import pytest

from serving.engine.engine import Engine
from serving.engine.observer import Outcome, RejectReason
from serving.engine.processes import Processes
from serving.engine.scheduler import EngineLimits
from serving.engine.submission import Decoded
from serving.engine.threads import Threads
from serving.errors import Cancelled, DeadlineExceeded, EngineFailure, Quarantined, StartupError, Unavailable
from tests.unit.serving.engine.process_models import (
    CRASHES,
    FAILS,
    HANGS,
    SLOW,
    open_absent,
    open_and_die,
    open_once,
    open_toy,
)
from tests.unit.serving.engine.toy_engine import PATIENCE, Recorder, random_sentences, sentence, tokens_of


@contextmanager
def engine_of_processes(workers: int = 1, run_seconds: float = 60.0) -> Iterator[tuple[Engine, Recorder]]:
    seen = Recorder()
    engine = Engine(
        Processes(open_toy), limits=EngineLimits(workers=workers, run_seconds=run_seconds), observer=seen, name="toy"
    )
    try:
        yield engine, seen
    finally:
        engine.stop(PATIENCE)


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "worker_process" in " ".join(child.cmdline())]


def eventually(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.005)


def failed(future: Future[tuple[Decoded, ...]]) -> BaseException:
    error = future.exception(PATIENCE)
    assert error is not None
    return error


@pytest.mark.parametrize("workers", [1, 2])
def test_processes_answer_as_threads_do(workers: int) -> None:
    sentences = [one for one in random_sentences(200) if not {*one.source.tolist()} & {CRASHES, HANGS, FAILS, SLOW}]
    with Engine(Threads(open_toy())) as threads:
        expected = [one.hypotheses for one in threads.submit(sentences).future.result(PATIENCE)]
    with engine_of_processes(workers) as (engine, seen):
        assert len(children()) == workers
        decoded = engine.submit(sentences).future.result(PATIENCE)
        assert [one.hypotheses for one in decoded] == expected
        assert all(one.accepted <= one.admitted <= one.encoded <= one.finished for one in decoded)
        for what in ("admitted", "first token", "encoded sources", Outcome.OK):
            assert seen.counts[what] == len(sentences)
        assert seen.counts["rows"]
        snapshot = engine.snapshot()
        assert snapshot.healthy
        assert snapshot.lanes
        assert snapshot.state_bytes
        assert snapshot.worker_bytes > 10 << 20
        assert snapshot.running_slots == snapshot.queue_depth == 0
    assert not children()


def test_a_listener_hears_every_token_and_the_end() -> None:
    class Heard:
        def __init__(self) -> None:
            self.tokens: list[int] = []
            self.messages, self.ends = 0, 0

        def grew(self, index: int, tokens: Sequence[tuple[int, int]]) -> None:
            self.tokens += [token for token, _ in tokens]
            self.messages += 1

        def ended(self, index: int, decoded: Decoded) -> None:
            self.ends += 1

    heard = Heard()
    with engine_of_processes() as (engine, _):
        submission = engine.submit([sentence(5, 6, 7, 8, 9)], heard)
        assert tokens_of(submission.future) == [(5, 6, 7, 8, 9)]
    assert heard.tokens == [5, 6, 7, 8, 9][: len(heard.tokens)]
    assert heard.messages > 1
    assert heard.ends == 1


def test_what_is_cancelled_leaves_its_slot_and_the_rest_goes_on() -> None:
    with engine_of_processes() as (engine, seen):
        kept = engine.submit([sentence(SLOW, *[6] * 20)])
        gone = engine.submit([sentence(SLOW, *[7] * 30)])
        eventually(lambda: seen.counts["first token"] == 2)
        gone.cancel()
        assert isinstance(failed(gone.future), Cancelled)
        assert tokens_of(kept.future) == [(SLOW, *[6] * 20)]
        assert seen.counts[Outcome.CANCELLED] == 1
        assert len(seen.freed_after) == 1
        assert seen.freed_after[0] <= 3  # one step more than a thread: the order to stop is on its way during one


def test_what_is_late_ends_while_it_is_decoded() -> None:
    with engine_of_processes() as (engine, seen):
        late = engine.submit([sentence(SLOW, *[7] * 30, deadline=time.monotonic() + 0.2)])
        assert isinstance(failed(late.future), DeadlineExceeded)
        assert seen.counts[Outcome.DEADLINE] == 1


def test_a_step_that_fails_ends_its_sentences_and_who_does_it_twice_is_refused() -> None:
    with engine_of_processes() as (engine, seen):
        for _ in range(2):
            assert isinstance(failed(engine.submit([sentence(5, FAILS)]).future), EngineFailure)
        with pytest.raises(Quarantined):
            engine.submit([sentence(5, FAILS)])
        assert tokens_of(engine.submit([sentence(5, 6)]).future) == [(5, 6)]
        assert seen.counts["restarted"] == 2
        assert engine.healthy


@pytest.mark.parametrize("breaks", [CRASHES, HANGS])
def test_a_process_that_dies_or_hangs_is_replaced(breaks: int) -> None:
    with engine_of_processes(run_seconds=0.5 if breaks == HANGS else 60.0) as (engine, seen):
        (process,) = children()
        company = engine.submit([sentence(SLOW, *[6] * 30)])
        eventually(lambda: seen.counts["first token"] == 1)
        assert isinstance(failed(engine.submit([sentence(5, breaks)]).future), EngineFailure)
        assert isinstance(failed(company.future), EngineFailure)  # it was in the same process
        waiting = engine.submit([sentence(5, 6)])
        assert tokens_of(waiting.future) == [(5, 6)]
        assert not process.is_running()
        assert engine.healthy
        assert seen.counts["restarted"] == 1
        assert isinstance(failed(engine.submit([sentence(5, breaks)]).future), EngineFailure)
        with pytest.raises(Quarantined):
            engine.submit([sentence(5, breaks)])
        assert seen.counts["rejected", RejectReason.QUARANTINED] == 1
        assert tokens_of(engine.submit([sentence(SLOW, *[6] * 30)]).future) == [(SLOW, *[6] * 30)]


def test_two_processes_and_one_dies() -> None:
    with engine_of_processes(2) as (engine, seen):
        victim = children()[0]
        submissions = [engine.submit([sentence(SLOW, *[6] * 20)]) for _ in range(8)]
        eventually(lambda: seen.counts["first token"] == 8)
        victim.kill()
        ends = [submission.future.exception(PATIENCE) for submission in submissions]
        assert {type(end) for end in ends} == {EngineFailure, type(None)}
        assert engine.join(PATIENCE)
        eventually(lambda: len(children()) == 2 and engine.healthy)
        assert tokens_of(engine.submit([sentence(5, 6)]).future) == [(5, 6)]


@pytest.mark.parametrize(("open_runner", "problem"), [(open_absent, "the disk is gone"), (open_and_die, "status 3")])
def test_a_model_that_cannot_be_loaded_is_an_error(open_runner: Callable[[], object], problem: str) -> None:
    with pytest.raises(StartupError, match=problem):
        Engine(Processes(open_runner), limits=EngineLimits(workers=2))  # type: ignore[arg-type] # for the test
    assert not children()


def test_a_process_that_cannot_be_replaced_ends_everything(tmp_path: Path) -> None:
    (tmp_path / "token").touch()
    with Engine(Processes(partial(open_once, str(tmp_path / "token")))) as engine:
        assert tokens_of(engine.submit([sentence(5, 6)]).future) == [(5, 6)]
        assert isinstance(failed(engine.submit([sentence(5, CRASHES)]).future), EngineFailure)
        eventually(lambda: not engine.healthy)
        with pytest.raises(Unavailable):
            engine.submit([sentence(5, 6)])
    assert not children()


def test_stopping_ends_what_runs() -> None:
    with engine_of_processes() as (engine, seen):
        running = engine.submit([sentence(SLOW, *[6] * 30)])
        waiting = engine.submit([sentence(5, beam=3) for _ in range(300)])
        eventually(lambda: seen.counts["first token"] >= 1)
        engine.stop(PATIENCE)
        assert isinstance(failed(running.future), Unavailable)
        assert isinstance(failed(waiting.future), Unavailable)
        assert not engine.healthy
    assert not children()


def test_stopping_does_not_wait_for_a_step_that_hangs() -> None:
    with engine_of_processes() as (engine, seen):
        hung = engine.submit([sentence(5, HANGS)])
        eventually(lambda: seen.counts["submitted"] == 1 and engine.snapshot().running_slots == 1)
        stopping = threading.Thread(target=engine.stop, args=(0.1,))
        stopping.start()
        stopping.join(PATIENCE)
        assert not stopping.is_alive()
        assert isinstance(failed(hung.future), Unavailable)
    assert not children()


def test_a_process_whose_engine_is_killed_ends_even_if_it_hangs() -> None:
    program = f"""
import time
from serving.engine.engine import Engine
from serving.engine.processes import Processes
from tests.unit.serving.engine.process_models import HANGS, open_toy
from tests.unit.serving.engine.toy_engine import sentence
engine = Engine(Processes(open_toy))
engine.submit([sentence(5, {HANGS})])
while not engine.snapshot().running_slots:
    time.sleep(0.01)
print("hangs", flush=True)
time.sleep({PATIENCE})
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"hangs\n"
        (child,) = psutil.Process(parent.pid).children()
        parent.kill()
        child.wait(PATIENCE)
