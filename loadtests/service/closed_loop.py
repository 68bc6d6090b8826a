"""Locustfile of a closed loop: each user waits for its answer before it calls again, which measures capacity.

    python -m locust -f loadtests/service/closed_loop.py --headless --users 64 --spawn-rate 64 --run-time 10s

It slows down with the server and hides its queue; for latencies take the open loop.
"""

from __future__ import annotations

import time
from random import Random
from typing import Any, ClassVar

from locust import constant, events, task
from locust.env import Environment

from loadtests.service.recording import traffic
from loadtests.service.traffic import Traffic
from loadtests.service.translation_user import TranslationUser


class ClosedLoopUser(TranslationUser):
    """One caller."""

    wait_time = constant(0)
    began: ClassVar[float]  # the run, a time.perf_counter() value
    callers: ClassVar[Traffic]
    random: ClassVar[Random]

    @task
    def call(self) -> None:
        """Make a call and wait for its end."""
        due = time.perf_counter() - self.began
        self.send(self.callers.draw(self.random), start=self.began, due=due).wait()


@events.test_start.add_listener
def _begin(environment: Environment, **_: Any) -> None:
    options: Any = environment.parsed_options
    worker = getattr(environment.runner, "worker_index", 0)
    ClosedLoopUser.random = Random(f"{options.seed}/{worker}")
    ClosedLoopUser.callers = traffic(options)
    ClosedLoopUser.began = time.perf_counter()
