"""The scheduler's policy, by properties and by examples."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from serving.engine.observer import RejectReason
from serving.engine.scheduler import Demand, EngineLimits, Scheduler
from serving.engine.throughput import Throughput

LIMITS = EngineLimits(
    queue_sentences=12, queue_tokens=200, running_tokens=300, rows=6, encode_tokens=60, patience_seconds=50
)
DEMANDS = st.builds(
    Demand,
    beam=st.sampled_from([1, 2, 4, 8]),
    source_tokens=st.integers(1, 80),
    state_tokens=st.integers(1, 400),
    priority=st.integers(-1, 1),
    deadline=st.none(),
)
PATIENCE = st.one_of(st.none(), st.integers(-5, 100))


def demand(
    source_tokens: int = 4, *, beam: int = 1, state: int = 1, priority: int = 0, deadline: float | None = None
) -> Demand:
    return Demand(beam, source_tokens, state, priority, deadline)


def begun(scheduler: Scheduler[str], now: float = 0.0, worker: int = 0) -> list[str]:
    return [key for batch in scheduler.schedule(now, worker).batches for key in batch.keys]


class Policy(RuleBasedStateMachine):
    """Random work against a plain account of where every sentence is."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler: Scheduler[int] = Scheduler(LIMITS)
        self.now = 0.0
        self.next = 0
        self.waiting: dict[int, tuple[Demand, tuple[float, int]]] = {}
        self.running: dict[int, Demand] = {}
        self.ended: set[int] = set()

    @rule(demands=st.lists(DEMANDS, min_size=1, max_size=4), patience=PATIENCE)
    def submit(self, demands: list[Demand], patience: int | None) -> None:
        deadline = None if patience is None else self.now + patience
        demands = [Demand(d.beam, d.source_tokens, d.state_tokens, d.priority, deadline) for d in demands]
        items = [(self.next + i, d) for i, d in enumerate(demands)]
        reason = self.scheduler.submit(items, self.now)
        fits = (
            len(self.waiting) + len(items) <= LIMITS.queue_sentences
            and sum(d.source_tokens for d, _ in self.waiting.values()) + sum(d.source_tokens for d in demands)
            <= LIMITS.queue_tokens
        )
        if reason in (RejectReason.QUEUE_FULL, RejectReason.TOKENS_FULL):
            assert self.waiting
            assert not fits
        elif reason is RejectReason.DEADLINE:
            assert deadline is not None
        else:
            assert reason is None
            assert fits or not self.waiting
            assert deadline is None or deadline > self.now
            longest_first = sorted(items, key=lambda item: -item[1].source_tokens)
            for arrival, (key, d) in enumerate(longest_first, self.next):
                due = min(math.inf if deadline is None else deadline, self.now + LIMITS.patience_seconds)
                self.waiting[key] = d, (due - d.priority * LIMITS.patience_seconds, arrival)
        self.next += len(items)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.waiting)))
        assert self.scheduler.cancel(key)
        assert not self.scheduler.cancel(key)
        self.ended.add(key)
        del self.waiting[key]

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.running)))
        self.scheduler.finish(key)
        assert not self.scheduler.cancel(key)
        self.ended.add(key)
        del self.running[key]

    @rule(seconds=st.integers(0, 40))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def schedule(self) -> None:
        turn = self.scheduler.schedule(self.now)
        late = {key for key, (d, _) in self.waiting.items() if d.deadline is not None and d.deadline <= self.now}
        assert set(turn.expired) == late
        assert len(turn.expired) == len(late)
        for key in late:
            self.ended.add(key)
            del self.waiting[key]
        ranks = {}
        source_tokens = 0
        for batch in turn.batches:
            demands = [self.waiting[key][0] for key in batch.keys]
            lengths = [d.source_tokens for d in demands]
            assert {d.beam for d in demands} == {batch.beam}
            assert batch.padding <= max(32, sum(lengths) / 4)
            assert (batch.tokens, batch.padding) == (sum(lengths), max(lengths) * len(lengths) - sum(lengths))
            source_tokens += sum(lengths)
            for key in batch.keys:
                self.running[key], ranks[key] = self.waiting.pop(key)
        assert source_tokens <= LIMITS.encode_tokens or len(ranks) == 1
        # Whoever still waits is overtaken only by sentences of other lanes, and only while its own lane is full.
        for d, rank in self.waiting.values():
            for key, begun in ranks.items():
                if rank < begun:
                    assert self.running[key].beam != d.beam
                    assert self.used(d.beam) == LIMITS.slots(d.beam)
        assert not self.waiting or self.running

    def used(self, beam: int) -> int:
        return sum(d.beam == beam for d in self.running.values())

    @invariant()
    def accounts_agree(self) -> None:
        scheduler = self.scheduler
        assert scheduler.queue_depth == len(self.waiting)
        assert scheduler.queue_tokens == sum(d.source_tokens for d, _ in self.waiting.values())
        assert scheduler.running_slots == len(self.running)
        assert scheduler.running_rows == sum(d.beam for d in self.running.values())
        assert scheduler.running_tokens == sum(d.state_tokens for d in self.running.values())
        assert scheduler.busy == bool(self.waiting or self.running)

    @invariant()
    def budgets_hold(self) -> None:
        assert self.scheduler.running_tokens <= LIMITS.running_tokens or len(self.running) == 1
        assert all(self.used(beam) <= LIMITS.slots(beam) for beam in (1, 2, 4, 8))

    def teardown(self) -> None:
        """Whatever was left runs to its end: nothing is lost."""
        while self.waiting:
            self.schedule()
            for key in list(self.running):
                self.scheduler.finish(key)
                self.ended.add(key)
                del self.running[key]
        for key in self.running:
            self.scheduler.finish(key)
        assert not self.scheduler.busy


