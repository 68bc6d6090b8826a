"""The engine over the toy model: continuous batching, cancellation, deadlines, failures, the end."""

from __future__ import annotations

import dataclasses
import threading
import time

import numpy as np
import pytest

from serving.engine.observer import DropReason, Outcome, RejectReason
from serving.engine.scheduler import Scheduler, Turn
from serving.engine.submission import Decoded, Job, Sentence
from serving.errors import Cancelled, DeadlineExceeded, Overloaded
from serving.messages import FinishReason, Sampling
from tests.unit.serving.engine.toy_engine import (
    EOS,
    MODEL,
    NAN_TOKEN,
    PATIENCE,
    Gate,
    Toy,
    random_sentences,
    sentence,
    tokens_of,
    toy_engine,
)


def decode_all(toy: Toy, sentences: list[Sentence]) -> list[Decoded]:
    submissions = [toy.engine.submit([one]) for one in sentences]
    return [submission.future.result(PATIENCE)[0] for submission in submissions]


@pytest.mark.parametrize("beam", [1, 3])
def test_a_sentence_is_decoded(beam: int) -> None:
    with toy_engine() as toy:
        (decoded,) = toy.engine.submit([sentence(5, 6, 7, beam=beam, n_best=beam)]).future.result(PATIENCE)
        best = decoded.hypotheses[0]
        assert best.tokens == (5, 6, 7)
        assert best.alignment == (0, 1, 2)
        assert len(best.log_probs) == 4
        assert best.finish_reason is FinishReason.EOS
        assert len(decoded.hypotheses) == beam
        assert decoded.accepted <= decoded.admitted <= decoded.finished


def test_nothing_submitted_is_nothing_decoded() -> None:
    with toy_engine() as toy:
        assert toy.engine.submit([]).future.result(PATIENCE) == ()


# The test that matters most, and its negative control.


def alone_and_together(leak: bool, workers: int = 1) -> int:
    """How many of 80 sentences get the same hypotheses alone as in random company."""
    sentences = random_sentences(80)
    model = dataclasses.replace(MODEL, leak=leak)
    alone = []
    for one in sentences:
        with toy_engine(model) as toy:
            alone += decode_all(toy, [one])
    # Few rows, so that sentences wait, join and leave while others are on their way.
    with toy_engine(model, rows=12, workers=workers) as toy:
        order = np.random.default_rng(1).permutation(len(sentences)).tolist()
        together = decode_all(toy, [sentences[i] for i in order])
        assert toy.runner.counts.moved > 0
        assert len({beam for _, beam in toy.steps}) == 3
    return sum(alone[i].hypotheses == together[at].hypotheses for at, i in enumerate(order))


@pytest.mark.parametrize("workers", [1, 3])
def test_an_answer_does_not_depend_on_who_shares_the_batch(workers: int) -> None:
    assert alone_and_together(leak=False, workers=workers) == 80


def test_a_leak_between_slots_would_be_seen() -> None:
    assert alone_and_together(leak=True) < 40


def test_sentences_join_and_leave_at_any_step() -> None:
    gate = Gate()
    with toy_engine(gate=gate) as toy:
        long = toy.engine.submit([sentence(*range(5, 25))])
        gate.reached()
        short = toy.engine.submit([sentence(30)])
        gate.let()
        gate.reached()  # before the second step: the short one is in
        gate.let()
        gate.reached()
        gate.open()
        assert tokens_of(short.future) == [(30,)]
        assert tokens_of(long.future) == [tuple(range(5, 25))]
        assert [slots for slots, _ in toy.steps] == [1, 2, 2, *[1] * 18]


def test_lanes_of_several_beam_sizes_step_in_turn() -> None:
    gate = Gate()
    with toy_engine(gate=gate) as toy:
        first = toy.engine.submit(
            [sentence(5, 6, 7), sentence(5, 6, 7, beam=2), sentence(8, sampling=Sampling(seed=3))]
        )
        gate.open()
        first.future.result(PATIENCE)
        assert toy.steps[:4] == [(2, 1), (1, 2), (2, 1), (1, 2)]
        assert toy.engine.snapshot().lanes == 2


