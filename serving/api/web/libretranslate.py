"""The form of LibreTranslate; which fields are honoured is in ``docs/http.md``."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from serving.api.errors import http_status_of, status_of
from serving.api.language_names import english_name
from serving.api.language_routing import LanguageRouter, Routed
from serving.api.web.endpoint import Asked, Dialect, Endpoints
from serving.api.web.exchange import Exchange, Fields
from serving.errors import Unauthenticated
from serving.messages import MimeType, Options

_AUTO = "auto"
_FORMATS = {"text": MimeType.PLAIN, "html": MimeType.HTML}
TRANSLATE_FIELDS = ("q", "source", "target", "format", "alternatives", "api_key")
DETECT_FIELDS = ("q", "api_key")


async def _key(exchange: Exchange) -> str:
    return str((await exchange.fields()).get("api_key", ""))


def _failure(error: BaseException, request_id: str) -> tuple[int, dict[str, Any]]:
    status = 403 if isinstance(error, Unauthenticated) else http_status_of(error)
    return status, {"error": status_of(error, request_id).message}


_NAMES = {"contents": "q", "source_language": "source", "target_language": "target", "options": "alternatives"}
_DIALECT = Dialect(_key, _failure, _NAMES)


class LibreTranslate:
    """Answers in the form of LibreTranslate."""

    def __init__(self, router: LanguageRouter, *, needs_key: bool) -> None:
        """Translate by the models of ``router``; ``needs_key`` is what callers are told."""
        self._router = router
        self._needs_key = needs_key

    def routes(self, endpoints: Endpoints) -> list[Route]:
        """Return all routes of the form."""
        return [
            endpoints.route("POST", "/translate", self.translate, _DIALECT, translates=True),
            endpoints.route("POST", "/detect", self.detect, _DIALECT, translates=True),
            endpoints.route("GET", "/languages", self.languages, _DIALECT),
            endpoints.route("GET", "/frontend/settings", self.settings, _DIALECT),
        ]

    async def translate(self, asked: Asked) -> Response:
        """Translate a text or a list of texts."""
        fields = Fields(await asked.exchange.fields(), known=TRANSLATE_FIELDS)
        source = fields.text("source")
        mime_type = _FORMATS[fields.choice("format", _FORMATS, "text")]
        alternatives = fields.integer("alternatives", 0)
        found = await self._router.translate(
            fields.texts("q"),
            "" if source == _AUTO else source,
            fields.text("target"),
            _options(alternatives, mime_type),
            call=asked.call,
            deadline=asked.deadline,
        )
        answer: dict[str, Any] = {"translatedText": [one.text for one in found]}
        if source == _AUTO:
            answer["detectedLanguage"] = [_detected(one.source_language, one.confidence or 0.0) for one in found]
        if alternatives:
            answer["alternatives"] = [_alternatives(one) for one in found]
        if not fields.is_list("q"):
            answer = {name: values[0] for name, values in answer.items()}
        return JSONResponse(answer)

    async def detect(self, asked: Asked) -> Response:
        """Tell which loaded languages a text may be in."""
        fields = Fields(await asked.exchange.fields(), known=DETECT_FIELDS)
        ranked = await self._router.detect(fields.text("q"))
        return JSONResponse([_detected(language, confidence) for language, confidence in ranked])

    async def languages(self, asked: Asked) -> Response:
        """List the languages and what each can be translated into."""
        return JSONResponse(
            [
                {"code": source, "name": english_name(source), "targets": targets}
                for source, targets in self._router.targets().items()
            ]
        )

    async def settings(self, asked: Asked) -> Response:
        """Tell what a page in front of this server has to know."""
        pairs = self._router.targets()
        source = next(iter(pairs), "")
        target = pairs[source][0] if source else ""
        language = {
            side: {"code": tag, "name": english_name(tag)} for side, tag in (("source", source), ("target", target))
        }
        return JSONResponse(
            {
                "apiKeys": self._needs_key,
                "charLimit": -1,
                "filesTranslation": False,
                "frontendTimeout": 500,
                "keyRequired": self._needs_key,
                "language": language,
                "suggestions": False,
                "supportedFilesFormat": [],
            }
        )


def _options(alternatives: int, mime_type: MimeType) -> Options:
    """Return a search that is wide enough for so many alternatives beside the best."""
    if not alternatives:
        return Options(mime_type=mime_type)
    return Options(mime_type=mime_type, n_best=alternatives + 1, beam_size=max(4, alternatives + 1))


def _detected(language: str, confidence: float) -> dict[str, Any]:
    return {"language": language, "confidence": round(100 * confidence, 1)}


def _alternatives(found: Routed) -> list[str]:
    return [one.text for one in found.translation.hypotheses[1:]] if found.translation else []