@given(
    arrivals=st.lists(
        st.tuples(st.integers(0, 400), st.integers(-2, 2), st.none() | st.integers(1, 500)), min_size=2, max_size=40
    )
)
def test_nothing_starves_beyond_the_bound(arrivals: list[tuple[int, int, int | None]]) -> None:
    """One slot, and a queue that never empties: who begins late was overtaken only by those who may."""
    patience = 10.0
    scheduler: Scheduler[str] = Scheduler(EngineLimits(rows=1, patience_seconds=patience, encode_tokens=1))
    arrivals = sorted(arrivals, key=lambda arrival: arrival[0])
    for key, (at, priority, seconds) in enumerate(arrivals):
        deadline = None if seconds is None else at + 1000.0 + seconds
        assert scheduler.submit([(str(key), demand(1, priority=priority, deadline=deadline))], at) is None
    begins: list[str] = []
    while scheduler.busy:
        begins += begun(scheduler, now=500)
        scheduler.finish(begins[-1])
    order = [int(key) for key in begins]
    assert sorted(order) == list(range(len(arrivals)))
    for place, overtaken in enumerate(order):
        at, priority, _ = arrivals[overtaken]
        for key in order[:place]:
            assert arrivals[key][0] <= at + patience * (1 + arrivals[key][1] - priority)


def test_who_must_run_alone_has_its_lane_for_itself() -> None:
    scheduler: Scheduler[str] = Scheduler(EngineLimits(rows=4))
    scheduler.submit([("first", demand())], 0)
    scheduler.submit([("suspect", replace(demand(), alone=True))], 0)
    scheduler.submit([("next", demand())], 0)
    scheduler.submit([("other lane", demand(beam=2))], 0)
    assert begun(scheduler) == ["first", "other lane"]
    scheduler.finish("first")
    assert begun(scheduler) == ["suspect"]
    assert scheduler.running_rows == 3
    assert begun(scheduler) == []
    scheduler.finish("suspect")
    assert begun(scheduler) == ["next"]


TestPolicy = Policy.TestCase
TestPolicy.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_priority_then_deadline_then_arrival() -> None:
    scheduler: Scheduler[str] = Scheduler(EngineLimits(rows=1))
    scheduler.submit([("running", demand())], 0)
    assert begun(scheduler) == ["running"]
    scheduler.submit([("late", demand(deadline=20)), ("late too", demand(deadline=20))], 0)
    scheduler.submit([("soon", demand(deadline=10))], 0)
    scheduler.submit([("urgent", demand(priority=1))], 0)
    order: list[str] = []
    for _ in range(4):
        scheduler.finish((["running", *order])[-1])
        order += begun(scheduler)
    assert order == ["urgent", "soon", "late", "late too"]


