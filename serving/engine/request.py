"""A translation request as the engine takes it."""

from __future__ import annotations

from dataclasses import dataclass, field

from serving.errors import FieldViolation
from serving.messages import Options
from serving.score_messages import ScorePair


@dataclass(frozen=True)
class TranslationRequest:
    """Texts to translate with the same options; not checked yet.

    Attributes:
        texts: In the model's source language.
        options: Of all texts.
        deadline: ``time.monotonic()`` value after which nobody waits for the answer, or None.
        request_id: For the log.
        source_language: BCP-47 tag that must be the model's; empty if the caller does not say.
        target_language: The same for the language to translate into.
        served: Language pairs and models to name in the error if a language is not the model's.
        violations: Bad fields that only the transport can see; reported together with all others.
    """

    texts: tuple[str, ...]
    options: Options = field(default_factory=Options)
    deadline: float | None = None
    request_id: str = ""
    source_language: str = ""
    target_language: str = ""
    served: tuple[str, ...] = ()
    violations: tuple[FieldViolation, ...] = ()


@dataclass(frozen=True)
class ScoringRequest:
    """Translations to score; not checked yet.

    Attributes:
        pairs: What to score.
        sources: The request of their sources, with the options that apply.
    """

    pairs: tuple[ScorePair, ...]
    sources: TranslationRequest
