"""The web port: uvicorn in the event loop of gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from serving.api.calls import READ_SECONDS
from serving.api.tls import Tls
from serving.config import split_address
from serving.errors import StartupError

_HEAD_SECONDS = 10


class WebServer:
    """HTTP server of one application: ``start`` and ``stop``."""

    def __init__(self, address: str, application: ASGIApp, tls: Tls | None) -> None:
        """Prepare to answer, without listening yet."""
        self.port = 0
        self._address = address
        self._server = _InOurLoop(
            uvicorn.Config(
                application,
                http=_ImpatientProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                ssl_context_factory=(lambda *_: _LatestCertificate(tls)) if tls else None,
            )
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen and answer.

        Raises:
            StartupError: The address is in use, or is not an address of this machine.
        """
        host, port = split_address(self._address)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            listening = socket.create_server((host, port), family=family, backlog=1024)
        except OSError as error:
            problem = f"cannot listen on {self._address}: {error.strerror or error}"
            raise StartupError(f"{problem}; give another --web, or --web '' for none") from error
        self.port = listening.getsockname()[1]
        self._task = asyncio.create_task(self._server.serve([listening]))
        while not (self._server.started or self._task.done()):
            await asyncio.sleep(0)
        if self._task.done():
            self._task.result()

    async def stop(self, seconds: float) -> None:
        """Stop answering and free the port; responses in transit have some seconds to end."""
        if self._task is None:
            return
        self._server.should_exit = True
        await asyncio.wait([self._task], timeout=seconds)
        self._server.force_exit = True
        for task in self._server.server_state.tasks:
            task.cancel()
        await self._task


class _InOurLoop(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the process."""
        yield


class _ImpatientProtocol(H11Protocol):
    """HTTP/1.1 that waits for the rest of a request's head, and for the caller to read an answer, but not for ever."""

    _closing: asyncio.TimerHandle | None = None
    _aborting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as there
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for timer in (self._closing, self._aborting):
            if timer:
                timer.cancel()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._aborting = self.loop.call_later(READ_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._aborting:
            self._aborting.cancel()

    def _watch(self) -> None:
        incomplete = self.conn.their_state is h11.IDLE
        if incomplete and self._closing is None:
            self._closing = self.loop.call_later(_HEAD_SECONDS, self.transport.close)
        elif not incomplete and self._closing:
            self._closing.cancel()
            self._closing = None


class _LatestCertificate(ssl.SSLContext):
    """A context that hands each new connection to the one of the certificate that is on disk by then."""

    def __new__(cls, tls: Tls) -> _LatestCertificate:
        return super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)

    def __init__(self, tls: Tls) -> None:
        self._tls = tls

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        return self._tls.web_context().wrap_bio(*arguments, **options)