def test_a_sentence_without_a_deadline_is_overtaken_for_so_long_only() -> None:
    scheduler: Scheduler[str] = Scheduler(EngineLimits(rows=1, patience_seconds=30))
    scheduler.submit([("running", demand())], 0)
    begun(scheduler)
    scheduler.submit([("patient", demand())], 0)
    scheduler.submit([("eager", demand(deadline=25))], 20)
    scheduler.submit([("newcomer", demand(deadline=33))], 31)
    order: list[str] = []
    for _ in range(3):
        scheduler.finish((["running", *order])[-1])
        order += begun(scheduler, now=24)
    assert order == ["eager", "patient", "newcomer"]


def test_small_sentences_do_not_starve_a_large_one() -> None:
    scheduler: Scheduler[str] = Scheduler(EngineLimits(running_tokens=100))
    scheduler.submit([("half", demand(state=50))], 0)
    begun(scheduler)
    scheduler.submit([("large", demand(state=90, beam=2)), ("small", demand(state=1))], 0)
    assert begun(scheduler) == []
    scheduler.finish("half")
    assert begun(scheduler) == ["large", "small"]


def test_a_full_lane_lets_other_lanes_pass() -> None:
    scheduler: Scheduler[str] = Scheduler(EngineLimits(rows=2))
    scheduler.submit([(key, demand(beam=2)) for key in ("first", "second")], 0)
    scheduler.submit([("greedy", demand(beam=1))], 0)
    assert begun(scheduler) == ["first", "greedy"]


def test_a_full_lane_takes_sentences_again_when_it_has_room_for_several() -> None:
    scheduler: Scheduler[str] = Scheduler(EngineLimits(rows=16))
    names = [f"s{number:02}" for number in range(40)]
    scheduler.submit([(name, demand()) for name in names], 0.0)
    assert begun(scheduler) == names[:16]
    scheduler.finish("s00")
    assert begun(scheduler) == []
    assert not scheduler.has_work()
    scheduler.finish("s01")
    assert begun(scheduler) == names[16:18]
    for name in names[2:38]:
        if name not in scheduler._running:
            assert scheduler.cancel(name)
    scheduler.finish("s02")
    scheduler.finish("s03")
    assert begun(scheduler) == names[38:], "one free slot in eight, or room for all that wait"


def test_workers_take_even_shares() -> None:
    scheduler: Scheduler[str] = Scheduler(EngineLimits(workers=2))
    scheduler.submit([(key, demand()) for key in "abcd"], 0)
    assert begun(scheduler, worker=0) == ["a", "b"]
    assert not scheduler.has_work(0)
    assert scheduler.has_work(1)
    assert begun(scheduler, worker=1) == ["c", "d"]
    scheduler.finish("a")
    scheduler.submit([("e", demand())], 0)
    assert not scheduler.has_work(1)
    assert begun(scheduler, worker=0) == ["e"]


def test_each_worker_has_lanes_of_its_own_and_all_share_the_token_budget() -> None:
    scheduler: Scheduler[str] = Scheduler(EngineLimits(workers=2, rows=1, running_tokens=30))
    scheduler.submit([(key, demand(state=10)) for key in "abc"], 0)
    assert begun(scheduler, worker=0) == ["a"]
    assert begun(scheduler, worker=1) == ["b"]
    assert begun(scheduler, worker=0) == []
    scheduler.submit([("large", demand(beam=2, state=20))], 0)
    scheduler.finish("b")
    assert begun(scheduler, worker=1) == ["c"]
    assert not scheduler.has_work(1)
    assert begun(scheduler, worker=1) == []
    scheduler.finish("a")
    assert begun(scheduler, worker=0) == ["large"]


def test_a_beam_wider_than_the_grid_has_one_slot() -> None:
    scheduler: Scheduler[str] = Scheduler(EngineLimits(rows=4))
    scheduler.submit([("a", demand(beam=9)), ("b", demand(beam=9))], 0)
    assert begun(scheduler) == ["a"]


def test_encoder_batches_hold_similar_lengths() -> None:
    scheduler: Scheduler[int] = Scheduler(EngineLimits())
    scheduler.submit([(length, demand(length)) for length in (3, 16, 17, 30, 31, 60, 200)], 0)
    batches = sorted(scheduler.schedule(0).batches, key=lambda batch: batch.keys)
    assert [batch.keys for batch in batches] == [(3, 16, 17), (30, 31), (60,), (200,)]
    assert [batch.padding for batch in batches] == [15, 1, 0, 0]


