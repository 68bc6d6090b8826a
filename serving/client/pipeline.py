"""Concurrent work with results in order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")


def in_order(
    items: Iterable[_Item], work: Callable[[_Item], _Answer], *, in_flight: int
) -> Generator[tuple[_Item, _Answer], None, None]:
    """Apply ``work`` to items on threads and yield each item with its answer, in the order of the items.

    An answer comes as soon as it and those before it are there, even while the next item is awaited; at most
    ``in_flight`` items are unanswered, so the items may be endless.

    Raises:
        Exception: Any that ``work`` or the iteration over the items raised, after the answers that precede it.
    """
    window = threading.Semaphore(in_flight)
    stopped = threading.Event()
    answers: SimpleQueue[tuple[_Item, Future[_Answer]] | BaseException | None] = SimpleQueue()
    pool = ThreadPoolExecutor(in_flight, thread_name_prefix="translate")

    def feed() -> None:
        try:
            for item in items:
                window.acquire()
                if stopped.is_set():
                    return
                answers.put((item, pool.submit(work, item)))
        except BaseException as error:  # raised again by the consumer
            answers.put(error)
        else:
            answers.put(None)

    # A daemon: nothing can interrupt a thread that waits for its standard input.
    threading.Thread(target=feed, daemon=True, name="feed").start()
    try:
        while (entry := answers.get()) is not None:
            if isinstance(entry, BaseException):
                raise entry
            item, future = entry
            answer = future.result()
            window.release()
            yield item, answer
    finally:
        stopped.set()
        window.release()
        pool.shutdown(wait=False, cancel_futures=True)
