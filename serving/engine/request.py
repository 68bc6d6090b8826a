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
        source_language: BCP-47 tag of one of the model's sources; may be empty where there is only one.
        target_language: The same for the language to translate into.
        served: Language pairs and models to name in the error if a language is not the model's.
        phases: Where name, start and end (``time.monotonic()``) of each phase are noted, or None.
        max_beam: Largest beam size that the caller may have; 0 is the operator's limit.
        violations: Bad fields that only the transport can see; reported together with all others.
    """

    texts: tuple[str, ...]
    options: Options = field(default_factory=Options)
    deadline: float | None = None
    request_id: str = ""
    source_language: str = ""
    target_language: str = ""
    served: tuple[str, ...] = ()
    phases: list[tuple[str, float, float]] | None = None
    max_beam: int = 0
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
