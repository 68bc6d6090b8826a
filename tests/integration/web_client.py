"""Plain HTTP to the web port of a server in this process."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPMessage
from typing import Any

from tests.integration.toy_server import Toy


@dataclass(frozen=True)
class Reply:
    status: int
    headers: HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def ask(
    toy: Toy, method: str, path: str, body: object = None, headers: dict[str, str] | None = None, **more: str
) -> Reply:
    """One request; a body that is not bytes is sent as JSON."""
    sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    kind = {} if body is None or isinstance(body, bytes) else {"Content-Type": "application/json"}
    named = {name.replace("_", "-"): value for name, value in more.items()}
    assert toy.server.web is not None
    port = toy.server.web.port

    def exchange() -> Reply:
        connection = HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request(method, path, sent, kind | (headers or {}) | named)
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())
        finally:
            connection.close()

    return await asyncio.to_thread(exchange)
