"""The form of DeepL's API, version 2: translation, languages, usage; fields as in ``docs/http.md``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from serving.api.access import only_token
from serving.api.errors import http_status_of, status_of
from serving.api.glossaries import GlossaryStore
from serving.api.language_names import english_name
from serving.api.language_routing import LanguageRouter
from serving.api.web.endpoint import Asked, Dialect, Endpoints
from serving.api.web.exchange import Exchange, Fields
from serving.errors import FieldViolation, InvalidRequest, Unauthenticated
from serving.glossary_table import entries_for
from serving.messages import GlossaryEntry, LongInput, MimeType, Options, Segmentation

TRANSLATE_FIELDS = (
    "text",
    "source_lang",
    "target_lang",
    "split_sentences",
    "tag_handling",
    "preserve_formatting",
    "formality",
    "glossary_id",
    "show_billed_characters",
)
IGNORED_FIELDS = ("context", "model_type", "outline_detection", "tag_handling_version", "enable_beta_languages")
# With long_input: the whole text is one unit, and what is too long for a model is cut as little as possible.
_SPLIT_SENTENCES = {
    "1": (Segmentation.SENTENCES, None),
    "0": (Segmentation.NONE, LongInput.SPLIT),
    "nonewlines": (Segmentation.NONE, LongInput.SPLIT),
}
_TAG_HANDLING = {"": MimeType.PLAIN, "html": MimeType.HTML, "xml": MimeType.XML}
_FORMALITY = ("default", "prefer_more", "prefer_less")
# Regions that are asked for by name though a model of the language has none: these clients refuse the bare language.
_REGIONS = {"en": ("EN-GB", "EN-US"), "pt": ("PT-PT", "PT-BR")}
_NO_LIMIT = 10**12  # characters; what DeepL sends where an account has no limit


async def _key(exchange: Exchange) -> str:
    return only_token(exchange.authorization, "deepl-auth-key")


def _failure(error: BaseException, request_id: str) -> tuple[int, dict[str, Any]]:
    status = 403 if isinstance(error, Unauthenticated) else http_status_of(error)
    return status, {"message": status_of(error, request_id).message}


_NAMES = {"contents": "text", "source_language": "source_lang", "target_language": "target_lang"}
DEEPL = Dialect(_key, _failure, _NAMES)


class DeepL:
    """Answers in the form of DeepL."""

    def __init__(self, router: LanguageRouter, glossaries: GlossaryStore) -> None:
        """Translate by the models of ``router``, with the terms of callers' ``glossaries``."""
        self._router = router
        self._glossaries = glossaries
        self._characters = Counter[str]()  # by caller, since this process began

    def routes(self, endpoints: Endpoints) -> list[Route]:
        """Return all routes of the form but those of glossaries."""
        return [
            endpoints.route("POST", "/v2/translate", self.translate, DEEPL, translates=True),
            endpoints.route("GET", "/v2/languages", self.languages, DEEPL),
            endpoints.route("GET", "/v2/usage", self.usage, DEEPL),
        ]

    async def translate(self, asked: Asked) -> Response:
        """Translate a list of texts, each from its own language unless one is given for all."""
        fields = Fields(await asked.exchange.fields(), known=TRANSLATE_FIELDS, ignored=IGNORED_FIELDS)
        fields.choice("formality", _FORMALITY, "default")
        fields.switch("preserve_formatting")
        segmentation, long_input = _SPLIT_SENTENCES[fields.choice("split_sentences", _SPLIT_SENTENCES, "1")]
        mime_type = _TAG_HANDLING[fields.choice("tag_handling", _TAG_HANDLING, "")]
        texts = fields.texts("text")
        source, target = fields.text("source_lang", ""), fields.text("target_lang")
        glossary_id = fields.text("glossary_id", "")
        entries = self._entries(asked.caller, glossary_id, source, target, texts) if glossary_id else ()
        found = await self._router.translate(
            texts,
            source,
            target,
            Options(segmentation=segmentation, long_input=long_input, mime_type=mime_type, glossary=entries),
            call=asked.call,
            deadline=asked.deadline,
        )
        self._characters[asked.caller] += sum(map(len, texts))
        translations: list[dict[str, Any]] = [
            {"detected_source_language": one.source_language.upper(), "text": one.text} for one in found
        ]
        if fields.switch("show_billed_characters"):
            for text, translation in zip(texts, translations, strict=True):
                translation["billed_characters"] = len(text)
        return JSONResponse({"translations": translations})

    def _entries(
        self, caller: str, glossary_id: str, source: str, target: str, texts: Sequence[str]
    ) -> tuple[GlossaryEntry, ...]:
        if not source:
            raise InvalidRequest(
                [FieldViolation("source_lang", "is missing; a glossary needs the language of the text")]
            )
        glossary = self._glossaries.get(caller, glossary_id)
        pair = glossary.source_language, glossary.target_language
        if self._router.pair(source, target) != pair:
            problem = f"is a glossary from {pair[0]} to {pair[1]}; name one of the languages that are asked for"
            raise InvalidRequest([FieldViolation("glossary_id", problem)])
        return entries_for(glossary.entries, texts)

    async def languages(self, asked: Asked) -> Response:
        """List the languages of one side of the models."""
        fields = Fields(await asked.exchange.fields(), known=("type",))
        pairs = self._router.targets()
        if fields.choice("type", ("source", "target"), "source") == "source":
            return JSONResponse([{"language": tag.upper(), "name": english_name(tag)} for tag in pairs])
        tags = sorted({target for targets in pairs.values() for target in targets})
        return JSONResponse(
            [
                {"language": code, "name": english_name(code), "supports_formality": False}
                for tag in tags
                for code in _REGIONS.get(tag, (tag.upper(),))
            ]
        )

    async def usage(self, asked: Asked) -> Response:
        """Tell how many characters the caller has had translated since this process began."""
        return JSONResponse({"character_count": self._characters[asked.caller], "character_limit": _NO_LIMIT})
