"""What a request may ask for: every limit of every option, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from serving.bundle.manifest import Manifest
from serving.decoding.options import Sampling
from serving.engine.translation import TranslationOptions
from serving.errors import FieldViolation

_MAX_LENGTH_PENALTY = 10.0
_MAX_REPETITION_PENALTY = 100.0
_MAX_TEMPERATURE = 100.0
_INT64 = 2**63


@dataclass(frozen=True)
class ServingLimits:
    """What the operator allows beyond the model's own limits.

    Attributes:
        max_beam_size: Largest beam size.
        max_parts: Parts a text may be split into.
    """

    max_beam_size: int = 16
    max_parts: int = 10_000


def beam_size(options: TranslationOptions, manifest: Manifest) -> int:
    """The beam size a request gets: its own, else 1 for sampling, else the model's."""
    if options.beam_size is not None:
        return options.beam_size
    return 1 if options.sampling else manifest.defaults.beam_size


def option_violations(
    options: TranslationOptions, texts: int, manifest: Manifest, limits: ServingLimits
) -> list[FieldViolation]:
    """Checks every option of a request for ``texts`` texts; one entry for each bad field."""
    found = _Violations()
    longest = manifest.limits.max_target_tokens
    beam = beam_size(options, manifest)
    if found.within("options.beam_size", beam, 1, limits.max_beam_size):
        if options.sampling and beam != 1:
            found.add("options.beam_size", f"is {beam}, but sampling needs 1; leave one of them out")
        found.within("options.n_best", options.n_best, 1, beam, "the beam size")
    else:
        found.within("options.n_best", options.n_best, 1, limits.max_beam_size)
    if options.length_penalty is not None:
        found.within("options.length_penalty", options.length_penalty, 0.0, _MAX_LENGTH_PENALTY)
    if options.max_length is not None and found.within("options.max_length", options.max_length, 1, longest):
        found.within("options.min_length", options.min_length, 0, options.max_length, "options.max_length")
    else:
        found.within("options.min_length", options.min_length, 0, longest)
    found.within("options.no_repeat_ngram_size", options.no_repeat_ngram_size, 0, longest)
    found.above("options.repetition_penalty", options.repetition_penalty, 0.0, _MAX_REPETITION_PENALTY)
    if options.prefixes and len(options.prefixes) != texts:
        found.add(
            "options.target_prefixes",
            f"has {len(options.prefixes)} entries for {texts} texts; give none, or one for each text, possibly empty",
        )
    if options.sampling:
        _check_sampling(found, options.sampling, manifest.vocabulary_size)
    return found.entries


def prefix_violations(
    prefixes: Sequence[tuple[int, ...]], options: TranslationOptions, manifest: Manifest
) -> list[FieldViolation]:
    """Checks that each target prefix, as tokens, leaves the translation within its length limit."""
    longest = manifest.limits.max_target_tokens
    if options.max_length is not None and 1 <= options.max_length <= longest:
        longest = options.max_length
    return [
        FieldViolation(
            f"options.target_prefixes[{index}]",
            f"has {len(prefix)} tokens, but a translation has {longest} at most; shorten it or raise max_length",
        )
        for index, prefix in enumerate(prefixes)
        if len(prefix) > longest
    ]


def _check_sampling(found: _Violations, sampling: Sampling, vocabulary: int) -> None:
    found.above("options.sampling.temperature", sampling.temperature, 0.0, _MAX_TEMPERATURE)
    found.within("options.sampling.top_k", sampling.top_k, 0, vocabulary, "the vocabulary's size")
    found.above("options.sampling.top_p", sampling.top_p, 0.0, 1.0)
    found.within("options.sampling.seed", sampling.seed, -_INT64, _INT64 - 1)


class _Violations:
    """Collects bad fields. NaN is in no range."""

    def __init__(self) -> None:
        self.entries: list[FieldViolation] = []

    def add(self, field: str, description: str) -> None:
        self.entries.append(FieldViolation(field, description))

    def within(self, field: str, value: float, low: float, high: float, high_is: str = "") -> bool:
        if low <= value <= high:
            return True
        limit = f"{high:g}, {high_is}" if high_is else f"{high:g}"
        self.add(field, f"is {value:g}; give a value from {low:g} to {limit}")
        return False

    def above(self, field: str, value: float, low: float, high: float) -> None:
        if not low < value <= high:
            self.add(field, f"is {value:g}; give a value above {low:g}, at most {high:g}")
