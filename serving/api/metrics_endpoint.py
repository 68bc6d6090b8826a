"""HTTP endpoint: ``/metrics`` for Prometheus, ``/healthz`` and ``/readyz`` for probes, a profile for who operates."""

from __future__ import annotations

import io
import logging
import math
import socket
import ssl
import threading
import time
from collections.abc import Callable, Collection, Mapping
from enum import Enum
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from serving.api.access import Access
from serving.api.errors import http_status_of
from serving.api.tls import Tls
from serving.config import split_address
from serving.errors import FOREIGN_HOST, PermissionDenied, StartupError, Unauthenticated
from serving.loopback import is_foreign_host
from serving.observability.profiling import profile

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_LOG = logging.getLogger(__name__)
_METHODS = "GET, HEAD, OPTIONS"
_TEXT = "text/plain; charset=utf-8"
_MOST_DISCARDED = 1 << 16  # bytes
_PROFILE_SECONDS = (5.0, 60.0)  # by default, and at most


class _Answer(NamedTuple):
    status: HTTPStatus
    content_type: str = ""
    body: bytes = b""


class _For(Enum):
    """Who may see a page."""

    EVERYONE = 0
    CALLERS = 1  # of every role
    OPERATORS = 2


class _Page(NamedTuple):
    answer: Callable[[str, Mapping[str, list[str]]], _Answer]  # takes the Accept header and the query
    audience: _For = _For.EVERYONE


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
        profiles: bool = False,
        allowed_hosts: Collection[str] | None = None,
    ) -> None:
        """Listen on ``HOST:PORT``; ``/metrics`` needs the token, and the certificate of a client, that calls need.

        Args:
            address: The address.
            registry: What ``/metrics`` shows.
            is_alive: What ``/healthz`` tells.
            is_ready: What ``/readyz`` tells.
            access: Who may see what.
            tls: Of the port, if it has any.
            profiles: Whether there is ``/debug/profile``, for the role ``admin`` if there are tokens.
            allowed_hosts: Names in ``Host`` headers that are not foreign; None for any.

        Raises:
            StartupError: The address is in use, or is not an address of this machine.
        """

        def metrics(accept: str, query: Mapping[str, list[str]]) -> _Answer:
            encode, content_type = choose_encoder(accept)
            return _Answer(HTTPStatus.OK, content_type, encode(registry))

        pages = {
            "/healthz": _check(is_alive),
            "/readyz": _check(is_ready),
            "/metrics": _Page(metrics, _For.CALLERS),
        }
        if profiles:
            pages["/debug/profile"] = _Page(_Profiles(), _For.OPERATORS)
        try:
            self._server = _Server(address, pages, access, tls, allowed_hosts)
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
        self,
        address: str,
        pages: Mapping[str, _Page],
        access: Access,
        tls: Tls | None,
        allowed_hosts: Collection[str] | None,
    ) -> None:
        host, port = split_address(address)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.pages = pages
        self._access = access
        self._allowed_hosts = allowed_hosts
        self._tls = tls
        super().__init__((host, port), _Handler)

    def admit(self, audience: _For, caller: BaseHTTPRequestHandler) -> None:
        """Let a caller see a page, if it is for everyone or the caller shows who it is.

        Raises:
            Unauthenticated: The caller lacks a token, or a certificate.
            PermissionDenied: Its token has another role, or a page of another site has sent it.
        """
        if audience is _For.EVERYONE:
            return
        if self._allowed_hosts is not None and is_foreign_host(caller.headers.get("Host", ""), self._allowed_hosts):
            raise PermissionDenied(FOREIGN_HOST)
        if self._tls and self._tls.requires_clients:
            connection = caller.connection
            if not (isinstance(connection, ssl.SSLSocket) and connection.getpeercert()):
                raise Unauthenticated
        given = caller.headers.get_all("Authorization", [])
        self._access.to_page(given, operates=audience is _For.OPERATORS)

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
    timeout = 10.0  # a caller that never ends its request, or never reads, must not hold a thread for good
    server_version, sys_version = "dragoman", ""  # of the Server header
    error_content_type, error_message_format = _TEXT, "%(message)s\n"

    def setup(self) -> None:
        super().setup()
        self.rfile = io.BufferedReader(_Hurried(self.connection, self.timeout))

    def answer(self) -> None:
        self._discard_body()
        self.connection.settimeout(self.timeout)
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
            self.server.admit(page.audience, self)
            return page.answer(self.headers.get("Accept", ""), parse_qs(urlsplit(self.path).query))
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


class _Hurried(io.RawIOBase):
    """What a caller sends within so many seconds in all; a timeout of the socket would begin anew with each byte."""

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self._connection, self._end = connection, time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        if (left := self._end - time.monotonic()) <= 0:
            raise TimeoutError("the request did not end in time")
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


def _check(holds: Callable[[], bool]) -> _Page:
    def answer(accept: str, query: Mapping[str, list[str]]) -> _Answer:
        status = HTTPStatus.OK if holds() else HTTPStatus.SERVICE_UNAVAILABLE
        return _Answer(status, _TEXT, f"{status.phrase.lower()}\n".encode())

    return _Page(answer)


class _Profiles:
    """Profiles of the process, one at a time."""

    def __init__(self) -> None:
        self._one = threading.Lock()

    def __call__(self, accept: str, query: Mapping[str, list[str]]) -> _Answer:
        default, most = _PROFILE_SECONDS
        try:
            seconds = float(query.get("seconds", [str(default)])[-1])
        except ValueError:
            seconds = math.nan
        if not 0 < seconds <= most:
            message = f"seconds is not a number above 0 and up to {most:g}; ask for /debug/profile?seconds={default:g}"
            return _Answer(HTTPStatus.BAD_REQUEST, _TEXT, f"{message}\n".encode())
        if not self._one.acquire(blocking=False):
            return _Answer(HTTPStatus.CONFLICT, _TEXT, b"another profile is being taken; wait for it to end\n")
        try:
            return _Answer(HTTPStatus.OK, _TEXT, profile(seconds).encode())
        finally:
            self._one.release()
