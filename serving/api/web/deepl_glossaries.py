"""Glossaries in the form of DeepL's API, version 2."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from serving.api.glossaries import Glossary, GlossaryStore
from serving.api.language_routing import LanguageRouter
from serving.api.web.deepl import DEEPL
from serving.api.web.endpoint import Asked, Endpoints
from serving.api.web.exchange import Fields
from serving.errors import FieldViolation, InvalidRequest
from serving.glossary_table import read_entries

CREATE_FIELDS = ("name", "source_lang", "target_lang", "entries", "entries_format")
_TABLE = "text/tab-separated-values"


class DeepLGlossaries:
    """Glossaries of callers, each of whom sees its own."""

    def __init__(self, store: GlossaryStore, router: LanguageRouter) -> None:
        """Keep them in ``store``, for the languages of ``router``."""
        self._store = store
        self._router = router

    def routes(self, endpoints: Endpoints) -> list[Route]:
        """Return all routes."""
        one = "/v2/glossaries/{glossary_id}"
        return [
            endpoints.route("GET", "/v2/glossary-language-pairs", self.pairs, DEEPL),
            endpoints.route("POST", "/v2/glossaries", self.create, DEEPL, translates=True),
            endpoints.route("GET", "/v2/glossaries", self.list, DEEPL, translates=True),
            endpoints.route("GET", one, self.get, DEEPL, translates=True),
            endpoints.route("DELETE", one, self.remove, DEEPL, translates=True),
            endpoints.route("GET", f"{one}/entries", self.entries, DEEPL, translates=True),
        ]

    async def pairs(self, asked: Asked) -> Response:
        """List the languages that a glossary may be for."""
        pairs = [
            {"source_lang": source, "target_lang": target}
            for source, targets in self._router.targets().items()
            for target in targets
        ]
        return JSONResponse({"supported_languages": pairs})

    async def create(self, asked: Asked) -> Response:
        """Keep a glossary."""
        fields = Fields(await asked.exchange.fields(), known=CREATE_FIELDS)
        if not (name := fields.text("name").strip()):
            raise InvalidRequest([FieldViolation("name", "is empty; give one")])
        source, target = self._router.pair(fields.text("source_lang"), fields.text("target_lang"))
        form = fields.choice("entries_format", ("tsv", "csv"), "tsv")
        try:
            entries = read_entries(fields.text("entries"), form)
        except ValueError as error:
            raise InvalidRequest([FieldViolation("entries", str(error))]) from None
        return JSONResponse(_described(self._store.add(asked.caller, name, source, target, entries)), 201)

    async def list(self, asked: Asked) -> Response:
        """List the caller's glossaries."""
        return JSONResponse({"glossaries": [_described(one) for one in self._store.of(asked.caller)]})

    async def get(self, asked: Asked) -> Response:
        """Describe one."""
        return JSONResponse(_described(self._named(asked)))

    async def remove(self, asked: Asked) -> Response:
        """Remove one."""
        self._store.remove(asked.caller, self._named(asked).id)
        return Response(status_code=204)

    async def entries(self, asked: Asked) -> Response:
        """Return the terms of one, a line each."""
        lines = [f"{source}\t{target}" for source, target in self._named(asked).entries.items()]
        return PlainTextResponse("\n".join(lines), media_type=_TABLE)

    def _named(self, asked: Asked) -> Glossary:
        return self._store.get(asked.caller, asked.exchange.request.path_params["glossary_id"])


def _described(glossary: Glossary) -> dict[str, Any]:
    return {
        "glossary_id": glossary.id,
        "name": glossary.name,
        "ready": True,
        "source_lang": glossary.source_language,
        "target_lang": glossary.target_language,
        "creation_time": glossary.created.isoformat(),
        "entry_count": len(glossary.entries),
    }
