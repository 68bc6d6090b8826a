"""Dynamic batching of whole requests, as Triton and TorchServe do it: a batch is decoded to its end before the next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter
from typing import Generic, TypeVar

Kind = TypeVar("Kind", bound=Hashable)
Item = TypeVar("Item")
Answer = TypeVar("Answer")

_WINDOW = 4  # batches' worth of items among which those of like size are looked for


class Full(Exception):
    """The limit of waiting items is reached."""


@dataclass(frozen=True)
class Timed(Generic[Answer]):
    """An answer, with the seconds its item waited and the seconds its batch was computed."""

    answer: Answer
    queue: float
    compute: float


@dataclass(eq=False)
class _Waiting(Generic[Kind, Item, Answer]):
    kind: Kind
    item: Item
    size: int
    arrived: float
    future: asyncio.Future[Timed[Answer]]


@dataclass(eq=False)
class DynamicBatcher(Generic[Kind, Item, Answer]):
    """Queue that gives batches of one kind to workers, each on a thread of its own.

    A free worker takes the item that has waited longest, and with it those of its kind that are nearest to it in size,
    out of the oldest few batches' worth: little padding, and nobody waits for ever. It waits for more until a batch is
    full or the oldest item has waited ``delay``; under load items have waited longer, and it takes a batch at once.
    """

    work: Callable[[Kind, Sequence[Item]], Sequence[Answer]]  # answers a batch, in order, on a worker's thread
    workers: int  # batches at the same time
    max_batch: int  # items
    delay: float  # seconds that an item waits for others, at most, while a worker is free
    max_queue: int = 4096  # items

    def __post_init__(self) -> None:
        """Prepare a queue; :meth:`start` starts its workers."""
        self._waiting: list[_Waiting[Kind, Item, Answer]] = []  # by arrival
        self._changed = asyncio.Condition()
        self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="batch")
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start the workers."""
        self._tasks = [asyncio.create_task(self._run()) for _ in range(self.workers)]

    async def stop(self) -> None:
        """Stop the workers after their present batches; cancel the items that wait."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for entry in self._waiting:
            entry.future.cancel()
        self._pool.shutdown()

    async def submit(self, kind: Kind, item: Item, size: int) -> Timed[Answer]:
        """Wait for the answer to an item, which shares a batch with items of its kind and of similar size.

        Raises:
            Full: Too many items wait.
            Exception: The error of its batch.
        """
        if len(self._waiting) >= self.max_queue:
            raise Full(f"{len(self._waiting)} texts wait, which is the limit")
        entry = _Waiting(kind, item, size, perf_counter(), asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        async with self._changed:
            self._changed.notify()
        try:
            return await entry.future
        finally:
            with suppress(ValueError):  # it is in a batch by now
                self._waiting.remove(entry)

    async def _run(self) -> None:
        while True:
            batch = await self._next_batch()
            started = perf_counter()
            items = [entry.item for entry in batch]
            try:
                answers = await asyncio.get_running_loop().run_in_executor(self._pool, self.work, batch[0].kind, items)
            except Exception as error:
                for entry in batch:
                    if not entry.future.done():
                        entry.future.set_exception(error)
                continue
            compute = perf_counter() - started
            for entry, answer in zip(batch, answers, strict=True):
                if not entry.future.done():
                    entry.future.set_result(Timed(answer, started - entry.arrived, compute))

    async def _next_batch(self) -> list[_Waiting[Kind, Item, Answer]]:
        async with self._changed:
            while True:
                await self._changed.wait_for(lambda: bool(self._waiting))
                oldest = self._waiting[0]
                left = oldest.arrived + self.delay - perf_counter()
                same = [entry for entry in self._waiting if entry.kind == oldest.kind]
                if left <= 0 or len(same) >= self.max_batch:
                    break
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), left)
        window = same[: _WINDOW * self.max_batch]
        batch = sorted(window, key=lambda entry: abs(entry.size - oldest.size))[: self.max_batch]
        chosen = set(map(id, batch))
        self._waiting = [entry for entry in self._waiting if id(entry) not in chosen]
        return batch
