"""Bytes, options, manifests and Unicode at random: no crash, no hang, and only statuses of the table.

``make fuzz`` makes it long (``FUZZ_EXAMPLES``); here each target sees a few hundred inputs.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from serving.api.server import SERVICE
from serving.bundle.manifest import Manifest
from serving.limits import parse_limits
from serving.pb import translation_service_pb2 as pb
from tests.integration.toy_server import NAN_TEXT, Toy, serving, toy_config, toy_manifest

# What fails is printed whole; a long one would fail for its length alone.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "300"))
CODES = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}
METHODS = [method.name for method in pb.DESCRIPTOR.services_by_name["TranslationService"].methods]
Answer = TypeVar("Answer")

# Whatever Unicode has, and what is known to hurt.
NASTY = st.sampled_from(
    [
        "\0",
        "a\0b",
        "e" + "\u0301" * 5000,
        "\u202e\u2066abc\u2069",
        "\ufeff\ufffe\uffff",
        "x" * 20_000,
        "A" * 300 + "!" * 300,
        "\U0010ffff" * 100,
        "👩‍👩‍👧‍👦" * 200,
        "{" * 500,
        "`" * 501,
        "http://" * 300,
        "\r\n\u2028\u2029\x85" * 200,
        "١٢٣" * 100,
        "ﷺ" * 300,
        "İ" * 500,
        "ß" * 500,
    ]
)
TEXTS = st.text(max_size=60) | NASTY | st.builds("".join, st.lists(NASTY | st.text(max_size=10), max_size=3))
NUMBERS = st.integers(-(2**31), 2**31 - 1) | st.integers(-2, 9)
FLOATS = st.floats(width=32) | st.floats(0, 2, width=32)


class Background:
    """A toy server in an event loop of its own, as Hypothesis is synchronous."""

    def __init__(self, **config: object) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._context = serving(toy_config(max_contents=8, **config))
        self.toy: Toy = self.run(self._context.__aenter__())

    def run(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def close(self) -> None:
        self.run(self._context.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Background]:
    server = Background()
    yield server
    server.close()


def fuzzed(test: Callable[..., None]) -> Callable[..., None]:
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    decorated: Callable[..., None] = settings(
        max_examples=EXAMPLES, deadline=None, suppress_health_check=checks, database=None
    )(test)
    return decorated


async def status(toy: Toy, method: str, raw: bytes) -> grpc.StatusCode:
    """How a call of these bytes ends; a hang is an error."""
    unary_stream: Any = toy.channel.unary_stream
    call = unary_stream(f"/{SERVICE}/{method}")(raw, timeout=30)
    with suppress(grpc.aio.AioRpcError):
        async for _ in call:
            pass
    code: grpc.StatusCode = await call.code()
    return code


@contextmanager
def alive(server: Background) -> Iterator[None]:
    """Whatever the block sent, the next caller is answered and nothing is left in the engine."""
    yield
    raw = pb.TranslateRequest(contents=["still here"]).SerializeToString()
    assert server.run(status(server.toy, "Translate", raw)) is grpc.StatusCode.OK


@fuzzed
@given(method=st.sampled_from(METHODS), raw=st.binary(max_size=200))
def test_any_bytes(server: Background, method: str, raw: bytes) -> None:
    assert server.run(status(server.toy, method, raw)) in CODES


@fuzzed
@given(data=st.data())
def test_any_request(server: Background, data: st.DataObject) -> None:
    options: dict[str, Any] = data.draw(
        st.fixed_dictionaries(
            {},
            optional={
                "beam_size": NUMBERS,
                "n_best": NUMBERS,
                "length_penalty": FLOATS,
                "min_length": NUMBERS,
                "max_length": NUMBERS,
                "no_repeat_ngram_size": NUMBERS,
                "repetition_penalty": FLOATS,
                "target_prefixes": st.lists(_valid(TEXTS), max_size=2),
                "sampling": st.builds(pb.SamplingOptions, temperature=FLOATS, top_k=NUMBERS, top_p=FLOATS),
            },
        )
    )
    request = pb.TranslateRequest(
        contents=data.draw(st.lists(_valid(TEXTS), max_size=3)),
        model=data.draw(st.sampled_from(["", "toy", "x"])),
        version=data.draw(st.sampled_from([0, 1, -1, 2**62])),
        source_language=data.draw(st.sampled_from(["", "en", "EN", "\0"])),
        options=pb.DecodingOptions(**options),
        long_input_policy=_enum(data, 5),
        segmentation=_enum(data, 4),
        priority=data.draw(st.integers(-3, 3)),
        include_tokens=data.draw(st.booleans()),
        include_alignments=data.draw(st.booleans()),
    )
    assert server.run(status(server.toy, "Translate", request.SerializeToString())) in CODES


@fuzzed
@given(data=st.data())
def test_a_request_with_some_bytes_changed(server: Background, data: st.DataObject) -> None:
    raw = bytearray(pb.TranslateRequest(contents=["a text", "b"], model="toy", version=1).SerializeToString())
    changes = st.integers(0, 255).filter(lambda byte: byte != ord(NAN_TEXT))  # which the toy model fails at on purpose
    for _ in range(data.draw(st.integers(1, 5))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(changes)
    assert server.run(status(server.toy, "Translate", bytes(raw))) in CODES


def test_the_server_lives_on(server: Background) -> None:
    with alive(server):
        for raw in (b"", b"\xff" * 1000, pb.TranslateRequest(contents=["x" * 3_000_000]).SerializeToString()):
            assert server.run(status(server.toy, "Translate", raw)) in CODES
        marks = pb.TranslateRequest(contents=["e" + "\u0301" * 100_000]).SerializeToString()
        assert server.run(status(server.toy, "Translate", marks)) in CODES


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)


@fuzzed
@given(data=st.data())
def test_any_manifest_is_valid_or_named_invalid(data: st.DataObject) -> None:
    content = toy_manifest().model_dump(mode="json")
    for _ in range(data.draw(st.integers(1, 3))):
        place: Any = content
        key = data.draw(st.sampled_from(sorted(place)))
        while isinstance(place[key], dict) and place[key] and data.draw(st.booleans()):
            place = place[key]
            key = data.draw(st.sampled_from(sorted(place)))
        place[key] = data.draw(JSON)
    try:
        Manifest.model_validate_json(json.dumps(content))
    except ValidationError as error:
        assert error.errors()


@fuzzed
@given(text=st.text(max_size=40) | st.from_regex(r"([a-z]+=[0-9.]* ?)+"))
def test_any_limits_are_valid_or_named_invalid(text: str) -> None:
    try:
        parse_limits(text)
    except ValueError as error:
        assert "limits are words like" in str(error)


def _valid(texts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Texts that protobuf takes, which refuses surrogates itself, without what the toy model is made to fail at."""
    return texts.map(lambda text: text.encode("utf-8", errors="ignore").decode().replace(NAN_TEXT, ""))


def _enum(data: st.DataObject, most: int) -> Any:
    return data.draw(st.integers(0, most))