def test_sampling_is_reproducible() -> None:
    drawn = [sentence(*range(5, 15), sampling=Sampling(temperature=3.0, seed=seed)) for seed in (1, 1, 2)]
    with toy_engine() as toy:
        one, again, other = (decoded.hypotheses for decoded in decode_all(toy, drawn))
    assert one == again != other


# Cancellation and deadlines.


def test_a_cancelled_sentence_leaves_its_slot_within_two_steps() -> None:
    gate = Gate()
    with toy_engine(gate=gate) as toy:
        toy.clock.real = True
        stays = toy.engine.submit([sentence(*range(5, 25))])
        gate.reached()
        leaves = toy.engine.submit([sentence(*range(6, 26)), sentence(*range(7, 27))])
        gate.let()
        gate.reached()
        leaves.cancel()
        gate.open()
        assert tokens_of(stays.future) == [tuple(range(5, 25))]
        with pytest.raises(Cancelled):
            leaves.future.result(PATIENCE)
        assert toy.seen.freed_after == [1, 1]
        assert [slots for slots, _ in toy.steps] == [1, 3, *[1] * 19]
        assert toy.seen.counts[Outcome.CANCELLED] == 2


def test_a_sentence_cancelled_in_the_queue_never_reaches_the_encoder() -> None:
    gate = Gate()
    with toy_engine(gate=gate, rows=1) as toy:
        running = toy.engine.submit([sentence(5, 6)])
        gate.reached()
        waiting = toy.engine.submit([sentence(7, 8)])
        waiting.cancel()
        with pytest.raises(Cancelled):  # although every worker is held up
            waiting.future.result(0)
        assert toy.engine.snapshot().queue_depth == 0
        gate.open()
        running.future.result(PATIENCE)
        assert toy.runner.counts.sources == [(5, 6, EOS)]
        assert toy.seen.counts["dropped", DropReason.CANCELLED] == 1


def test_a_deadline_that_passes_in_the_queue_never_reaches_the_encoder() -> None:
    gate = Gate()
    with toy_engine(gate=gate, rows=1) as toy:
        running = toy.engine.submit([sentence(5, 6)])
        gate.reached()
        late = toy.engine.submit([sentence(7, 8, deadline=toy.clock.now + 1)])
        in_time = toy.engine.submit([sentence(9, deadline=toy.clock.now + 3)])
        toy.clock.now += 2
        gate.open()
        running.future.result(PATIENCE)
        assert tokens_of(in_time.future) == [(9,)]
        with pytest.raises(DeadlineExceeded):
            late.future.result(PATIENCE)
        assert toy.runner.counts.sources == [(5, 6, EOS), (9, EOS)]
        assert toy.seen.counts["dropped", DropReason.DEADLINE] == 1


def test_a_deadline_that_passes_in_a_slot_frees_it_at_the_next_step() -> None:
    gate = Gate()
    with toy_engine(gate=gate) as toy:
        late = toy.engine.submit([sentence(*range(5, 25), deadline=toy.clock.now + 1)])
        gate.reached()
        toy.clock.now += 2
        gate.open()
        with pytest.raises(DeadlineExceeded):
            late.future.result(PATIENCE)
        assert toy.engine.join(PATIENCE)
        assert len(toy.steps) == 1
        assert toy.engine.snapshot().running_slots == 0


def test_a_deadline_in_the_past_is_refused() -> None:
    with toy_engine() as toy:
        with pytest.raises(DeadlineExceeded):
            toy.engine.submit([sentence(5, deadline=toy.clock.now)])
        assert toy.seen.counts["rejected", RejectReason.DEADLINE] == 1


