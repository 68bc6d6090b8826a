"""The order in which sentences run: pure policy over sizes, priorities and deadlines.

Time is passed in; keys are opaque.

The order of work, within and across beam sizes:

1. The earliest due time first. Due is the deadline, but never later than arrival + ``patience``, and each level of
   priority makes it one ``patience`` earlier: so nothing starves. A sentence, with a far deadline or none, is never
   overtaken by one that arrives more than (1 + d) ``patience`` after it and whose priority is d levels higher.
2. Then first come, first served; of what comes together, the longest first: sentences of like length then run side by
   side, and the last to end is not the one that takes longest.

A worker has a fixed number of slots for its sentences of one beam size. A beam size without any lets others pass, until
an eighth of its slots are free, or enough for all that waits: a run of the encoder costs little more for several
sentences than for one. The running token budget lets nobody pass: the first sentence that does not fit it waits, and
everything behind waits with it, so small sentences cannot starve a large one. What is larger than a whole budget runs
alone rather than never. A sentence that must run alone takes every slot of its lane.

A worker takes no more than its even share of what waits and runs, so that no other one is left idle.

Due times, lanes and expiries are heaps with lazy deletion: every operation is O(log n) amortised.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from serving.engine.observer import RejectReason
from serving.engine.throughput import DecodingTime, Margin, Throughput

Key = TypeVar("Key", bound=Hashable)
Rank = tuple[float, int]  # due time, arrival number: lower runs first

_REFILL = 8  # a full lane takes sentences again when one in so many slots is free
_CHEAP_PADDING = 32  # tokens; encoding this many more costs less than another run of the encoder


@dataclass(frozen=True)
class EngineLimits:
    """The capacity of an engine.

    Attributes:
        queue_sentences: Sentences waiting at most.
        queue_tokens: Source tokens waiting at most.
        running_tokens: Source and target tokens the sentences in slots may come to hold, over all their beams.
        rows: Hypotheses of a lane; it has rows // beam size slots, at least one.
        encode_tokens: Source tokens encoded between two decoder steps, so that running sentences are not held up.
        patience_seconds: See the order of work above.
        idle_lanes: Beam sizes without work whose grids each worker keeps for the next sentence.
        workers: Threads or processes that decode at the same time, each with a lane for every beam size it is given.
        run_seconds: A run of the model that takes longer is given up; 0 for never.
    """

    queue_sentences: int = 4096
    queue_tokens: int = 262_144
    running_tokens: int = 131_072
    rows: int = 256
    encode_tokens: int = 2_048
    patience_seconds: float = 30.0
    idle_lanes: int = 2
    workers: int = 1
    run_seconds: float = 60.0

    def slots(self, beam: int) -> int:
        """Return the number of slots for a beam size."""
        return max(1, self.rows // beam)


@dataclass(frozen=True)
class Demand:
    """The sizes and wishes of a sentence, as far as the policy needs them.

    Attributes:
        beam: Its beam size, which is its lane.
        source_tokens: What the encoder reads.
        state_tokens: What it may come to hold while it runs, over all its beams.
        priority: Higher goes earlier.
        deadline: In the clock of ``now``, seconds; None for never.
        alone: Whether nothing may share its lane with it.
    """

    beam: int
    source_tokens: int
    state_tokens: int
    priority: int = 0
    deadline: float | None = None
    alone: bool = False


@dataclass(frozen=True)
class EncoderBatch(Generic[Key]):
    """Sentences of one beam size and similar length, to be encoded together."""

    beam: int
    keys: tuple[Key, ...]
    tokens: int
    padding: int

    @classmethod
    def of(cls, beam: int, keys: Sequence[Key], lengths: Sequence[int]) -> EncoderBatch[Key]:
        """Make a batch of sentences from their numbers of source tokens."""
        return cls(beam, tuple(keys), sum(lengths), max(lengths) * len(lengths) - sum(lengths))


@dataclass(frozen=True)
class Turn(Generic[Key]):
    """The work before the next step: sentences that are too late, and batches that begin."""

    expired: tuple[Key, ...]
    batches: tuple[EncoderBatch[Key], ...]


@dataclass(frozen=True)
class _Waiting(Generic[Key]):
    key: Key
    demand: Demand
    arrived: float
    rank: Rank


class Scheduler(Generic[Key]):
    """The queue and the account of what runs."""

    def __init__(self, limits: EngineLimits) -> None:
        """Start empty."""
        self._limits = limits
        self._arrivals = 0
        self._waiting: OrderedDict[int, _Waiting[Key]] = OrderedDict()  # by arrival number
        self._number: dict[Key, int] = {}
        self._lanes: dict[int, list[Rank]] = {}
        self._expiries: list[tuple[float, int]] = []
        self._heap_entries = 0
        self._last_rank: Rank | None = None
        self._running: dict[Key, tuple[Demand, int]] = {}  # and its worker
        self._used_slots: Counter[tuple[int, int]] = Counter()  # by worker and beam size
        self._filled: set[tuple[int, int]] = set()  # lanes that were full and have few free slots
        self._shares = [0] * limits.workers  # running sentences of each
        self._throughput = Throughput()
        self._decoding_time = DecodingTime()
        self._margin = Margin()
        self.running_rows = 0  # hypotheses
        self.queue_tokens = 0
        self.running_tokens = 0

    @property
    def busy(self) -> bool:
        """Whether anything waits or runs."""
        return bool(self._waiting or self._running)

    @property
    def queue_depth(self) -> int:
        """The number of sentences waiting."""
        return len(self._waiting)

    @property
    def running_slots(self) -> int:
        """The number of sentences running."""
        return len(self._running)

    def oldest_age(self, now: float) -> float:
        """Return the seconds that the longest waiting sentence has waited; 0 for an empty queue."""
        first = next(iter(self._waiting.values()), None)
        return 0.0 if first is None else now - first.arrived

    def wait_estimate(self) -> float | None:
        """Estimate the seconds until a sentence behind all others would begin; None while too little was measured."""
        return self._throughput.seconds_for(self.queue_tokens)

    def decoded(self, source_tokens: int, seconds: float) -> None:
        """Note how long a sentence was encoded and decoded, which tells how long others will take."""
        self._decoding_time.took(source_tokens, seconds)

    def missed(self, now: float) -> None:
        """Note that a sentence that had been taken was late, so that those to come need more time."""
        self._margin.missed(now)

    def running_on(self, worker: int) -> list[tuple[Key, Demand]]:
        """Return what runs on a worker."""
        return [(key, demand) for key, (demand, its) in self._running.items() if its == worker]

    def submit(self, items: Sequence[tuple[Key, Demand]], now: float) -> RejectReason | None:
        """Take all of ``items`` into the queue, or none.

        More than the whole queue holds is taken by an empty one: otherwise it could never run. A deadline is refused
        when it has passed, or when others wait or run and it is nearer than a sentence of this length takes to decode,
        or when all that wait go first and the measured throughput will not get there in time for that. Where the order
        leaves it open, the sentence is taken and may expire later.

        Returns:
            The reason why nothing was taken, or None.
        """
        tokens = sum(demand.source_tokens for _, demand in items)
        if self._waiting and self.queue_depth + len(items) > self._limits.queue_sentences:
            return RejectReason.QUEUE_FULL
        if self._waiting and self.queue_tokens + tokens > self._limits.queue_tokens:
            return RejectReason.TOKENS_FULL
        items = sorted(items, key=lambda item: -item[1].source_tokens)
        ranks = [self._rank(self._arrivals + i, demand, now) for i, (_, demand) in enumerate(items)]
        if any(self._too_late(demand, rank, now) for (_, demand), rank in zip(items, ranks, strict=True)):
            return RejectReason.DEADLINE
        for (key, demand), rank in zip(items, ranks, strict=True):
            self._enqueue(_Waiting(key, demand, now, rank))
        return None

    def refuses(self, tokens: int, deadline: float | None, priority: int, now: float) -> RejectReason | None:
        """Tell whether even one sentence of so many source tokens would be refused, before more is known of it."""
        shortest = Demand(1, tokens, tokens, priority, deadline)
        if self._waiting and self.queue_depth >= self._limits.queue_sentences:
            return RejectReason.QUEUE_FULL
        if self._waiting and self.queue_tokens >= self._limits.queue_tokens:
            return RejectReason.TOKENS_FULL
        late = self._too_late(shortest, self._rank(self._arrivals, shortest, now), now)
        return RejectReason.DEADLINE if late else None

    def cancel(self, key: Key) -> bool:
        """Remove a waiting sentence; return False if it is not waiting."""
        if key not in self._number:
            return False
        self._dequeue(self._number[key])
        return True

    def has_work(self, worker: int = 0) -> bool:
        """Tell whether :meth:`schedule` would let something begin."""
        return self._next(worker, set()) is not None

    def schedule(self, now: float, worker: int = 0) -> Turn[Key]:
        """Remove from the queue what has expired and what begins now on a worker; the latter counts as running."""
        expired = self._expire(now)
        chosen: dict[int, list[_Waiting[Key]]] = {}
        source_tokens = 0
        full: set[int] = set()
        while (entry := self._next(worker, full)) is not None:
            demand = entry.demand
            if len(self._waiting) > 1 and self._hopeless(demand, now):
                self._dequeue(entry.rank[1])
                expired.append(entry.key)
                continue
            if source_tokens and source_tokens + demand.source_tokens > self._limits.encode_tokens:
                break
            self._dequeue(entry.rank[1])
            self._run(entry, worker)
            source_tokens += demand.source_tokens
            chosen.setdefault(demand.beam, []).append(entry)
        for _ in expired:
            self._margin.missed(now)
        self._throughput.took(source_tokens, now, backlog=bool(self._waiting))
        return Turn(tuple(expired), tuple(batch for entries in chosen.values() for batch in _bucketed(entries)))

    def finish(self, key: Key) -> None:
        """Account for the end of a running sentence.

        Raises:
            KeyError: The sentence was not running.
        """
        demand, worker = self._running.pop(key)
        self.running_tokens -= demand.state_tokens
        self.running_rows -= demand.beam
        lane = worker, demand.beam
        self._used_slots[lane] -= self._slots(demand)
        self._shares[worker] -= 1
        slots = self._limits.slots(demand.beam)
        if slots - self._used_slots[lane] >= -(-slots // _REFILL):
            self._filled.discard(lane)

    def _rank(self, number: int, demand: Demand, now: float) -> Rank:
        deadline, patience = math.inf if demand.deadline is None else demand.deadline, self._limits.patience_seconds
        return min(deadline, now + patience) - demand.priority * patience, number

    def _too_late(self, demand: Demand, rank: Rank, now: float) -> bool:
        if demand.deadline is None:
            return False
        last = self._last_rank is None or rank > self._last_rank
        wait = self._margin.seconds(now) + ((self.wait_estimate() or 0.0) if last else 0.0)
        return demand.deadline <= now or (self.busy and self._hopeless(demand, now + wait))

    def _hopeless(self, demand: Demand, start: float) -> bool:
        """Return whether a sentence that starts then is probably late; nobody is refused for that on an idle server."""
        deadline = math.inf if demand.deadline is None else demand.deadline
        return deadline <= start + self._decoding_time.seconds_for(demand.source_tokens)

    def _slots(self, demand: Demand) -> int:
        return self._limits.slots(demand.beam) if demand.alone else 1

    def _enqueue(self, entry: _Waiting[Key]) -> None:
        number = entry.rank[1]
        self._arrivals = number + 1
        self._waiting[number] = entry
        self._number[entry.key] = number
        self.queue_tokens += entry.demand.source_tokens
        self._last_rank = entry.rank if self._last_rank is None else max(self._last_rank, entry.rank)
        self._push(entry)

    def _push(self, entry: _Waiting[Key]) -> None:
        heapq.heappush(self._lanes.setdefault(entry.demand.beam, []), entry.rank)
        self._heap_entries += 1
        if entry.demand.deadline is not None:
            heapq.heappush(self._expiries, (entry.demand.deadline, entry.rank[1]))
            self._heap_entries += 1

    def _dequeue(self, number: int) -> None:
        """Forget a waiting sentence; its heap entries die where they are, and are swept when they are too many."""
        entry = self._waiting.pop(number)
        del self._number[entry.key]
        self.queue_tokens -= entry.demand.source_tokens
        if not self._waiting:
            self._last_rank = None
        if self._heap_entries > 4 * len(self._waiting) + 64:
            self._lanes, self._expiries, self._heap_entries = {}, [], 0
            for waiting in self._waiting.values():
                self._push(waiting)

    def _expire(self, now: float) -> list[Key]:
        expired = []
        while self._expiries and self._expiries[0][0] <= now:
            _, number = heapq.heappop(self._expiries)
            self._heap_entries -= 1
            if number in self._waiting:
                expired.append(self._waiting[number].key)
                self._dequeue(number)
        return expired

    def _next(self, worker: int, full: set[int]) -> _Waiting[Key] | None:
        """Return what a worker may begin now; add beam sizes whose lanes are full to ``full``."""
        limits = self._limits
        if self._shares[worker] * limits.workers >= len(self._waiting) + len(self._running):
            return None
        while (entry := self._head(full)) is not None:
            demand = entry.demand
            if self._takes(worker, demand):
                fits = self.running_tokens + demand.state_tokens <= limits.running_tokens
                return entry if fits or not self._running else None
            full.add(demand.beam)
        return None

    def _takes(self, worker: int, demand: Demand) -> bool:
        """Tell whether a worker's lane has the slots for a sentence, and enough free ones if it was full."""
        lane = worker, demand.beam
        free = self._limits.slots(demand.beam) - self._used_slots[lane]
        return free >= self._slots(demand) and (lane not in self._filled or free >= len(self._waiting))

    def _head(self, full: set[int]) -> _Waiting[Key] | None:
        """Return the first sentence of all lanes but the full ones."""
        best: Rank | None = None
        for beam, heap in self._lanes.items():
            while heap and heap[0][1] not in self._waiting:
                heapq.heappop(heap)
                self._heap_entries -= 1
            if heap and beam not in full and (best is None or heap[0] < best):
                best = heap[0]
        return None if best is None else self._waiting[best[1]]

    def _run(self, entry: _Waiting[Key], worker: int) -> None:
        demand = entry.demand
        self._running[entry.key] = demand, worker
        self.running_tokens += demand.state_tokens
        self.running_rows += demand.beam
        lane = worker, demand.beam
        self._used_slots[lane] += self._slots(demand)
        self._shares[worker] += 1
        if self._used_slots[lane] >= self._limits.slots(demand.beam):
            self._filled.add(lane)


def _bucketed(entries: Sequence[_Waiting[Key]]) -> list[EncoderBatch[Key]]:
    """Split sentences of one lane into encoder batches: as few as keep padding cheap, or under a quarter of it all."""
    ordered = sorted(entries, key=lambda entry: entry.demand.source_tokens)
    members: list[list[_Waiting[Key]]] = []
    tokens = 0
    for entry in ordered:
        length = entry.demand.source_tokens
        if members and length * (len(members[-1]) + 1) - (tokens + length) <= max(_CHEAP_PADDING, tokens // 4):
            members[-1].append(entry)
            tokens += length
        else:
            members.append([entry])
            tokens = length
    return [
        EncoderBatch.of(batch[0].demand.beam, [one.key for one in batch], [one.demand.source_tokens for one in batch])
        for batch in members
    ]
