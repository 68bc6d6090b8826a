"""Pages and what they need, which hold no secret and are for everyone, and LibreTranslate's health."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

_FILES = Path(__file__).parent / "static"
_PAGES = {"/": "index.html", "/docs": "reference.html"}


def page_routes(is_ready: Callable[[], bool]) -> list[Route]:
    """Return a route for each page and file, and ``/health``, which tells what ``is_ready`` does."""

    async def health(request: Request) -> Response:
        ready = is_ready()
        return JSONResponse({"status": "ok" if ready else "unavailable"}, 200 if ready else 503)

    files = {f"/{path.name}": path.name for path in sorted(_FILES.iterdir()) if path.suffix != ".html"}
    return [Route("/health", health), *(_file(path, name) for path, name in (_PAGES | files).items())]


def _file(path: str, name: str) -> Route:
    async def answer(request: Request) -> Response:
        # A browser asks again each time, and gets no body unless the file has changed with a new version.
        return FileResponse(_FILES / name, headers={"Cache-Control": "no-cache"})

    return Route(path, answer)
