"""Every test of several replicas: writes figures and a picture, and fails where a limit is not kept.

    python -m loadtests.replicas --output docs

Two replicas, each of one thread on one core, in network namespaces of their own where the machine allows it, behind
HAProxy and behind the client's own balancing. The load generator has no core of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from loadtests.pictures import plot_replicas
from loadtests.replicas import scenarios
from loadtests.replicas.network import Network, enter_namespaces, network
from loadtests.replicas.processes import GRPC, ROOT, Balancer, Replica
from loadtests.report import finite, write_json
from loadtests.service.cores import resident
from loadtests.service.sentences import sentences
from serving.client import AsyncTranslationClient

RATE = 120.0  # calls a second, of one sentence each
CALLS = 10_000  # in each rolling restart
MIN_RATIO = 1.9  # of two replicas on a core each to one
_ROUNDS = 3
_REQUEST_SENTENCES = 32  # of one call when throughput is measured, so that the load generator has little to do


async def measure(hosts: Network, models: Path, texts: Sequence[str], logs: Path, *, calls: int) -> dict[str, Any]:
    """Run all scenarios, each behind HAProxy and with a balancing client."""
    replicas = [Replica(hosts, f"replica-{core + 1}", models=models, core=core, logs=logs) for core in range(2)]
    short = sorted(texts, key=len)[: len(texts) // 2]
    batch = [texts[number % len(texts)] for number in range(_REQUEST_SENTENCES)]
    figures: dict[str, Any] = {}
    with ExitStack() as stack:
        stack.callback(close_all, replicas)  # the list changes
        for replica in replicas:
            replica.start()
        proxy = Balancer(hosts, "haproxy", replicas, logs=logs)
        stack.callback(proxy.kill)
        proxy.start()
        through_proxy = partial(AsyncTranslationClient, f"{proxy.address}:{GRPC}")
        balanced = partial(AsyncTranslationClient, hosts.target([r.host for r in replicas], GRPC), balance=True)
        alone = [partial(AsyncTranslationClient, f"{replica.address}:{GRPC}") for replica in replicas]
        figures["second_core"] = await scenarios.second_core(alone, balanced, replicas, batch, rounds=_ROUNDS)
        for name, connect in (("haproxy", through_proxy), ("client", balanced)):
            figures[f"sudden_death_{name}"] = await scenarios.sudden_death(connect, replicas, short, rate=RATE)
        rolling = partial(scenarios.rolling_restart, rate=RATE, calls=calls, places=len(replicas))
        figures["rolling_restart_haproxy"] = await rolling(through_proxy, short, restart=scenarios.in_place(replicas))
        pods = scenarios.at_a_new_address(replicas, hosts) if hosts.isolated else scenarios.in_place(replicas)
        figures["rolling_restart_client"] = await rolling(balanced, short, restart=pods)
        figures["resident_mebibytes"] = [resident(replica.usage()) >> 20 for replica in replicas]
    return figures


def close_all(replicas: Sequence[Replica]) -> None:
    """Kill every replica."""
    for replica in replicas:
        replica.kill()


def failures(figures: dict[str, Any]) -> list[str]:
    """Return a sentence for each limit that is not kept."""
    found = [
        f"{name}: {part['failed']} of {part['calls']} calls failed"
        for name, part in figures.items()
        if isinstance(part, dict) and part.get("failed")
    ]
    core = figures["second_core"]
    if (ratio := core["median_ratio"]) < MIN_RATIO:
        found.append(
            f"second_core: two replicas are {ratio:.2f} times as fast as one, at least {MIN_RATIO} is required; others "
            f"used {core['cores_used_by_others']} cores meanwhile: repeat the test on a quiet machine"
        )
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 1 if a limit is not kept."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.replicas", description=__doc__)
    parser.add_argument("--models", type=Path, default=ROOT / "models", metavar="DIR")
    parser.add_argument("--output", type=Path, default=ROOT / "docs", metavar="DIR", help="for scaling.json and .png")
    parser.add_argument("--calls", type=int, default=CALLS, metavar="N", help="calls of each rolling restart, at least")
    arguments = parser.parse_args(argv)
    enter_namespaces("loadtests.replicas", sys.argv[1:] if argv is None else argv)
    hosts = network()
    with tempfile.TemporaryDirectory() as logs:
        texts = sentences(None, None)
        figures = asyncio.run(measure(hosts, arguments.models, texts, Path(logs), calls=arguments.calls))
    figures = finite(figures | {"namespaces": hosts.isolated, "calls_per_second": RATE})
    write_json(arguments.output / "scaling.json", figures)
    plot_replicas(arguments.output / "scaling.png", figures)
    print(json.dumps(figures, indent=1))
    for problem in (problems := failures(figures)):
        print(f"scale: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
