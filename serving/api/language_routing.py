"""Requests that name languages instead of a model: which model translates, and what ``auto`` means."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from serving.api.models import ModelRegistry, ServedModel
from serving.engine.request import TranslationRequest
from serving.errors import DragomanError, FieldViolation, InvalidRequest, NotFound
from serving.messages import Options, Translation
from serving.observability.call import Call
from serving.text.detection import detect

# A text of which this is sure to be in the target language is left as it is; where the detection errs, a translation of
# a translation does less harm than none.
_SURELY = 0.9


@dataclass(frozen=True)
class Routed:
    """The answer to one text.

    Attributes:
        text: The translation, or the text itself if it is in the target language already.
        source_language: BCP-47 tag as the model has it.
        confidence: Of the detection, 0 to 1; None where the caller named the language.
        model: Label of the model that translated; empty if none had to.
        translation: All of the answer; None if nothing was translated.
    """

    text: str
    source_language: str
    confidence: float | None
    model: str
    translation: Translation | None


class LanguageRouter:
    """Chooser of models by their languages, over all models of a server."""

    def __init__(self, models: ModelRegistry) -> None:
        """Choose among the models that the registry holds at the time of a request."""
        self._models = models

    def targets(self) -> dict[str, list[str]]:
        """Return the languages that each source language can be translated into, all sorted."""
        found = defaultdict[str, list[str]](list)
        for source, target in sorted(self._pairs()):
            found[source].append(target)
        return dict(found)

    def languages(self) -> list[str]:
        """Return every language of a model, on either side, sorted."""
        return sorted({language for pair in self._pairs() for language in pair})

    def pair(self, source_language: str, target_language: str) -> tuple[str, str]:
        """Return two languages that some model translates between, as the model has them.

        Args:
            source_language: BCP-47 tag, whose region a model need not have.
            target_language: The same.

        Raises:
            InvalidRequest: No model does.
        """
        pairs = self._pairs()
        target = self._known("target_language", target_language, {target for _, target in pairs})
        return self._known(
            "source_language", source_language, {source for source, other in pairs if other == target}
        ), target

    async def detect(self, text: str) -> list[tuple[str, float]]:
        """Return the languages of the loaded models that a text may be in, the likeliest first, with probabilities."""
        return await asyncio.to_thread(detect, text, self.languages())

    async def translate(
        self,
        texts: Sequence[str],
        source_language: str,
        target_language: str,
        options: Options,
        *,
        call: Call,
        deadline: float | None,
    ) -> list[Routed]:
        """Translate texts, each by a model for its language.

        Args:
            texts: One or more.
            source_language: BCP-47 tag, whose region a model need not have; empty to detect it text by text.
            target_language: The same.
            options: Of all texts.
            call: That they belong to.
            deadline: See :class:`TranslationRequest`.

        Raises:
            InvalidRequest: No model translates between the languages, or a field is invalid.
            NotFound: The model was unloaded meanwhile.
            DragomanError: As :meth:`serving.engine.translator.Translator.translate`.
        """
        if not texts:
            raise InvalidRequest([FieldViolation("contents", "is empty; give at least one text")])
        pairs = self._pairs()
        target = self._known("target_language", target_language, {target for _, target in pairs})
        sources = {source for source, other in pairs if other == target}
        call.figures["contents"] = len(texts)
        call.spend(sum(map(len, texts)), options.beam_size)
        if source_language:
            source = self._known("source_language", source_language, sources)
            found: list[tuple[str, float | None]] = [(source, None)] * len(texts)
        else:
            found = await asyncio.to_thread(lambda: [_source(text, sources, target) for text in texts])
        pairs = self._pairs()  # models may have gone meanwhile, but none goes while it is in use
        if gone := {source for source, _ in found if source != target and (source, target) not in pairs}:
            raise NotFound(f"no model translates from {', '.join(sorted(gone))} to {target} any more")
        wanted = [pairs.get((source, target)) for source, _ in found]
        groups = {model.label: model for model in wanted if model}
        call.model = next(iter(groups), "")
        with ExitStack() as used:
            for model in groups.values():
                used.enter_context(model.calls.one())
            answers = await self._translated(groups.values(), texts, wanted, options, call, deadline)
        return [
            Routed(answer.text if answer else text, language, confidence, model.label if model else "", answer)
            for text, (language, confidence), model, answer in zip(texts, found, wanted, answers, strict=True)
        ]

    async def _translated(
        self,
        models: Iterable[ServedModel],
        texts: Sequence[str],
        wanted: Sequence[ServedModel | None],
        options: Options,
        call: Call,
        deadline: float | None,
    ) -> list[Translation | None]:
        answers: list[Translation | None] = [None] * len(texts)

        async def translate(model: ServedModel) -> None:
            places = [place for place, other in enumerate(wanted) if other is model]
            request = TranslationRequest(
                texts=tuple(texts[place] for place in places),
                options=options,
                deadline=deadline,
                request_id=call.request_id,
            )
            result = await model.translator.translate(request)
            for place, answer in zip(places, result.translations, strict=True):
                answers[place] = answer

        try:
            async with asyncio.TaskGroup() as group:
                for model in models:
                    group.create_task(translate(model))
        except* DragomanError as failed:
            raise _first(failed) from None
        return answers

    def _pairs(self) -> Mapping[tuple[str, str], ServedModel]:
        """Return the model for each pair of languages: the default one if it can, else the first by name."""
        models = sorted(self._models.models(), key=lambda model: not self._models.is_default(model))
        pairs: dict[tuple[str, str], ServedModel] = {}
        for model in models:
            pairs.setdefault((model.manifest.source_language, model.manifest.target_language), model)
        return pairs

    def _known(self, field: str, asked: str, known: set[str]) -> str:
        """Return the language that is meant: the same, without its region, or the only one with a region."""
        tags = {tag.lower(): tag for tag in known}
        wanted = asked.lower()
        while wanted:
            if wanted in tags:
                return tags[wanted]
            wanted = wanted.rpartition("-")[0]
        closer = [tag for tag in known if asked and tag.lower().startswith(f"{asked.lower()}-")]
        if len(closer) == 1:
            return closer[0]
        served = ", ".join(self._models.served_pairs())
        raise InvalidRequest([FieldViolation(field, f"is {asked!r}, which no model has here; served: {served}")])


def _source(text: str, sources: set[str], target: str) -> tuple[str, float]:
    ranked = detect(text, sources | {target})
    language, confidence = ranked[0]
    if language == target and confidence < _SURELY:
        return next((other for other in ranked if other[0] != target), ranked[0])
    return language, confidence


def _first(group: BaseExceptionGroup[DragomanError]) -> DragomanError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
