"""Bearer tokens: a file with a name, a role and a hash per line; the tokens themselves are nowhere."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from serving.limits import ClientLimits, parse_limits

_LINE = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]{0,63}) (?P<role>[a-z]+) (?P<digest>[0-9a-f]{64})(?P<limits>( [a-z]+=[0-9.]+)*)"
)
_TOKEN_BYTES = 32


class Role(StrEnum):
    """Role of a token; none contains another, so that a lost token opens as little as possible."""

    TRANSLATE = "translate"
    ADMIN = "admin"


@dataclass(frozen=True)
class BearerToken:
    """One line of the file.

    Attributes:
        name: Name of who has it, for people.
        role: Role of who has it.
        digest: SHA-256 of the token. A slow hash with salt, as for passwords, would gain nothing and cost each call:
            the token is 256 random bits, which nobody finds by trying.
        limits: Of who has it, in place of the server's.
    """

    name: str
    role: Role
    digest: bytes
    limits: ClientLimits = field(default_factory=ClientLimits)


def new_token(name: str, role: Role) -> tuple[str, str]:
    """Make a token.

    Returns:
        The token, and the line for the file.

    Raises:
        ValueError: The name cannot be in the file.
    """
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    line = f"{name} {role} {_digest(token).hex()}"
    if not _LINE.fullmatch(line):
        raise ValueError(f"{name!r} is not a name for a token; use up to 64 letters, digits, dots, dashes, underscores")
    return token, line


def read_tokens(path: Path) -> tuple[BearerToken, ...]:
    """Read a file of tokens; empty lines and those that begin with ``#`` are skipped.

    Raises:
        OSError: The file cannot be read.
        ValueError: A line is not one of :func:`new_token`, or a name is there twice; the message quotes no line.
    """
    tokens: dict[str, BearerToken] = {}
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not (line := text.strip()) or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if not found or found["role"] not in set(Role):
            raise ValueError(
                f"line {number} is not NAME ROLE SHA256 [LIMITS]; append what `dragoman-serve token new` prints"
            )
        if found["name"] in tokens:
            raise ValueError(f"line {number} has the name of another token; give each its own")
        try:
            limits = parse_limits(found["limits"])
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        tokens[found["name"]] = BearerToken(found["name"], Role(found["role"]), bytes.fromhex(found["digest"]), limits)
    return tuple(tokens.values())


def find_token(presented: str, tokens: Sequence[BearerToken]) -> BearerToken | None:
    """Return the token that was presented, in a time that depends on the number of tokens only."""
    digest = _digest(presented)
    found = None
    for token in tokens:
        if hmac.compare_digest(token.digest, digest):
            found = token
    return found


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", errors="surrogateescape")).digest()
