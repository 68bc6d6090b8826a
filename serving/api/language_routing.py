"""Requests that name languages instead of a model: which model translates, and what ``auto`` means."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product

from serving.api.models import ModelRegistry, ServedModel
from serving.bundle.manifest import Languages
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


@dataclass(frozen=True)
class _Directions:
    """What some models translate.

    Attributes:
        models: Labels and languages, the default model first.
        labels: Of the model for each pair: of those that can, the first.
        sources: Languages that can be translated into each target.
        languages: Every language, on either side, sorted.
    """

    models: Sequence[tuple[str, Languages]]
    labels: Mapping[tuple[str, str], str]
    sources: Mapping[str, set[str]]
    languages: Sequence[str]

    @classmethod
    def of(cls, models: Sequence[tuple[str, Languages]]) -> _Directions:
        labels: dict[tuple[str, str], str] = {}
        for label, languages in models:
            for pair in product(languages.sources, languages.targets):
                if pair[0] != pair[1] or languages.pair("", "") is not None:  # of several, none becomes itself
                    labels.setdefault(pair, label)
        sources = defaultdict[str, set[str]](set)
        for source, target in labels:
            sources[target].add(source)
        return cls(models, labels, dict(sources), sorted({language for pair in labels for language in pair}))


class LanguageRouter:
    """Chooser of models by their languages, over all models of a server."""

    def __init__(self, models: ModelRegistry) -> None:
        """Choose among the models that the registry holds at the time of a request."""
        self._models = models
        self._known = _Directions.of([])

    def targets(self) -> dict[str, list[str]]:
        """Return the languages that each source language can be translated into, all sorted."""
        found = defaultdict[str, list[str]](list)
        for source, target in sorted(self._directions().labels):
            found[source].append(target)
        return dict(found)

    def languages(self) -> list[str]:
        """Return every language of a model, on either side, sorted."""
        return list(self._directions().languages)

    def pair(self, source_language: str, target_language: str) -> tuple[str, str]:
        """Return two languages that some model translates between, as the model has them.

        Args:
            source_language: BCP-47 tag, whose region a model need not have.
            target_language: The same.

        Raises:
            InvalidRequest: No model does.
        """
        sources = self._directions().sources
        target = self._meant("target_language", target_language, sources)
        return self._meant("source_language", source_language, sources[target]), target

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
        by_target = self._directions().sources
        target = self._meant("target_language", target_language, by_target)
        sources = by_target[target]
        call.figures["contents"] = len(texts)
        call.spend(sum(map(len, texts)))
        if source_language:
            source = self._meant("source_language", source_language, sources)
            found: list[tuple[str, float | None]] = [(source, None)] * len(texts)
        else:
            found = await asyncio.to_thread(lambda: [_source(text, sources, target) for text in texts])
        labels = self._directions().labels  # models may have gone meanwhile, but none goes while it is in use
        if gone := {source for source, _ in found if source != target and (source, target) not in labels}:
            raise NotFound(f"no model translates from {', '.join(sorted(gone))} to {target} any more")
        models = {model.label: model for model in self._models.models()}
        wanted = [models.get(labels.get((source, target), "")) for source, _ in found]
        groups = {model.label: model for model in wanted if model}
        call.model = next(iter(groups), "")
        with ExitStack() as used:
            for model in groups.values():
                used.enter_context(model.calls.one())
            directions = [(model, source) if model else None for model, (source, _) in zip(wanted, found, strict=True)]
            answers = await self._translated(directions, target, texts, options, call, deadline)
        return [
            Routed(answer.text if answer else text, language, confidence, model.label if model else "", answer)
            for text, (language, confidence), model, answer in zip(texts, found, wanted, answers, strict=True)
        ]

    async def _translated(
        self,
        directions: Sequence[tuple[ServedModel, str] | None],
        target: str,
        texts: Sequence[str],
        options: Options,
        call: Call,
        deadline: float | None,
    ) -> list[Translation | None]:
        """Translate each text by the model and from the language in its place; None leaves it as it is."""
        answers: list[Translation | None] = [None] * len(texts)
        groups = defaultdict[tuple[str, str], list[int]](list)
        for place, direction in enumerate(directions):
            if direction is not None:
                groups[direction[0].label, direction[1]].append(place)

        async def translate(places: Sequence[int]) -> None:
            model, source = next(found for place in places if (found := directions[place]) is not None)
            request = TranslationRequest(
                texts=tuple(texts[place] for place in places),
                options=options,
                deadline=deadline,
                request_id=call.request_id,
                source_language=source,
                target_language=target,
                phases=call.phases,
                max_beam=call.max_beam,
            )
            result = await model.translator.translate(request)
            for place, answer in zip(places, result.translations, strict=True):
                answers[place] = answer

        try:
            async with asyncio.TaskGroup() as group:
                for places in groups.values():
                    group.create_task(translate(places))
        except* DragomanError as failed:
            raise _first(failed) from None
        return answers

    def _directions(self) -> _Directions:
        """Return what the models translate, made anew only when they have changed."""
        models = sorted(self._models.models(), key=lambda model: not self._models.is_default(model))
        served = [(model.label, model.manifest.languages) for model in models]
        if served != self._known.models:
            self._known = _Directions.of(served)
        return self._known

    def _meant(self, field: str, asked: str, known: Collection[str]) -> str:
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
