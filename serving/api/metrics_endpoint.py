"""HTTP endpoint: ``/metrics`` for Prometheus, ``/healthz`` and ``/readyz`` for probes."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from serving.config import split_address
from serving.errors import StartupError

_LOG = logging.getLogger(__name__)


class MetricsEndpoint:
    """Small HTTP server in its own threads."""

    def __init__(
        self,
        address: str,
        registry: CollectorRegistry,
        *,
        is_alive: Callable[[], bool],
        is_ready: Callable[[], bool],
    ) -> None:
        """Listen on ``HOST:PORT``.

        Raises:
            StartupError: The address is in use, or is not an address of this machine.
        """
        answers = {"/healthz": is_alive, "/readyz": is_ready}

        class Handler(BaseHTTPRequestHandler):
            timeout = 10  # a caller that never finishes its request must not hold a thread for good

            def do_GET(self) -> None:
                path = urlsplit(self.path).path
                if path == "/metrics":
                    encode, content_type = choose_encoder(self.headers.get("Accept", ""))
                    self._reply(HTTPStatus.OK, content_type, encode(registry))
                elif check := answers.get(path):
                    status = HTTPStatus.OK if check() else HTTPStatus.SERVICE_UNAVAILABLE
                    self._reply(status, "text/plain", f"{status.phrase.lower()}\n".encode())
                else:
                    self._reply(HTTPStatus.NOT_FOUND, "text/plain", b"ask for /metrics, /healthz or /readyz\n")

            def _reply(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Log nothing: probes arrive every few seconds."""

        host, port = split_address(address)

        class Server(ThreadingHTTPServer):
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

            def handle_error(self, request: object, client_address: object) -> None:
                """Log callers that hang up for debugging only; the default prints a traceback."""
                _LOG.debug("http_error", exc_info=True)

        try:
            self._server = Server((host, port), Handler)
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
