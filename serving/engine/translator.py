"""Text in, translations out: validates, splits, tokenises, decodes through the engine, and puts texts together again."""

from __future__ import annotations

from serving.engine.translation import TranslationRequest, TranslationResult


class Translator:
    """One loaded model behind its engine."""

    async def translate(self, request: TranslationRequest) -> TranslationResult:
        """Translates every text of a request.

        Cancelling the awaiting task cancels the sentences in flight; their slots are free within two steps.

        Raises:
            InvalidRequest: A bad option, or a text too long under REJECT.
            Overloaded: The queue or its token budget is full.
            Unavailable: The engine is draining.
            DeadlineExceeded: The deadline passed, or cannot be met.
            EngineFailure: The runtime failed.
        """
        raise NotImplementedError
