"""How fast many threads call a server that says when it has had enough: they slow down together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import grpc

from serving.client.errors import CallCancelled, CallError

_Answer = TypeVar("_Answer")

_SPEED_UP = 0.8  # factor on the interval between calls, per answer


class Pace:
    """The pace of calls to a server that may refuse them and say how long to wait (``google.rpc.RetryInfo``).

    Calls begin at an interval that grows by the time the server asks for and shrinks with each answer, so that its rate
    settles at what the server takes. Threads share one pace.
    """

    def __init__(self, patience: float, *, on_slow_down: Callable[[CallError], None] = lambda error: None) -> None:
        """Start without an interval.

        Args:
            patience: Seconds from its first refusal after which a call is given up.
            on_slow_down: Called with the first refusal of all.
        """
        self._patience = patience
        self._on_slow_down = on_slow_down
        self._turn = threading.Lock()  # held by the thread whose call is next
        self._lock = threading.Lock()  # of the figures below
        self._closed = threading.Event()
        self._interval = 0.0  # seconds
        self._next = 0.0  # when the next call may begin; times are of time.monotonic()
        self._slowed = 0.0  # when the interval grew last

    def call(self, make: Callable[[], _Answer]) -> _Answer:
        """Make a call when it is its turn, and again as the server asks.

        Raises:
            CallError: It failed for good, or was refused for longer than the patience.
        """
        give_up = float("inf")
        while True:
            began = self._wait()
            try:
                answer = make()
            except CallError as error:
                if error.retry_delay is None:
                    raise
                now = time.monotonic()
                give_up = min(give_up, now + self._patience)
                if now + error.retry_delay > give_up:
                    raise
                self._slow_down(began, now, error)
            else:
                with self._lock:
                    self._interval *= _SPEED_UP
                return answer

    def close(self) -> None:
        """End every wait."""
        self._closed.set()

    def _wait(self) -> float:
        with self._turn:
            while (now := time.monotonic()) < self._next:  # which grows while a refusal comes in
                if self._closed.wait(self._next - now):
                    raise CallCancelled("the client was closed", code=grpc.StatusCode.CANCELLED)
            with self._lock:
                self._next = max(self._next, now + self._interval)
        return now

    def _slow_down(self, began: float, now: float, error: CallError) -> None:
        delay = error.retry_delay or 0.0
        with self._lock:
            first = not self._slowed
            if began >= self._slowed:  # others that began before the interval grew tell nothing about it
                self._interval += delay
                self._slowed = now
            self._next = max(self._next, now + delay)
        if first:
            self._on_slow_down(error)
