"""Locustfile of an open loop: arrivals do not wait for answers, so a server that falls behind cannot hide its queue.

    python -m locust -f loadtests/service/open_loop.py --headless --arrivals spike --rate 20 --peak 100 --seconds 60

Latency counts from the moment a call was *due*, not from when it was sent. With workers, each sends every n-th call of
the one schedule; the run ends when every call has an outcome.
"""

from __future__ import annotations

import argparse
import time
from typing import Any, ClassVar

import gevent
from gevent.event import Event
from locust import LoadTestShape, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from loadtests.service import arrivals
from loadtests.service.recording import traffic
from loadtests.service.traffic import Arrival
from loadtests.service.translation_user import TranslationUser

_GRACE = 15.0  # seconds after the last deadline at which missing outcomes are given up
_SHARE = "share of the schedule"  # message from the master to each worker


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser) -> None:
    """Add the options of arrivals."""
    shapes = ("constant", "poisson", "step", "spike", "diurnal")
    parser.add_argument("--arrivals", choices=shapes, default="poisson", help="when calls arrive")
    parser.add_argument("--rate", type=_positive, default=10.0, metavar="N", help="calls a second; diurnal: at night")
    parser.add_argument("--peak", type=_positive, default=50.0, metavar="N", help="calls a second of spike, or at noon")
    parser.add_argument("--rates", type=_rates, default="10,20,30", metavar="N,N", help="calls a second of each step")
    parser.add_argument("--seconds", type=_positive, default=30.0, metavar="N", help="how long calls arrive")
    parser.add_argument("--spike-start", type=float, default=10.0, metavar="N", help="seconds from the beginning")
    parser.add_argument("--spike-end", type=float, default=15.0, metavar="N", help="seconds from the beginning")


def schedule(options: argparse.Namespace) -> list[Arrival]:
    """Return every call of the run, of all workers; the same in each process."""
    return traffic(options).arrivals(shape(options), options.seed)


def shape(options: argparse.Namespace) -> arrivals.Shape:
    """Return the shape that the command line describes."""
    o = options
    match o.arrivals:
        case "step":
            return arrivals.step(o.rates, o.seconds)
        case "spike":
            return arrivals.spike(o.rate, o.peak, o.seconds, start=o.spike_start, end=o.spike_end)
        case "diurnal":
            return arrivals.diurnal(o.rate, o.peak, o.seconds)
    return arrivals.constant(o.rate, o.seconds) if o.arrivals == "constant" else arrivals.poisson(o.rate, o.seconds)


class OpenLoopUser(TranslationUser):
    """All callers of one process: sends its share of the schedule."""

    share: ClassVar[tuple[int, int]] = (0, 1)  # this process and the number of processes

    @task
    def send_share(self) -> None:
        """Send each call when it is due."""
        index, count = self.share
        mine = schedule(self.environment.parsed_options)[index::count]
        start = time.perf_counter()
        for arrival in mine:
            gevent.sleep(max(start + arrival.due - time.perf_counter(), 0.0))
            self.send(arrival.ask, start=start, due=arrival.due)
        Event().wait()  # answers are still to come; the shape below ends the run


class EveryCallHasAnOutcome(LoadTestShape):
    """One user in each process, until no call of the schedule is missing."""

    scheduled: int | None = None

    def reset_time(self) -> None:
        """Begin a new run."""
        super().reset_time()
        self.scheduled = None

    def tick(self) -> tuple[int, float] | None:
        """Return the number of users and their spawn rate; None ends the run."""
        assert self.runner is not None
        options: Any = self.runner.environment.parsed_options
        if self.scheduled is None:
            self.scheduled = len(schedule(options))
        over = self.get_run_time() > options.seconds + options.deadline + _GRACE
        if over or self.runner.stats.total.num_requests >= self.scheduled:
            return None
        processes = self.runner.worker_count if isinstance(self.runner, MasterRunner) else 1
        return processes, float(processes)


@events.init.add_listener
def _divide(environment: Environment, **_: Any) -> None:
    runner = environment.runner
    if isinstance(runner, WorkerRunner):

        def take(msg: Any, **_: Any) -> None:
            OpenLoopUser.share = msg.data["index"], msg.data["count"]

        runner.register_message(_SHARE, take)
    elif isinstance(runner, MasterRunner):

        def give(**_: Any) -> None:
            for index, client in enumerate(runner.clients.ready):
                runner.send_message(_SHARE, {"index": index, "count": len(runner.clients.ready)}, client.id)

        environment.events.test_start.add_listener(give)


def _positive(value: str) -> float:
    number = float(value)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{value!r} is not a number above 0")
    return number


def _rates(value: str) -> list[float]:
    return [_positive(part) for part in value.split(",")]