def test_a_deadline_the_queue_cannot_meet_is_refused() -> None:
    gate = Gate()
    with toy_engine(gate=gate, rows=1) as toy:
        for _ in range(10):
            toy.engine.submit([sentence(5)])
        for _ in range(8):  # one sentence, two source tokens, every 2 * 5 seconds
            gate.reached()
            toy.clock.now += 5
            gate.let()
        gate.reached()
        with pytest.raises(DeadlineExceeded, match="cannot be met"):
            toy.engine.submit([sentence(6, deadline=toy.clock.now + 20)])
        accepted = toy.engine.submit([sentence(6, deadline=toy.clock.now + 2000)])
        gate.open()
        assert tokens_of(accepted.future) == [(6,)]


# Refusal.


def test_a_full_queue_refuses_a_submission_as_a_whole() -> None:
    gate = Gate()
    with toy_engine(gate=gate, rows=1, queue_sentences=3) as toy:
        toy.engine.submit([sentence(5)])
        gate.reached()
        toy.engine.submit([sentence(6), sentence(7)])
        with pytest.raises(Overloaded) as refused:
            toy.engine.submit([sentence(8), sentence(9)])
        assert (refused.value.reason, refused.value.retry_after > 0) == ("queue_full", True)
        assert toy.engine.snapshot().queue_depth == 2
        toy.engine.submit([sentence(8)])
        assert toy.seen.counts["rejected", RejectReason.QUEUE_FULL] == 2
        gate.open()
        assert toy.engine.join(PATIENCE)
        assert toy.seen.counts[Outcome.OK] == toy.seen.counts["submitted"] == 4


def test_a_full_token_budget_refuses() -> None:
    gate = Gate()
    with toy_engine(gate=gate, rows=1, queue_tokens=10) as toy:
        toy.engine.submit([sentence(5)])
        gate.reached()
        huge = toy.engine.submit([sentence(*range(5, 35))])  # more than the queue holds, but the queue is empty
        with pytest.raises(Overloaded, match="10 source tokens"):
            toy.engine.submit([sentence(6)])
        gate.open()
        assert tokens_of(huge.future) == [tuple(range(5, 35))]


# What it tells.


@pytest.mark.parametrize("workers", [1, 2])
def test_gauges_return_to_zero_and_every_sentence_ends_once(workers: int) -> None:
    with toy_engine(rows=8, idle_lanes=1, workers=workers) as toy:
        sentences = random_sentences(60, seed=3)
        submissions = [toy.engine.submit(sentences[i : i + 3]) for i in range(0, 60, 3)]
        for submission in submissions[::4]:
            submission.cancel()
        for submission in submissions:
            submission.future.exception(PATIENCE)
        assert toy.engine.join(PATIENCE)
        snapshot, counts = toy.engine.snapshot(), toy.seen.counts
    assert (snapshot.queue_depth, snapshot.queue_tokens, snapshot.oldest_age_seconds) == (0, 0, 0)
    assert (snapshot.running_slots, snapshot.running_rows, snapshot.running_tokens) == (0, 0, 0)
    assert sum(counts[outcome] for outcome in Outcome) == counts["submitted"] == 60
    assert counts["admitted"] == counts["encoded sources"] == len(toy.runner.counts.sources)
    assert counts["encoded tokens"] == sum(map(len, toy.runner.counts.sources))
    assert counts["rows"] == sum(slots * beam for slots, beam in toy.steps)


def test_the_snapshot_shows_what_waits_and_runs() -> None:
    gate = Gate()
    with toy_engine(gate=gate, rows=2) as toy:
        toy.engine.submit([sentence(5, 6, beam=2, max_length=10)])
        gate.reached()
        toy.engine.submit([sentence(7, 8, 9, beam=2)])
        toy.clock.now += 5
        shown = toy.engine.snapshot()
        assert (shown.queue_depth, shown.queue_tokens, shown.oldest_age_seconds) == (1, 4, 5)
        assert (shown.running_slots, shown.running_rows, shown.running_tokens) == (1, 2, 3 + 2 * 11)
        assert (shown.lanes, shown.draining, shown.healthy) == (1, False, True)


