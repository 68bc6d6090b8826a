"""The peer's dynamic batcher: who shares a batch, and what happens to errors and to those who leave."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from loadtests.peer.batcher import DynamicBatcher, Full, Timed

Task = asyncio.Task[Timed[str]]


class Worker:
    """Writes down its batches; while it is held, it does not finish one."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, list[str]]] = []
        self.free = threading.Event()
        self.free.set()

    def __call__(self, kind: str, items: Sequence[str]) -> list[str]:
        self.batches.append((kind, list(items)))
        assert self.free.wait(30)
        if "bad" in items:
            raise ValueError("bad")
        return [item.upper() for item in items]


@asynccontextmanager
async def batching(
    worker: Worker, *, max_batch: int = 4, delay: float = 0.02, max_queue: int = 100
) -> AsyncIterator[DynamicBatcher[str, str, str]]:
    batcher: DynamicBatcher[str, str, str] = DynamicBatcher(
        worker, workers=1, max_batch=max_batch, delay=delay, max_queue=max_queue
    )
    await batcher.start()
    try:
        yield batcher
    finally:
        worker.free.set()
        await batcher.stop()


async def busy(batcher: DynamicBatcher[str, str, str], worker: Worker) -> Task:
    """Occupies the only worker."""
    worker.free.clear()
    (task,) = await submit(batcher, "first", "first")
    while not worker.batches:
        await asyncio.sleep(0.001)
    return task


async def submit(batcher: DynamicBatcher[str, str, str], kind: str, *items: str) -> list[Task]:
    """Puts items into the queue."""
    tasks = [asyncio.create_task(batcher.submit(kind, item, len(item))) for item in items]
    await asyncio.sleep(0)
    return tasks


async def test_items_that_come_together_share_a_batch() -> None:
    worker = Worker()
    async with batching(worker, delay=60.0) as batcher:  # who is not full waits longer than this test may last
        answers = await asyncio.gather(*await submit(batcher, "k", "a", "b", "c", "d"))
        assert [timed.answer for timed in answers] == ["A", "B", "C", "D"]
        assert worker.batches == [("k", ["a", "b", "c", "d"])]


async def test_a_lone_item_waits_for_no_more_than_the_delay() -> None:
    worker = Worker()
    async with batching(worker) as batcher:
        assert (await batcher.submit("k", "a", 1)).answer == "A"
        assert worker.batches == [("k", ["a"])]


async def test_a_batch_is_of_one_kind_and_of_the_oldest_and_those_like_it() -> None:
    worker = Worker()
    async with batching(worker, max_batch=3) as batcher:
        tasks = [await busy(batcher, worker)]
        tasks += await submit(batcher, "k", "x" * 5, "x", "x" * 8)
        tasks += await submit(batcher, "other", "x" * 4)
        tasks += await submit(batcher, "k", "x" * 4, "x" * 6, "x" * 2)
        worker.free.set()
        await asyncio.gather(*tasks)
        kinds = [(kind, sorted(map(len, items))) for kind, items in worker.batches[1:]]
        assert kinds == [("k", [4, 5, 6]), ("k", [1, 2, 8]), ("other", [4])]


async def test_an_error_goes_to_its_batch_and_to_nobody_else() -> None:
    worker = Worker()
    async with batching(worker, max_batch=2) as batcher:
        outcomes = await asyncio.gather(*await submit(batcher, "k", "bad", "a"), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [ValueError, ValueError]
        assert (await batcher.submit("k", "b", 1)).answer == "B"


async def test_who_leaves_is_not_worked_on() -> None:
    worker = Worker()
    async with batching(worker) as batcher:
        first = await busy(batcher, worker)
        stays, leaves = await submit(batcher, "k", "stays", "leaves")
        leaves.cancel()
        await asyncio.wait([leaves])
        worker.free.set()
        await asyncio.gather(first, stays)
        assert worker.batches[1:] == [("k", ["stays"])]


async def test_a_full_queue_refuses() -> None:
    worker = Worker()
    async with batching(worker, max_queue=2) as batcher:
        tasks = [await busy(batcher, worker), *await submit(batcher, "k", "a", "b")]
        with pytest.raises(Full, match="2 texts wait"):
            await batcher.submit("k", "c", 1)
        worker.free.set()
        await asyncio.gather(*tasks)
