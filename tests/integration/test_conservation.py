"""Every call has exactly one end, whatever happens to it. ``CALLS=10000`` makes it as long as a release check wants."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Any

import grpc
import pytest

from serving.api.server import SERVICE
from serving.pb import translation_service_pb2 as pb
from tests.integration.toy_server import NAN_TEXT, Toy, eventually, request, serving, toy_config

CALLS = int(os.environ.get("CALLS", "2000"))
IN_FLIGHT = 128
GAUGE_SECONDS = 1.0  # after the last call, by when nothing may be left
CODES = {"OK", "CANCELLED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "INVALID_ARGUMENT", "NOT_FOUND", "INTERNAL"}
HTTP_STATUSES = {200, 400, 404, 429, 500, 504}
GAUGES = ("queue_depth", "queue_tokens", "queue_oldest_age_seconds", "running_slots", "running_rows", "running_tokens")
GLOSSARY = [{"source": "y", "target": "zz"}, {"source": "xx", "target": "q"}]
GONE = "gone"  # the caller hung up


def good(chance: random.Random) -> pb.TranslateRequest:
    """A request that can be answered, with a glossary now and then."""
    asked = request(
        *("x" * chance.randint(0, 40) + " y" for _ in range(chance.randint(1, 4))),
        beam_size=chance.choice([1, 2, 4]),
        n_best=1,
    )
    asked.priority = chance.randint(-2, 2)
    if chance.random() < 0.2:
        asked.glossary.extend(pb.GlossaryEntry(**entry) for entry in GLOSSARY)
    return asked


def bad(chance: random.Random) -> pb.TranslateRequest | bytes:
    """A request that cannot."""
    kinds: list[pb.TranslateRequest | bytes] = [
        request("x", beam_size=99),
        request(),
        pb.TranslateRequest(contents=["x"], model="nope"),
        b"\xff\xff\xff",
        request(f"a{NAN_TEXT}c"),
        pb.TranslateRequest(contents=["x"], priority=9),
        pb.TranslateRequest(contents=["x"], glossary=[pb.GlossaryEntry(source="")]),
    ]
    return chance.choice(kinds)


async def by_grpc(toy: Toy, chance: random.Random, *, stream: bool) -> str:
    """Make one call, with a short deadline or a caller who goes away now and then; return its status."""
    what = bad(chance) if chance.random() < 0.2 else good(chance)
    if isinstance(what, bytes):
        raw = what
    else:
        raw = (pb.TranslateStreamRequest(translate=what) if stream else what).SerializeToString()
    timeout = chance.choice([None, 30, 30, chance.uniform(0.001, 0.004)])
    make: Any = toy.channel.unary_stream if stream else toy.channel.unary_unary
    call = make(f"/{SERVICE}/{'TranslateStream' if stream else 'Translate'}")(raw, timeout=timeout)
    if chance.random() < 0.15:
        asyncio.get_running_loop().call_later(chance.uniform(0, 0.02), call.cancel)
    with suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
        if stream:
            async for _ in call:
                pass
        else:
            await call
    code: grpc.StatusCode = await call.code()
    return code.name


def http_request(chance: random.Random, *, events: bool) -> bytes:
    """One request to the web port, good or bad."""
    asked: dict[str, Any] = {"contents": ["x" * chance.randint(0, 40) + " y"], "options": {"beam_size": 2}}
    asked |= {"glossary": GLOSSARY} if chance.random() < 0.2 else {}
    if chance.random() < 0.2:
        asked = chance.choice([{}, {"contents": ["a"], "model": "nope"}, {"nope": 1}, {"contents": [f"a{NAN_TEXT}"]}])
    body = json.dumps(asked).encode() if chance.random() < 0.95 else b"{"
    headers = ["POST /v1/translate HTTP/1.1", "Host: localhost", "Content-Type: application/json", "Connection: close"]
    headers += [f"Content-Length: {len(body)}", *(["Accept: text/event-stream"] if events else [])]
    headers += [f"X-Server-Timeout: {chance.uniform(0.001, 0.004)}"] if chance.random() < 0.2 else []
    return "\r\n".join(headers).encode() + b"\r\n\r\n" + body


async def answer(port: int, raw: bytes) -> AsyncGenerator[bytes]:
    """The bytes that come back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(raw)
        while data := await reader.read(1 << 16):
            yield data
    finally:
        writer.close()


