"""Who may call what: each method and page needs a token of some role, if there are tokens; health is for everyone."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from grpc_health.v1 import health

from serving.api.reloading import Reloaded
from serving.errors import PermissionDenied, StartupError, Unauthenticated
from serving.tokens import Role, find_token, read_tokens

_EVERY_ROLE = frozenset(Role)
_TRANSLATE = frozenset({Role.TRANSLATE})
_ADMIN = frozenset({Role.ADMIN})
# Methods of the translation service that others than translators may call; a new one is for translators alone.
_LOOKING = frozenset({"ListModels", "GetModel"})


class Access:
    """Guard of one server; without a file of tokens it lets everyone in."""

    def __init__(self, service: str, admin_service: str, tokens: Path | None = None) -> None:
        """Guard the service of translation, the one of administration, and all others beside them.

        Raises:
            StartupError: The file cannot be read, or is no file of tokens.
        """
        self._service, self._admin_service = service, admin_service
        try:
            self._tokens = Reloaded([tokens], lambda: read_tokens(tokens)) if tokens else None
        except (OSError, ValueError) as error:
            raise StartupError(f"cannot use the tokens of {tokens}: {error}") from error

    def to_method(self, path: str, metadata: Iterable[tuple[str, str | bytes]] | None) -> None:
        """Let a call to ``/SERVICE/METHOD`` in.

        Raises:
            Unauthenticated: It carries no valid token.
            PermissionDenied: Its token has another role.
        """
        service, _, method = path.removeprefix("/").partition("/")
        if service == health.SERVICE_NAME:
            return
        given = [value for key, value in metadata or () if key == "authorization" and isinstance(value, str)]
        self._check(_presented(given), self._roles(service, method))

    def to_page(self, authorization: Iterable[str]) -> None:
        """Let an HTTP request with these ``Authorization`` headers see a page that is not for everyone.

        Raises:
            Unauthenticated: It carries no valid token.
        """
        self.check(_presented(list(authorization)), translates=False)

    def check(self, presented: str, *, translates: bool) -> None:
        """Let the holder of a token translate, or only look at what is served.

        Raises:
            Unauthenticated: It is no valid token.
            PermissionDenied: Its role does not allow to translate.
        """
        self._check(presented, _TRANSLATE if translates else _EVERY_ROLE)

    def _roles(self, service: str, method: str) -> frozenset[Role]:
        if service == self._admin_service:
            return _ADMIN
        return _TRANSLATE if service == self._service and method not in _LOOKING else _EVERY_ROLE

    def _check(self, presented: str, allowed: frozenset[Role]) -> None:
        if self._tokens is None:
            return
        token = find_token(presented, self._tokens.get())
        if token is None:
            raise Unauthenticated
        if token.role not in allowed:
            raise PermissionDenied


def _presented(authorization: list[str]) -> str:
    """Return the bearer token of ``Authorization`` headers, or nothing unless there is exactly one."""
    scheme, _, token = (authorization[0] if len(authorization) == 1 else "").partition(" ")
    return token if scheme.lower() == "bearer" else ""
