"""Text in, translations out: tokenise, decode through the engine, and put texts together again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from serving.bundle.manifest import Manifest
from serving.bundle.tokenizer import SubwordTokenizer
from serving.engine.attention import attentive, with_attention
from serving.engine.engine import Engine
from serving.engine.observer import TranslatorObserver
from serving.engine.postprocessing import assemble
from serving.engine.preprocessing import Prepared, prepare
from serving.engine.request import ScoringRequest, TranslationRequest
from serving.engine.retry import better, second_tries
from serving.engine.scoring import prepare_scoring, scores
from serving.engine.streaming import TranslationStream
from serving.engine.submission import Decoded, Sentence
from serving.engine.validation import ServingLimits
from serving.errors import DragomanError
from serving.messages import Result, TextDelta
from serving.score_messages import ScoreResult

_INLINE_CHARACTERS = 4096  # tokenised on the caller's thread: cheaper than handing it over
_TOKENIZER_THREADS = 2
# The longest sentence of a text has that many tokens or more, mostly: what is refused for it would be refused anyway.
_CHARACTERS_A_TOKEN, _CHARACTERS_A_SENTENCE = 6, 60

_Done = TypeVar("_Done")


class Translator:
    """One loaded model behind its engine; safe to use from any thread and any event loop."""

    def __init__(
        self,
        manifest: Manifest,
        tokenizer: SubwordTokenizer,
        engine: Engine,
        *,
        limits: ServingLimits | None = None,
        observer: TranslatorObserver | None = None,
    ) -> None:
        """Start the tokenizer's threads; :meth:`close` ends them, but not the engine."""
        self._manifest = manifest
        self._tokenizer = tokenizer
        self._engine = engine
        self._limits = limits or ServingLimits()
        self._observer = observer or TranslatorObserver()
        self._pool = ThreadPoolExecutor(_TOKENIZER_THREADS, thread_name_prefix="tokenizer")

    async def translate(self, request: TranslationRequest) -> Result:
        """Translate every text of a request.

        All sentences are accepted or none; if one fails, the others are cancelled. Cancelling the awaiting task cancels
        the sentences in flight; their slots are free within two steps, or a few milliseconds if these are shorter.

        Raises:
            InvalidRequest: With every bad field of the request.
            Overloaded: The queue or its token budget is full.
            Unavailable: The engine is draining.
            DeadlineExceeded: The deadline passed, or cannot be met.
            EngineFailure: The runtime failed.
        """
        characters = sum(len(text) for text in request.texts)
        self._check(request)
        prepared = await self._off_loop(characters, lambda: self._prepare(request))
        decoded = await self._decode(prepared.sentences)
        decoded = await self._attended(request, prepared, await self._tried_again(request, prepared, decoded))
        return await self._off_loop(characters, lambda: self._assemble(request, prepared, decoded))

    async def stream(self, request: TranslationRequest) -> AsyncGenerator[TextDelta | Result]:
        """Translate every text of a request and yield what is certain of them as they grow, then the result.

        The deltas of a text, put together, are the text of its best hypothesis, and the result is that of
        :meth:`translate`.
        Closing the generator cancels the sentences in flight.

        Raises:
            DragomanError: As :meth:`translate`.
        """
        loop, changed = asyncio.get_running_loop(), asyncio.Event()

        def on_change() -> None:
            with suppress(RuntimeError):  # the loop has been closed: nobody waits
                loop.call_soon_threadsafe(changed.set)

        characters = sum(len(text) for text in request.texts)
        self._check(request)
        prepared = await self._off_loop(characters, lambda: self._prepare(request))
        retries = request.options.retry_repetition
        stream = TranslationStream(prepared, self._tokenizer, retries=retries, on_change=on_change)
        submission = self._engine.submit(prepared.sentences, stream)
        try:
            submission.future.add_done_callback(lambda _: on_change())
            while not submission.future.done():
                await changed.wait()
                changed.clear()
                for delta in stream.deltas():
                    yield delta
            decoded = await self._tried_again(request, prepared, submission.future.result())
            decoded = await self._attended(request, prepared, decoded)
            result = await self._off_loop(characters, lambda: self._assemble(request, prepared, decoded))
            for delta in stream.rest(result):
                yield delta
            yield result
        finally:
            submission.cancel()

    def translate_blocking(self, request: TranslationRequest) -> Result:
        """Translate without an event loop, for tools and benchmarks.

        Raises:
            DragomanError: As :meth:`translate`.
        """
        prepared = self._prepare(request)
        decoded = self._engine.submit(prepared.sentences).future.result()
        if again := self._second_tries(request, prepared, decoded):
            with suppress(DragomanError):
                decoded = better(decoded, again, self._engine.submit(tuple(again.values())).future.result())
        if request.options.attention:
            given = attentive(prepared.sentences, decoded)
            decoded = with_attention(decoded, given, self._engine.submit(tuple(given.values())).future.result())
        return self._assemble(request, prepared, decoded)

    async def score(self, request: ScoringRequest) -> ScoreResult:
        """Tell how probable the model finds given translations.

        Raises:
            DragomanError: As :meth:`translate`.
        """
        characters = sum(len(pair.source) + len(pair.target) for pair in request.pairs)
        self._check(request.sources)
        manifest, tokenizer, limits = self._manifest, self._tokenizer, self._limits.of(request.sources)
        prepared = await self._off_loop(characters, lambda: prepare_scoring(request, manifest, tokenizer, limits))
        decoded = await self._decode(prepared.sentences)
        return scores(request, prepared, decoded, manifest, tokenizer)

    def close(self) -> None:
        """End the tokenizer's threads."""
        self._pool.shutdown()

    def _check(self, request: TranslationRequest) -> None:
        """Refuse a request before work is spent on it, if its sentences would be refused."""
        longest = min(max(map(len, request.texts), default=0), _CHARACTERS_A_SENTENCE)
        tokens = max(1, longest // _CHARACTERS_A_TOKEN)
        self._engine.check(len(request.texts), tokens, request.deadline, request.options.priority)

    async def _decode(self, sentences: Sequence[Sentence]) -> tuple[Decoded, ...]:
        submission = self._engine.submit(sentences)
        try:
            return await asyncio.wrap_future(submission.future)
        except asyncio.CancelledError:
            submission.cancel()
            raise

    async def _tried_again(
        self, request: TranslationRequest, prepared: Prepared, decoded: tuple[Decoded, ...]
    ) -> tuple[Decoded, ...]:
        if again := self._second_tries(request, prepared, decoded):
            with suppress(DragomanError):  # the first answer is there
                return better(decoded, again, await self._decode(tuple(again.values())))
        return decoded

    async def _attended(
        self, request: TranslationRequest, prepared: Prepared, decoded: tuple[Decoded, ...]
    ) -> tuple[Decoded, ...]:
        if not request.options.attention:
            return decoded
        given = attentive(prepared.sentences, decoded)
        return with_attention(decoded, given, await self._decode(tuple(given.values())))

    @staticmethod
    def _second_tries(
        request: TranslationRequest, prepared: Prepared, decoded: Sequence[Decoded]
    ) -> dict[int, Sentence]:
        return second_tries(prepared.sentences, decoded) if request.options.retry_repetition else {}

    async def _off_loop(self, characters: int, work: Callable[[], _Done]) -> _Done:
        if characters <= _INLINE_CHARACTERS:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def _prepare(self, request: TranslationRequest) -> Prepared:
        started = time.monotonic()
        prepared = prepare(request, self._manifest, self._tokenizer, self._limits.of(request))
        lengths = [len(sentence.source) - 1 for sentence in prepared.sentences]
        ended = time.monotonic()
        self._observer.tokenized(ended - started, lengths)
        if request.phases is not None:
            request.phases.append(("tokenize", started, ended))
        return prepared

    def _assemble(self, request: TranslationRequest, prepared: Prepared, decoded: Sequence[Decoded]) -> Result:
        started = time.monotonic()
        result = assemble(request, prepared, decoded, self._manifest, self._tokenizer)
        ended = time.monotonic()
        self._observer.detokenized(ended - started)
        if request.phases is not None:
            request.phases.extend([*_phases(decoded), ("detokenize", started, ended)])
        for translation in result.translations:
            for flag in translation.flags:
                self._observer.flagged(flag)
        return result


def _phases(decoded: Sequence[Decoded]) -> list[tuple[str, float, float]]:
    """Return the phases of a request in the engine, each from its first sentence's to its last one's."""
    if not decoded:
        return []
    first, last = min(one.admitted for one in decoded), max(one.admitted for one in decoded)
    encoded = min(one.encoded for one in decoded), max(one.encoded for one in decoded)
    return [
        ("queue", min(one.accepted for one in decoded), last),
        ("encode", first, encoded[1]),
        ("decode", encoded[0], max(one.finished for one in decoded)),
    ]
