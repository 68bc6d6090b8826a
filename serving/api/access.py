"""Who may call what: each method and page needs a token of some role, if there are tokens; health is for everyone."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from grpc_health.v1 import health

from serving.api.reloading import Reloaded
from serving.errors import PermissionDenied, StartupError, Unauthenticated
from serving.tokens import BearerToken, Role, find_token, read_tokens

_EVERY_ROLE = frozenset(Role)
_TRANSLATE = frozenset({Role.TRANSLATE})
_ADMIN = frozenset({Role.ADMIN})
# Methods of the translation services that others than translators may call; a new one is for translators alone.
_LOOKING = frozenset({"ListModels", "GetModel", "GetSupportedLanguages"})
_GOOGLE_KEY = "x-goog-api-key"  # what Google's clients call a token that was given them as API key


class Access:
    """Guard of one server; without a file of tokens it lets everyone in."""

    def __init__(self, services: Collection[str], admin_service: str, tokens: Path | None = None) -> None:
        """Guard the services of translation, the one of administration, and all others beside them.

        Raises:
            StartupError: The file cannot be read, or is no file of tokens.
        """
        self._services, self._admin_service = services, admin_service
        try:
            self._tokens = Reloaded([tokens], lambda: read_tokens(tokens)) if tokens else None
        except (OSError, ValueError) as error:
            raise StartupError(f"cannot use the tokens of {tokens}: {error}") from error

    @property
    def needs_token(self) -> bool:
        """Whether there are tokens at all."""
        return self._tokens is not None

    def to_method(self, path: str, metadata: Iterable[tuple[str, str | bytes]] | None) -> BearerToken | None:
        """Let a call to ``/SERVICE/METHOD`` in, and return its token, if it needs one.

        Raises:
            Unauthenticated: It carries no valid token.
            PermissionDenied: Its token has another role.
        """
        service, _, method = path.removeprefix("/").partition("/")
        if service == health.SERVICE_NAME:
            return None
        texts = [(key, value) for key, value in metadata or () if isinstance(value, str)]
        token = only_token(value for key, value in texts if key == "authorization")
        keys = [value for key, value in texts if key == _GOOGLE_KEY]
        return self._check(keys[0] if len(keys) == 1 and not token else token, self._roles(service, method))

    def to_page(self, authorization: Iterable[str], *, operates: bool = False) -> None:
        """Let an HTTP request with these ``Authorization`` headers see a page that is not for everyone.

        Args:
            authorization: The headers.
            operates: Whether the page is for who operates the server.

        Raises:
            Unauthenticated: It carries no valid token.
            PermissionDenied: Its token has another role.
        """
        self._check(only_token(authorization), _ADMIN if operates else _EVERY_ROLE)

    def check(self, presented: str, *, translates: bool) -> BearerToken | None:
        """Let the holder of a token translate, or only look at what is served, and return the token if one is needed.

        Raises:
            Unauthenticated: It is no valid token.
            PermissionDenied: Its role does not allow to translate.
        """
        return self._check(presented, _TRANSLATE if translates else _EVERY_ROLE)

    def _roles(self, service: str, method: str) -> frozenset[Role]:
        if service == self._admin_service:
            return _ADMIN
        return _TRANSLATE if service in self._services and method not in _LOOKING else _EVERY_ROLE

    def _check(self, presented: str, allowed: frozenset[Role]) -> BearerToken | None:
        if self._tokens is None:
            return None
        token = find_token(presented, self._tokens.get())
        if token is None:
            raise Unauthenticated
        if token.role not in allowed:
            raise PermissionDenied
        return token


def only_token(authorization: Iterable[str], scheme: str = "bearer") -> str:
    """Return the token of ``Authorization`` headers, or nothing unless there is exactly one, of this scheme."""
    given = tuple(authorization)
    found, _, token = (given[0] if len(given) == 1 else "").partition(" ")
    return token if found.lower() == scheme else ""
