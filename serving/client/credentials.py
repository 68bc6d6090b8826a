"""Credentials of a client: TLS, a certificate of its own, a bearer token, and the flags that name them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import grpc

from serving.client.proxy import is_loopback

TOKEN_VARIABLE = "DRAGOMAN_TOKEN"


def add_tls_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that :func:`chosen_credentials` reads."""
    parser.add_argument("--tls", action="store_true", help="TLS, with the authorities that gRPC trusts by itself")
    parser.add_argument("--tls-ca", type=Path, metavar="FILE", help="TLS, with the authorities of this PEM file")
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help="TLS, with this certificate of the client (PEM)")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="key of --tls-cert (PEM)")


def chosen_credentials(arguments: argparse.Namespace) -> grpc.ChannelCredentials | None:
    """Return the credentials of the flags; None if they ask for no TLS.

    Raises:
        OSError: A file cannot be read.
        ValueError: A certificate lacks its key, or a key its certificate.
    """
    if (arguments.tls_cert is None) != (arguments.tls_key is None):
        raise ValueError("--tls-cert and --tls-key belong together; give both or neither")
    files = [path and path.read_bytes() for path in (arguments.tls_ca, arguments.tls_key, arguments.tls_cert)]
    return grpc.ssl_channel_credentials(*files) if arguments.tls or any(files) else None


def add_token_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that :func:`chosen_token` reads, and ``--token-in-clear``."""
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help=f"bearer token; {TOKEN_VARIABLE} holds one too, if not given"
    )
    parser.add_argument(
        "--token-in-clear",
        action="store_true",
        help="send the token without TLS to another machine, where others may read it",
    )


def chosen_token(arguments: argparse.Namespace, environment: Mapping[str, str]) -> str | None:
    """Return the token of the file, or else of the environment.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is not UTF-8.
    """
    if arguments.token_file is not None:
        return str(arguments.token_file.read_text(encoding="utf-8").strip())
    return environment.get(TOKEN_VARIABLE)


def authorization(
    token: str | None, server: str, *, encrypted: bool, in_clear: bool = False
) -> tuple[tuple[str, str], ...]:
    """Return the metadata that carries a token; none without one.

    Raises:
        ValueError: The token would cross a network in the clear, or is empty or not printable ASCII.
    """
    if token is None:
        return ()
    if not (token and token.isascii() and token.isprintable() and " " not in token):
        raise ValueError(
            "the token is empty or holds characters that no token has; give the line that was shown for it"
        )
    if not (encrypted or in_clear or is_loopback(server)):
        raise ValueError(
            f"the token would go to {server} in the clear; use TLS, or allow it (--token-in-clear, token_in_clear=True)"
        )
    return (("authorization", f"Bearer {token}"),)