def test_dead_heap_entries_are_swept() -> None:
    scheduler: Scheduler[int] = Scheduler(EngineLimits(rows=1))
    scheduler.submit([(-1, demand())], 0)
    scheduler.schedule(0)
    for key in range(5000):
        scheduler.submit([(key, demand(deadline=1000))], 0)
        scheduler.cancel(key)
    assert sum(map(len, scheduler._lanes.values())) + len(scheduler._expiries) < 200


def test_a_deadline_behind_a_measured_backlog_is_refused() -> None:
    scheduler: Scheduler[int] = Scheduler(EngineLimits(rows=1))
    scheduler.submit([(key, demand(10)) for key in range(20)], 0)
    scheduler.schedule(0)
    for second in range(1, 6):  # ten source tokens a second
        scheduler.finish(second - 1)
        scheduler.schedule(second)
    wait = scheduler.wait_estimate()
    assert wait is not None
    assert 13.9 < wait < 14.1
    assert scheduler.submit([(100, demand(deadline=5 + 13, priority=-1))], 5) is RejectReason.DEADLINE
    assert scheduler.submit([(101, demand(deadline=5 + 15, priority=-1))], 5) is None
    scheduler.decoded(10, 3.0)
    assert scheduler.submit([(103, demand(10, deadline=5 + 16, priority=-1))], 5) is RejectReason.DEADLINE
    # Ahead of others: how long it will wait is not known, so it is taken.
    assert scheduler.submit([(102, demand(deadline=5 + 2))], 5) is None


def test_what_cannot_be_met_any_more_is_dropped_when_its_turn_comes_while_others_wait() -> None:
    scheduler: Scheduler[str] = Scheduler(EngineLimits(rows=1))
    scheduler.submit([("running", demand())], 0)
    assert begun(scheduler) == ["running"]
    scheduler.submit([("tight", demand(10, deadline=5.0)), ("loose", demand(10, deadline=9.0))], 0)
    scheduler.decoded(10, 2.0)
    scheduler.finish("running")
    turn = scheduler.schedule(4.0)
    assert turn.expired == ("tight",)
    assert [batch.keys for batch in turn.batches] == [("loose",)]
    only = [("only", demand(10, deadline=4.5))]
    assert scheduler.submit(only, 4.0) is RejectReason.DEADLINE
    assert scheduler.refuses(10, 4.5, 0, 4.0) is RejectReason.DEADLINE
    assert scheduler.refuses(1, 4.5, 0, 4.0) is None
    scheduler.finish("loose")
    assert scheduler.submit(only, 4.0) is None
    assert begun(scheduler, now=4.0) == ["only"]  # nothing else waits or runs: what was measured says little


def test_who_missed_deadlines_leaves_more_time_to_those_that_come_until_they_are_met_again() -> None:
    scheduler: Scheduler[str] = Scheduler(EngineLimits(rows=1))
    scheduler.submit([("running", demand())], 0)
    assert begun(scheduler) == ["running"]
    assert scheduler.refuses(1, 10.3, 0, 10.0) is None
    for _ in range(50):
        scheduler.missed(10.0)
    assert scheduler.refuses(1, 10.3, 0, 10.0) is RejectReason.DEADLINE
    assert scheduler.refuses(1, 11.01, 0, 10.0) is None  # a second is the most
    assert scheduler.refuses(1, 14.3, 0, 14.0) is None
    scheduler.finish("running")
    assert scheduler.refuses(1, 10.3, 0, 10.0) is None  # an idle server tries


def test_throughput_says_nothing_of_an_idle_server() -> None:
    throughput = Throughput()
    for now in range(0, 1000, 100):
        throughput.took(5, now, backlog=False)
    assert throughput.seconds_for(10) is None


def test_throughput_follows_a_change() -> None:
    throughput = Throughput()
    for now in range(100):
        throughput.took(10, now, backlog=True)
    for now in range(100, 160):
        throughput.took(1, now, backlog=True)
    estimate = throughput.seconds_for(10)
    assert estimate is not None
    assert 9 < estimate < 10
