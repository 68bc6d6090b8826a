"""The web port's application: all routes, and the headers that every response has."""

from __future__ import annotations

from collections.abc import Callable, Collection

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.api.glossaries import GlossaryStore
from serving.api.language_routing import LanguageRouter
from serving.api.servicer import TranslationServicer
from serving.api.web.deepl import DeepL
from serving.api.web.deepl_glossaries import DeepLGlossaries
from serving.api.web.endpoint import Endpoints, google_error
from serving.api.web.libretranslate import LibreTranslate
from serving.api.web.pages import page_routes
from serving.api.web.v1 import v1_routes
from serving.errors import FOREIGN_HOST, PermissionDenied
from serving.loopback import is_foreign_host

# A page can reach nothing but this server, no other page can hold it in a frame, and no script stands in its HTML.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def web_application(
    endpoints: Endpoints,
    servicer: TranslationServicer,
    router: LanguageRouter,
    glossaries: GlossaryStore,
    *,
    needs_token: bool,
    is_ready: Callable[[], bool],
    allowed_hosts: Collection[str] | None = None,
) -> ASGIApp:
    """Return the application over one server's models.

    Args:
        endpoints: Makes routes.
        servicer: The methods of the gRPC service, which ``/v1`` calls too.
        router: Finds models by language for the forms of other services.
        glossaries: Of the callers.
        needs_token: Whether callers need a token; the pages ask for one.
        is_ready: Tells whether the server translates.
        allowed_hosts: Names in ``Host`` headers that are not foreign; None for any.
    """
    routes = [
        *v1_routes(endpoints, servicer),
        *LibreTranslate(router, needs_key=needs_token).routes(endpoints),
        *DeepL(router, glossaries).routes(endpoints),
        *DeepLGlossaries(glossaries, router).routes(endpoints),
        *page_routes(is_ready),
    ]
    application = Starlette(routes=routes, exception_handlers={HTTPException: _not_routed})
    return _WithHeaders(application if allowed_hosts is None else _OfThisSite(application, allowed_hosts))


async def _not_routed(request: Request, error: Exception) -> Response:
    """Answer for a path or a method that there is not, in the form of Google's APIs."""
    status = getattr(error, "status_code", 500)
    wrong = {404: "there is no such path", 405: "this path takes another method"}.get(status, "this is not understood")
    body = {"error": {"code": status, "message": f"{wrong}; /docs lists all", "status": "NOT_FOUND"}}
    return JSONResponse(body, status, getattr(error, "headers", None))


class _OfThisSite:
    """Refuses what pages of other sites send by a name of theirs."""

    def __init__(self, application: ASGIApp, allowed: Collection[str]) -> None:
        self._application, self._allowed = application, allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if is_foreign_host(Headers(scope=scope).get("host", ""), self._allowed):
            status, body = google_error(PermissionDenied(FOREIGN_HOST), "")
            await JSONResponse(body, status)(scope, receive, send)
            return
        await self._application(scope, receive, send)


class _WithHeaders:
    def __init__(self, application: ASGIApp) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._application(scope, receive, sending)
