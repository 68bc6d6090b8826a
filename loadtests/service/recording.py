"""Options of both locustfiles, and the record of every call of all workers, written when Locust quits."""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import gevent
from locust import events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import WorkerRunner

from loadtests.service.calls import Call, summary, write_calls
from loadtests.service.sentences import sentences
from loadtests.service.thresholds import load_thresholds
from loadtests.service.traffic import Traffic


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser) -> None:
    """Add the options of both locustfiles; Locust also takes them from a file (``--config``)."""
    parser.add_argument("--sentences", metavar="FILE", help="one a line, plain or .gz, drawn at random")
    parser.add_argument("--beams", type=_whole_numbers, default="1,4", metavar="N,N", help="beam sizes to draw from")
    parser.add_argument("--deadline", type=float, default=30.0, metavar="SECONDS", help="of a call, from its due time")
    parser.add_argument("--abandoned", type=float, default=0.0, metavar="SHARE", help="share of calls to cancel")
    parser.add_argument("--patience", type=float, default=1.0, metavar="SECONDS", help="cancel them within this time")
    parser.add_argument("--retry", action="store_true", help="call again when the server asks for it")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="the same seed draws the same load")
    parser.add_argument("--calls", metavar="FILE", help="CSV file to write, a row for each call")
    parser.add_argument("--summary", metavar="FILE", help="JSON file to write, with exact percentiles")
    parser.add_argument("--thresholds", metavar="FILE", help="YAML file of limits; exit status 1 if one is broken")


def traffic(options: argparse.Namespace) -> Traffic:
    """Return the callers that the command line describes."""
    data = os.environ.get("DRAGOMAN_DATA")
    texts = sentences(Path(options.sentences) if options.sentences else None, Path(data) if data else None)
    return Traffic(texts, options.beams, abandoned=options.abandoned, patience=options.patience)


class Recorder:
    """Listener of Locust's events: keeps the calls of a process, passes a worker's to the master, writes results."""

    def __init__(self, environment: Environment) -> None:
        """Listen to the events of an environment."""
        self._environment = environment
        self._calls: list[Call] = []
        self._cpu: dict[str, float] = {}  # processor seconds of each process that sends calls
        self._cpu_before = time.process_time()
        options = environment.parsed_options
        self._thresholds = load_thresholds(Path(options.thresholds)) if options and options.thresholds else None
        listeners = environment.events
        listeners.test_start.add_listener(self._begin)
        listeners.request.add_listener(self._record)
        if isinstance(environment.runner, WorkerRunner):
            listeners.report_to_master.add_listener(self._hand_over)
        else:
            listeners.worker_report.add_listener(self._take_over)
            listeners.quitting.add_listener(self._finish)

    def _begin(self, **_: Any) -> None:
        self._calls.clear()
        self._cpu_before = time.process_time()

    def _record(self, context: dict[str, Any], **_: Any) -> None:
        self._calls.append(context["call"])

    def _hand_over(self, data: dict[str, Any], **_: Any) -> None:
        data["calls"], self._calls = self._calls, []
        data["processor_seconds"] = time.process_time() - self._cpu_before

    def _take_over(self, client_id: str, data: dict[str, Any], **_: Any) -> None:
        self._calls += [Call(*row) for row in data["calls"]]
        self._cpu[client_id] = data["processor_seconds"]

    def _finish(self, **_: Any) -> None:
        options = self._environment.parsed_options
        assert options is not None
        scheduled = getattr(self._environment.shape_class, "scheduled", None)
        figures = summary(self._calls, scheduled=scheduled)
        # A master sends no calls, so what it uses itself does not count; a single process is its own worker.
        processor_seconds = sum(self._cpu.values()) or time.process_time() - self._cpu_before
        figures["generator"] = {
            "processes": len(self._cpu) or 1,
            "processor_seconds": round(processor_seconds, 3),
            "cores": round(processor_seconds / figures["seconds"], 3) if figures["seconds"] else 0.0,
        }
        broken = self._thresholds.violations(figures) if self._thresholds else []
        figures["broken_thresholds"] = broken
        if options.calls:
            write_calls(Path(options.calls), self._calls)
        if options.summary:
            Path(options.summary).write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
        for sentence in broken:
            print(f"threshold broken: {sentence}")
        if broken:
            self._environment.process_exit_code = 1


@events.init.add_listener
def _listen(environment: Environment, **_: Any) -> None:
    gevent.get_hub().loop.update_now()  # imports take seconds, by which the timer of --run-time would be early
    Recorder(environment)


def _whole_numbers(value: str) -> list[int]:
    parts = value.split(",")
    if not all(part.isascii() and part.isdigit() and int(part) for part in parts):
        raise argparse.ArgumentTypeError(f"{value!r} is not a list of whole numbers above 0, such as 1,4")
    return [int(part) for part in parts]