async def by_http(toy: Toy, chance: random.Random, *, events: bool) -> str:
    """Make one request, whose caller hangs up now and then; return its status, and the end of a stream."""
    assert toy.server.web is not None
    raw, received = http_request(chance, events=events), b""
    patience = chance.uniform(0, 0.02) if chance.random() < 0.15 else 60.0
    try:
        async with asyncio.timeout(patience), aclosing(answer(toy.server.web.port, raw)) as parts:
            async for data in parts:
                received += data
    except TimeoutError:
        assert patience < 60, "a request had no end"
        return GONE
    head, _, body = received.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    assert status in HTTP_STATUSES
    if not (events and status == 200):
        return f"HTTP {status}"
    ends = body.count(b"event: answer\n") + body.count(b"event: error\n")
    assert ends == 1, body
    return "answer" if b"event: answer\n" in body else "error"


async def one(toy: Toy, number: int) -> tuple[str, str]:
    """Make a call of one of the four kinds; return the kind and how it ended."""
    chance = random.Random(number)
    kind = ("Translate", "TranslateStream", "JSON", "events")[number % 4]
    if kind in {"JSON", "events"}:
        return kind, await by_http(toy, chance, events=kind == "events")
    return kind, await by_grpc(toy, chance, stream=kind == "TranslateStream")


@pytest.mark.timeout(900)
async def test_every_call_ends_once_and_nothing_is_left() -> None:
    limits = {"max_rows": 16, "max_queue_sentences": 64, "max_queue_tokens": 1500, "web": "127.0.0.1:0"}
    async with serving(toy_config(**limits)) as toy:
        remaining, told = iter(range(CALLS)), Counter[tuple[str, str]]()

        async def caller() -> None:
            for number in remaining:
                told[await one(toy, number)] += 1

        await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))
        ended = time.monotonic()
        assert told.total() == CALLS
        for kind in ("Translate", "TranslateStream"):
            codes = {code for what, code in told if what == kind}
            assert CODES - {"RESOURCE_EXHAUSTED"} <= codes <= CODES, told
        assert min(
            told[kind] for kind in [("JSON", "HTTP 200"), ("JSON", GONE), ("events", "answer"), ("events", GONE)]
        )

        def total(name: str, **labels: str) -> float:
            families = toy.server.metrics.registry.collect()
            samples = (sample for family in families for sample in family.samples if sample.name == name)
            return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

        await eventually(lambda: toy.server.admission.in_flight == 0)
        await eventually(lambda: all(toy.sample(f"dragoman_{name}", model="toy/1") == 0 for name in GAUGES))
        assert time.monotonic() - ended <= GAUGE_SECONDS
        assert toy.sample("dragoman_calls_in_flight") == 0
        for kind, method in {"unary": "Translate", "server_stream": "TranslateStream"}.items():
            labels = {"grpc_type": kind, "grpc_service": SERVICE, "grpc_method": method}
            begun = toy.sample("grpc_server_started_total", **labels)
            assert begun
            assert total("grpc_server_handled_total", **labels) == begun
            assert total("dragoman_requests_total", method=method) == begun
            # A call that is given up before it leaves the client reaches no server.
            assert begun <= sum(count for (what, _), count in told.items() if what == method)
            assert total("grpc_server_handled_total", **labels, grpc_code="OK") >= told[method, "OK"]
        sent = sum(count for (what, _), count in told.items() if what in {"JSON", "events"})
        counted = total("dragoman_requests_total", method="POST /v1/translate")
        given_up = told["JSON", GONE] + told["events", GONE]
        assert sent - given_up <= counted <= sent
        accepted = total("dragoman_sentences_total", model="toy/1")
        begun = total("dragoman_queue_seconds_count", model="toy/1")
        assert accepted == begun + total("dragoman_dropped_sentences_total", model="toy/1")
