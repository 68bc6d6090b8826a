"""The form of Google Cloud Translation, version 3, on the gRPC port; fields as in ``docs/http.md``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from grpc import aio

from serving.api.language_names import english_name
from serving.api.language_routing import LanguageRouter
from serving.errors import EngineFailure, FieldViolation, InvalidRequest
from serving.messages import MimeType, Options
from serving.observability.call import current_call
from serving.pb.google import translation_service_pb2 as pb
from serving.pb.google import translation_service_pb2_grpc as pb_grpc

_NAMES = {"source_language": "source_language_code", "target_language": "target_language_code"}
_ANY_MODEL = "/models/general/"  # every model of ours is one of its general ones
_MIME_TYPES = {"": MimeType.HTML, "text/html": MimeType.HTML, "text/plain": MimeType.PLAIN}  # HTML is Google's default


class GoogleServicer(pb_grpc.TranslationServiceServicer):
    """Answers Google's clients with the models that have the languages."""

    def __init__(self, router: LanguageRouter) -> None:
        """Translate by the models of ``router``."""
        self._router = router

    async def TranslateText(
        self, request: pb.TranslateTextRequest, context: aio.ServicerContext[Any, Any]
    ) -> pb.TranslateTextResponse:
        """Translate texts, each from its own language unless one is given for all."""
        call = current_call.get()
        if call is None:
            raise EngineFailure("a call came past the interceptor")
        if refused := list(_refused(request)):
            raise InvalidRequest(refused)
        remaining = context.time_remaining()
        with _own_names():
            found = await self._router.translate(
                request.contents,
                request.source_language_code,
                request.target_language_code,
                Options(mime_type=_MIME_TYPES[request.mime_type]),
                call=call,
                deadline=None if remaining is None else time.monotonic() + remaining,
            )
        return pb.TranslateTextResponse(
            translations=[
                pb.Translation(
                    translated_text=one.text,
                    model=one.model,
                    detected_language_code="" if one.confidence is None else one.source_language,
                )
                for one in found
            ]
        )

    async def DetectLanguage(
        self, request: pb.DetectLanguageRequest, context: aio.ServicerContext[Any, Any]
    ) -> pb.DetectLanguageResponse:
        """Tell which loaded languages a text may be in."""
        ranked = await self._router.detect(request.content)
        languages = [pb.DetectedLanguage(language_code=tag, confidence=chance) for tag, chance in ranked]
        return pb.DetectLanguageResponse(languages=languages)

    async def GetSupportedLanguages(
        self, request: pb.GetSupportedLanguagesRequest, context: aio.ServicerContext[Any, Any]
    ) -> pb.SupportedLanguages:
        """List the languages of the loaded models."""
        pairs = self._router.targets()
        targets = {target for some in pairs.values() for target in some}
        return pb.SupportedLanguages(
            languages=[
                pb.SupportedLanguage(
                    language_code=tag,
                    display_name=english_name(tag) if request.display_language_code else "",
                    support_source=tag in pairs,
                    support_target=tag in targets,
                )
                for tag in self._router.languages()
            ]
        )


def _refused(request: pb.TranslateTextRequest) -> Iterator[FieldViolation]:
    """Find what a request asks for and would not get."""
    if request.mime_type not in _MIME_TYPES:
        yield FieldViolation("mime_type", f"is {request.mime_type!r}; give text/plain or text/html")
    if request.model and _ANY_MODEL not in request.model:
        yield FieldViolation("model", f"is {request.model!r}; leave it out, as models are found by their languages")
    if request.HasField("glossary_config"):
        problem = "names a glossary that is at Google; leave it out, and give terms to Translate of dragoman.v1"
        yield FieldViolation("glossary_config", problem)
    if request.transliteration_config.enable_transliteration:
        yield FieldViolation("transliteration_config", "is not honoured here; leave it out")


@contextmanager
def _own_names() -> Iterator[None]:
    try:
        yield
    except InvalidRequest as error:
        raise error.renamed(_NAMES) from None
