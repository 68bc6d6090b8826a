"""TLS of all ports, by the same certificate, which is read again when its files change."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from serving.api.reloading import Reloaded
from serving.config import ServerConfig
from serving.errors import StartupError


@dataclass(frozen=True)
class _Loaded:
    of_grpc: grpc.ServerCertificateConfiguration
    of_http: ssl.SSLContext
    of_web: ssl.SSLContext


class Tls:
    """Certificate of the server and, for mutual TLS, the authorities that sign certificates of clients.

    Each new connection gets the certificate that is on disk by then; connections that are open stay as they are.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None = None) -> None:
        """Read the files, in PEM.

        Raises:
            StartupError: A file cannot be read, or the key does not fit the certificate.
        """
        self.requires_clients = client_ca is not None
        files = [certificate, key, *([client_ca] if client_ca else [])]
        try:
            self._loaded = Reloaded(files, lambda: _load(certificate, key, client_ca))
        except (OSError, ValueError) as error:
            named = ", ".join(map(str, files))
            raise StartupError(f"cannot use the certificate of {named}: {error}; give matching PEM files") from error

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """Return credentials for a gRPC port; with authorities of clients, every caller needs a certificate."""
        given = self._loaded.get()

        def changed() -> grpc.ServerCertificateConfiguration | None:  # gRPC asks before each handshake
            nonlocal given
            latest = self._loaded.get()
            if latest is given:
                return None
            given = latest
            return latest.of_grpc

        credentials: grpc.ServerCredentials = grpc.dynamic_ssl_server_credentials(
            given.of_grpc,
            changed,  # type: ignore[arg-type] # the stubs do not know that None stands for no change
            require_client_authentication=self.requires_clients,
        )
        return credentials

    def http_context(self) -> ssl.SSLContext:
        """Return the context for a new HTTP connection.

        A client may leave its certificate out, since probes have none: a page that is not for everybody looks for it.
        """
        return self._loaded.get().of_http

    def web_context(self) -> ssl.SSLContext:
        """Return the context for a new connection to the web port, where a client may not leave its certificate out."""
        return self._loaded.get().of_web


def tls_of(config: ServerConfig) -> Tls | None:
    """Return the TLS that the options ask for, or None if they ask for none.

    Raises:
        StartupError: A file cannot be read, or the key does not fit the certificate.
    """
    if config.tls_cert is None or config.tls_key is None:
        return None
    return Tls(config.tls_cert, config.tls_key, config.tls_client_ca)


def _load(certificate: Path, key: Path, client_ca: Path | None) -> _Loaded:
    pair = (key.read_bytes(), certificate.read_bytes())
    authorities = client_ca.read_bytes() if client_ca else None
    configuration = grpc.ssl_server_certificate_configuration([pair], authorities)
    of_http, of_web = (_context(certificate, key, authorities, mode) for mode in (ssl.CERT_OPTIONAL, ssl.CERT_REQUIRED))
    return _Loaded(configuration, of_http, of_web)


def _context(certificate: Path, key: Path, authorities: bytes | None, mode: ssl.VerifyMode) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # TLS 1.2 or newer, as in gRPC
    context.load_cert_chain(certificate, key, password=_no_password)
    if authorities is not None:
        context.verify_mode = mode
        context.load_verify_locations(cadata=authorities.decode("ascii"))
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted")  # else OpenSSL would ask for a password on the terminal