def test_idle_lanes_are_given_up_but_for_a_few() -> None:
    with toy_engine(idle_lanes=2) as toy:
        for beam in (1, 2, 3, 4, 5):
            toy.engine.submit([sentence(5, beam=beam)]).future.result(PATIENCE)
        assert toy.engine.join(PATIENCE)
        assert toy.engine.snapshot().lanes == 3
        held = toy.engine.snapshot().state_bytes
        toy.engine.submit([sentence(5, beam=5)]).future.result(PATIENCE)
        assert toy.engine.join(PATIENCE)
        assert toy.engine.snapshot().state_bytes == held > 0


def test_short_and_long_sentences_share_a_step() -> None:
    with toy_engine(rows=64) as toy:
        long = sentence(*[5] * 60, beam=2)
        toy.engine.submit([*(sentence(5, beam=2) for _ in range(12)), long]).future.result(PATIENCE)
        assert toy.steps[0] == (13, 2)


def test_workers_share_the_sentences_of_a_beam_size_evenly() -> None:
    gate = Gate()
    with toy_engine(gate=gate, rows=16, workers=2) as toy:
        toy.engine.submit([sentence(5, beam=2) for _ in range(8)])
        for _ in range(2):
            gate.reached()
        assert toy.engine.snapshot().running_slots == 8
        gate.open()
        assert toy.engine.join(PATIENCE)
        assert toy.engine.snapshot().lanes == 2
    assert toy.steps[:2] == [(4, 2), (4, 2)]


def test_a_slow_worker_holds_up_its_own_sentences_only() -> None:
    held, slow = threading.Event(), list[int]()

    def first_thread_waits() -> None:
        slow.extend([] if slow else [threading.get_ident()])
        if threading.get_ident() == slow[0]:
            assert held.wait(PATIENCE)

    with toy_engine(workers=2) as toy:
        toy.runner.before_step = first_thread_waits
        waiting = toy.engine.submit([sentence(5, 6, 7)])
        while not slow:
            pass
        assert tokens_of(toy.engine.submit([sentence(8)]).future) == [(8,)]
        assert not waiting.future.done()
        held.set()
        assert tokens_of(waiting.future) == [(5, 6, 7)]


def test_an_idle_engine_does_not_spin(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = 0
    schedule = Scheduler.schedule

    def counted(self: Scheduler[Job], now: float, worker: int = 0) -> Turn[Job]:
        nonlocal rounds
        rounds += 1
        return schedule(self, now, worker)

    monkeypatch.setattr(Scheduler, "schedule", counted)
    with toy_engine() as toy:
        for _ in range(3):
            toy.engine.submit([sentence(5, 6)]).future.result(PATIENCE)
            for _ in range(1000):
                toy.engine.snapshot()
        toy.engine.stop(PATIENCE)
        assert rounds == len(toy.steps) == 9


@pytest.mark.parametrize("workers", [1, 3])
def test_many_threads_submit_and_cancel_and_nobody_gets_another_ones_answer(workers: int) -> None:
    wrong: list[object] = []

    def caller(number: int) -> None:
        rng = np.random.default_rng(number)
        for _ in range(20):
            needle = tuple(int(token) for token in rng.integers(4, NAN_TOKEN, rng.integers(1, 12)))
            submission = toy.engine.submit([sentence(*needle, beam=int(rng.choice([1, 2, 3])))] * 2)
            if rng.random() < 0.3:
                time.sleep(rng.random() / 500)  # some wait by then, some run, some have ended
                submission.cancel()
            try:
                answers = tokens_of(submission.future)
            except Cancelled:
                continue
            if answers != [needle] * 2:
                wrong.append((needle, answers))

    with toy_engine(rows=6, workers=workers) as toy:
        toy.clock.real = True
        threads = [threading.Thread(target=caller, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert toy.engine.join(PATIENCE)
        assert not wrong
        counts = toy.seen.counts
        assert counts[Outcome.OK] + counts[Outcome.CANCELLED] == counts["submitted"] == 320
        assert counts[Outcome.OK] > 160
        assert toy.engine.snapshot().running_slots == 0
        assert max(toy.seen.freed_after, default=0) <= 2
