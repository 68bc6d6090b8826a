"""``make load-overhead``: what the server adds to the engine's own time, and what TLS, tokens and traces cost.

The overhead of a call is its round trip over loopback, as seen by a caller who makes one call at a time on a server
that has nothing else to do, less the time from its acceptance by the engine to its last decoder step (``queue_time``
and ``compute_time`` of the answer). What is left is both ends of gRPC, admission, tokenizing, detokenizing, and every
hand-over from thread to thread.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import grpc
import trustme

from loadtests.pictures import plot_overhead
from loadtests.service.calls import milliseconds
from loadtests.service.commands import finish, parser, traffic_options
from loadtests.service.cores import Cores
from loadtests.service.histogram import between, quantile, read_buckets
from loadtests.service.locust_run import run_locust
from loadtests.service.measurement import capacity
from loadtests.service.sentences import sentences
from loadtests.service.services import Service, dragoman
from loadtests.service.span_collector import collecting
from loadtests.service.traffic import Traffic
from loadtests.service.turns import METHOD, Contender, cost, take_turns, throughput_lost
from serving.client.channel import channel_options
from serving.pb import translation_service_pb2 as pb
from serving.tokens import Role, new_token

_BEAMS = (1, 4)  # as in the other load tests
_WARM_UP = 50  # lone calls that do not count
_SHARE = 0.8  # of the capacity, where the lag of the event loop is measured
_TRACED = 0.01  # share of calls
_LAG = "dragoman_event_loop_lag_seconds"
_SECURED, _SAMPLED = "TLS and tokens", "1 % traced"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 1 if a threshold is broken."""
    asked = _options().parse_args(arguments)
    traffic = traffic_options(asked)
    data = os.environ.get("DRAGOMAN_DATA")
    callers, random = Traffic(sentences(asked.sentences, Path(data) if data else None), _BEAMS), Random(1)
    with collecting() as collector:
        with _contenders(asked, collector.port) as contenders:
            plain = contenders["plain"].service
            lone = [callers.draw(random).request for _ in range(_WARM_UP + asked.idle_calls)]
            idle = overheads(plain.address, lone)[_WARM_UP:]
            lag = _loop_lag(plain, asked, traffic)
            requests = [callers.draw(random).request for _ in range(asked.round_calls)]
            cores = Cores(*(one.service.process for one in contenders.values()))
            turns = asyncio.run(take_turns(contenders, requests, asked.rounds))
            used = cores.used()
        spans = len(collector.spans)  # the server's end sends what was left
    picture = asked.out / "overhead.png"
    costs = {name: cost(turns["plain"], turns[name]) for name in (_SECURED, _SAMPLED)}
    plot_overhead(picture, idle, {name: throughput_lost(turns["plain"], turns[name]) for name in costs})
    figures = {
        "idle_ms": milliseconds(idle),
        **lag,
        "secured": costs[_SECURED],
        "traced": costs[_SAMPLED] | {"spans": spans},
        "turns": {name: [asdict(turn) for turn in taken] for name, taken in turns.items()},
        "turns_cores": used,
    }
    return finish(asked, "Overhead", figures, picture)


def _options() -> argparse.ArgumentParser:
    options = parser("loadtests.service.overhead", "What the server adds to the engine, and what TLS and traces cost.")
    options.add_argument("--idle-calls", type=int, default=1000, help="calls on a server that has nothing else to do")
    options.add_argument("--capacity-seconds", type=float, default=15.0, help="duration of the closed loop")
    options.add_argument("--lag-seconds", type=float, default=45.0, help="duration at 80 %% of the capacity")
    options.add_argument("--rounds", type=int, default=12, help="turns of each server, with TLS, with traces, without")
    options.add_argument("--round-calls", type=int, default=400, help="calls of a turn")
    return options


@contextmanager
def _contenders(asked: argparse.Namespace, collector: int) -> Iterator[dict[str, Contender]]:
    """Run a server without anything, one with TLS and tokens, and one that sends traces to a port of this machine."""
    authority, (token, line) = trustme.CA(), new_token("load", Role.TRANSLATE)
    issued = authority.issue_cert("127.0.0.1")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cert, key, tokens = folder / "cert.pem", folder / "key.pem", folder / "tokens"
        cert.write_bytes(issued.cert_chain_pems[0].bytes())
        key.write_bytes(issued.private_key_pem.bytes())
        tokens.write_text(f"{line}\n", encoding="utf-8")
        secure = [f"--tls-cert={cert}", f"--tls-key={key}", f"--tokens={tokens}"]
        traced = [f"--otlp-endpoint=http://127.0.0.1:{collector}", f"--trace-ratio={_TRACED}"]

        def run(name: str, options: Sequence[str] = ()) -> Service:
            return stack.enter_context(dragoman(asked.models, asked.out / f"{name}.log", options))

        yield {
            "plain": Contender(run("server")),
            _SECURED: Contender(run("server-secured", secure), authority.cert_pem.bytes(), token),
            _SAMPLED: Contender(run("server-traced", traced)),
        }


def overheads(address: str, requests: Sequence[bytes]) -> list[float]:
    """Send requests one after the other and return the overhead of each in seconds.

    Raises:
        grpc.RpcError: A call failed.
    """
    found = []
    with grpc.insecure_channel(address, channel_options(address)) as channel:
        translate: Any = channel.unary_unary(METHOD, None, None)  # bytes to bytes: what callers make of them is theirs
        for request in requests:
            started = time.perf_counter()
            answer = translate(request)
            found.append(overhead(time.perf_counter() - started, pb.TranslateResponse.FromString(answer)))
    return found


def overhead(round_trip: float, answer: pb.TranslateResponse) -> float:
    """Return what is left of a round trip without the engine's time, in seconds."""
    return round_trip - (answer.queue_time.ToNanoseconds() + answer.compute_time.ToNanoseconds()) / 1e9


def _loop_lag(service: Service, asked: argparse.Namespace, traffic: Mapping[str, object]) -> dict[str, Any]:
    """Measure the lag of the event loop at a share of the capacity, open loop."""
    limit = capacity(service, asked.out / "capacity", seconds=asked.capacity_seconds, options=traffic)
    arrivals = {"arrivals": "poisson", "rate": _SHARE * limit, "seconds": asked.lag_seconds}
    before = read_buckets(service.http, _LAG)
    run = run_locust("open_loop", service, asked.out / "lag", {**traffic, **arrivals})
    seen = between(before, read_buckets(service.http, _LAG))
    percentiles = {f"p{100 * share:g}": 1e3 * quantile(seen, share) for share in (0.5, 0.9, 0.99)}
    return {"capacity": limit, "lag_ms": percentiles, "lag_observations": seen[max(seen)], "run": run.figures}


if __name__ == "__main__":
    sys.exit(main())
