"""Open-loop load: arrivals do not wait for answers, so a server that falls behind cannot hide its queue.

    python -m loadtests.open_loop --rate 20 --seconds 60 --sentences english.txt --beams 1,4

Calls of one sentence each arrive as a Poisson process. Latency counts from the moment a call was *due*, so that a late
sender does not flatter the server. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from serving.client import AsyncTranslationClient, CallError, Options

OK = "OK"


@dataclass(frozen=True)
class Arrival:
    """One call: when it is due, in seconds from the start, and what it asks for."""

    due: float
    text: str
    beam: int


@dataclass
class Report:
    """What became of the calls.

    Attributes:
        outcomes: Calls by status; every call has exactly one.
        latencies: Seconds from due time to answer, of calls that succeeded.
        target_tokens: Tokens of their translations.
        seconds: From the start until the last answer.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    target_tokens: int = 0
    seconds: float = 0.0

    def summary(self) -> dict[str, object]:
        """Figures for people; latencies in milliseconds, None where nothing succeeded."""
        ranked = sorted(self.latencies)
        return {
            "calls": self.outcomes.total(),
            "outcomes": dict(self.outcomes),
            "seconds": round(self.seconds, 3),
            "sentences_per_second": round(self.outcomes[OK] / self.seconds, 3) if self.seconds else 0.0,
            "target_tokens_per_second": round(self.target_tokens / self.seconds, 1) if self.seconds else 0.0,
            "latency_ms": {
                f"p{percent}": round(percentile(ranked, percent) * 1e3, 1) if ranked else None
                for percent in (50, 90, 95, 99, 100)
            },
        }


def percentile(ranked: Sequence[float], percent: float) -> float:
    """The smallest of some sorted values that at least ``percent`` % of them do not exceed."""
    return ranked[max(math.ceil(len(ranked) * percent / 100), 1) - 1]


def arrivals(
    texts: Sequence[str], beams: Sequence[int], *, rate: float, seconds: float, seed: int
) -> Iterator[Arrival]:
    """A Poisson process of ``rate`` calls a second; the same seed gives the same calls."""
    generator = random.Random(seed)
    due = generator.expovariate(rate)
    while due < seconds:
        yield Arrival(due, generator.choice(texts), generator.choice(beams))
        due += generator.expovariate(rate)


async def run(client: AsyncTranslationClient, calls: Sequence[Arrival]) -> Report:
    """Makes every call when it is due and waits for all of them."""
    report = Report()
    started = time.perf_counter()

    async def call(arrival: Arrival) -> None:
        try:
            result = await client.translate([arrival.text], Options(beam_size=arrival.beam))
        except CallError as error:
            report.outcomes[error.code.name] += 1
            return
        report.outcomes[OK] += 1
        report.latencies.append(time.perf_counter() - started - arrival.due)
        report.target_tokens += result.target_tokens

    async with asyncio.TaskGroup() as group:
        for arrival in calls:
            await asyncio.sleep(max(0.0, started + arrival.due - time.perf_counter()))
            group.create_task(call(arrival))
    report.seconds = time.perf_counter() - started
    return report


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; exit status 1 if a call failed."""
    arguments = _parser().parse_args(argv)
    texts = [line for line in arguments.sentences.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not texts:
        print(f"open_loop: {arguments.sentences} has no sentences; give a file with one a line", file=sys.stderr)
        return 2
    calls = list(arrivals(texts, arguments.beams, rate=arguments.rate, seconds=arguments.seconds, seed=arguments.seed))

    async def load() -> Report:
        async with AsyncTranslationClient(arguments.server, deadline=arguments.deadline) as client:
            return await run(client, calls)

    report = asyncio.run(load())
    print(json.dumps(report.summary(), indent=1))
    return 0 if report.outcomes[OK] == report.outcomes.total() else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="open_loop", description="Puts open-loop load on a Dragoman server.")
    parser.add_argument("--server", default="127.0.0.1:50051", metavar="HOST:PORT")
    parser.add_argument("--rate", type=_positive, default=10.0, metavar="N", help="calls a second")
    parser.add_argument("--seconds", type=_positive, default=30.0, metavar="N", help="how long calls arrive")
    parser.add_argument("--sentences", type=Path, required=True, metavar="FILE", help="one a line, drawn at random")
    parser.add_argument("--beams", type=_beams, default=(1, 4), metavar="N,N", help="beam sizes, drawn at random")
    parser.add_argument("--deadline", type=_positive, default=30.0, metavar="SECONDS", help="time for each call")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    return parser


def _positive(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{value!r} is not a number above 0")
    return number


def _beams(value: str) -> tuple[int, ...]:
    parts = value.split(",")
    if not all(part.isascii() and part.isdigit() and int(part) for part in parts):
        raise argparse.ArgumentTypeError(f"{value!r} is not a list of beam sizes such as 1,4")
    return tuple(map(int, parts))


if __name__ == "__main__":
    sys.exit(main())
