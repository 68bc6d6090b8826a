"""HTTP endpoint: ``/metrics`` for Prometheus, ``/healthz`` and ``/readyz`` for probes."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from serving.api.access import Access
from serving.api.errors import http_status_of
from serving.api.tls import Tls
from serving.config import split_address
from serving.errors import PermissionDenied, StartupError, Unauthenticated

_LOG = logging.getLogger(__name__)
_METHODS = "GET, HEAD, OPTIONS"
_TEXT = "text/plain; charset=utf-8"
_MOST_DISCARDED = 1 << 16  # bytes


class _Answer(NamedTuple):
    status: HTTPStatus
    content_type: str = ""
    body: bytes = b""


_Page = Callable[[str], _Answer]  # takes the Accept header


class MetricsEndpoint:
    """Small HTTP server in its own threads."""

    def __init__(
        self,
        address: str,
        registry: CollectorRegistry,
        *,
        is_alive: Callable[[], bool],
        is_ready: Callable[[], bool],
        access: Access,
        tls: Tls | None,
    ) -> None:
        """Listen on ``HOST:PORT``; ``/metrics`` needs the token, and the certificate of a client, that calls need.

        Raises:
            StartupError: The address is in use, or is not an address of this machine.
        """

        def metrics(accept: str) -> _Answer:
            encode, content_type = choose_encoder(accept)
            return _Answer(HTTPStatus.OK, content_type, encode(registry))

        for_everyone = {"/healthz": _check(is_alive), "/readyz": _check(is_ready)}
        pages = for_everyone | {"/metrics": metrics}
        try:
            self._server = _Server(address, pages, frozenset(for_everyone), access, tls)
        except OSError as error:
            raise StartupError(f"cannot listen on {address}: {error.strerror}; give another --http") from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="http", daemon=True
        )

    @property
    def port(self) -> int:
        """Port that the server listens on."""
        return self._server.server_port

    def start(self) -> None:
        """Start answering."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering and free the port."""
        if self._thread.is_alive():  # shutdown() waits forever if nothing was started
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    def __init__(
        self, address: str, pages: Mapping[str, _Page], for_everyone: frozenset[str], access: Access, tls: Tls | None
    ) -> None:
        host, port = split_address(address)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.pages = pages
        self._for_everyone = for_everyone
        self._access = access
        self._tls = tls
        super().__init__((host, port), _Handler)

    def admit(self, path: str, caller: BaseHTTPRequestHandler) -> None:
        """Let a caller see a page, if it is for everyone or the caller shows who it is.

        Raises:
            Unauthenticated: The caller lacks a token, or a certificate.
        """
        if path in self._for_everyone:
            return
        if self._tls and self._tls.requires_clients:
            connection = caller.connection
            if not (isinstance(connection, ssl.SSLSocket) and connection.getpeercert()):
                raise Unauthenticated
        self._access.to_page(caller.headers.get_all("Authorization", []))

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Answer one connection; its handshake is part of that, as it may take long, and this thread is its own."""
        if self._tls is None:
            return super().finish_request(request, client_address)
        request.settimeout(_Handler.timeout)
        with self._tls.http_context().wrap_socket(request, server_side=True) as encrypted:
            super().finish_request(encrypted, client_address)

    def handle_error(self, request: object, client_address: object) -> None:
        """Log callers that hang up for debugging only; the default prints a traceback."""
        _LOG.debug("http_error", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 10  # a caller that never ends its request must not hold a thread for good
    server_version, sys_version = "dragoman", ""  # of the Server header
    error_content_type, error_message_format = _TEXT, "%(message)s\n"

    def answer(self) -> None:
        self._discard_body()
        status, content_type, body = self._answer()
        self.send_response(status)
        if status in {HTTPStatus.NO_CONTENT, HTTPStatus.METHOD_NOT_ALLOWED}:
            self.send_header("Allow", _METHODS)
        if status is HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", "Bearer")
        if status is not HTTPStatus.NO_CONTENT:
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_OPTIONS = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: probes arrive every few seconds."""

    def _answer(self) -> _Answer:
        page = self.server.pages.get(self._path())
        if page is None and self.path != "*":
            return _Answer(HTTPStatus.NOT_FOUND, _TEXT, f"ask for {', '.join(self.server.pages)}\n".encode())
        if self.command == "OPTIONS":
            return _Answer(HTTPStatus.NO_CONTENT)
        if page is None or self.command not in {"GET", "HEAD"}:
            return _Answer(HTTPStatus.METHOD_NOT_ALLOWED, _TEXT, f"allowed: {_METHODS}\n".encode())
        try:
            self.server.admit(self._path(), self)
            return page(self.headers.get("Accept", ""))
        except (Unauthenticated, PermissionDenied) as error:
            return _Answer(HTTPStatus(http_status_of(error)), _TEXT, f"{error}\n".encode())
        except Exception:
            _LOG.exception("http_failed", extra={"path": self.path})
            return _Answer(HTTPStatus.INTERNAL_SERVER_ERROR, _TEXT, b"internal error; the log has the rest\n")

    def _path(self) -> str:
        try:
            return urlsplit(self.path).path
        except ValueError:  # such as an address that is none
            return ""

    def _discard_body(self) -> None:
        length = self.headers.get("Content-Length", "")
        if length.isdecimal():  # the reset for an unread body could overtake the answer
            self.rfile.read(min(int(length), _MOST_DISCARDED))


def _check(holds: Callable[[], bool]) -> _Page:
    def page(accept: str) -> _Answer:
        status = HTTPStatus.OK if holds() else HTTPStatus.SERVICE_UNAVAILABLE
        return _Answer(status, _TEXT, f"{status.phrase.lower()}\n".encode())

    return page
