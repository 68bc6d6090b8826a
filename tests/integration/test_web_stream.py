"""Server-sent events: what the page and other readers of streams get."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.integration.toy_server import NAN_TEXT, Toy, eventually, serving, toy_config
from tests.integration.web_client import Reply, ask

WANTED = {"Accept": "text/event-stream"}


@pytest.fixture
async def toy() -> AsyncIterator[Toy]:
    async with serving(toy_config(web="127.0.0.1:0")) as toy:
        yield toy


def events(reply: Reply) -> list[tuple[str, Any]]:
    found = []
    for block in reply.body.decode().removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


async def test_deltas_are_the_answer(toy: Toy) -> None:
    asked = {"contents": ["abc def.", "ghi"], "options": {"beam_size": 1}}
    reply = await ask(toy, "POST", "/v1/translate", asked, WANTED)
    assert (reply.status, reply.headers.get_content_type()) == (200, "text/event-stream")
    *deltas, (name, answer) = events(reply)
    assert name == "answer"
    assert {kind for kind, _ in deltas} == {"delta"}
    grown = ["", ""]
    for _, delta in deltas:
        grown[delta["index"]] += delta["text"]
    assert grown == ["abc def.", "ghi"]
    unary = (await ask(toy, "POST", "/v1/translate", asked)).json
    assert answer["translations"] == unary["translations"]


async def test_an_error_before_the_first_event_has_a_status(toy: Toy) -> None:
    reply = await ask(toy, "POST", "/v1/translate", {"contents": []}, WANTED)
    assert (reply.status, reply.json["error"]["status"]) == (400, "INVALID_ARGUMENT")


async def test_an_error_later_is_the_last_event(toy: Toy) -> None:
    asked = {"contents": [f"abcdefgh{NAN_TEXT}"], "options": {"beam_size": 1}}
    reply = await ask(toy, "POST", "/v1/translate", asked, WANTED)
    if reply.status == 200:
        name, data = events(reply)[-1]
        assert (name, data["error"]["status"]) == ("error", "INTERNAL")
    else:
        assert (reply.status, reply.json["error"]["status"]) == (500, "INTERNAL")
    labels = {"model": "toy/1", "method": "POST /v1/translate", "code": "INTERNAL"}
    await eventually(lambda: toy.sample("dragoman_requests_total", **labels) == 1)


async def test_a_reader_that_goes_away_frees_its_slots(toy: Toy) -> None:
    assert toy.server.web is not None
    with toy.held() as steps:
        reader, writer = await asyncio.open_connection("127.0.0.1", toy.server.web.port)
        body = json.dumps({"contents": ["abcdefgh"], "options": {"beam_size": 1}}).encode()
        head = "POST /v1/translate HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n"
        head += "Content-Type: application/json\r\n"
        writer.write(head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        steps(3)
        await reader.readuntil(b"event: delta")
        writer.close()
        await eventually(lambda: toy.server.admission.in_flight == 0)
        steps(2)
        await eventually(lambda: toy.server.models.models()[0].snapshot().running_slots == 0)
    labels = {"model": "toy/1", "method": "POST /v1/translate", "code": "CANCELLED"}
    await eventually(lambda: toy.sample("dragoman_requests_total", **labels) == 1)
