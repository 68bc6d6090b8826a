"""Checks of a request against the limits of its model and of the operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

from serving.bundle.manifest import Manifest
from serving.engine.request import TranslationRequest
from serving.errors import FieldViolation
from serving.messages import Bounds, Options, Sampling

_MOST_ENTRIES = 1000  # of a glossary


@dataclass(frozen=True)
class ServingLimits:
    """The operator's limits, beside those of the model.

    Attributes:
        max_beam_size: Largest beam size.
        max_parts: Parts a text may be split into.
        max_contents: Texts in one request.
        max_characters: Characters of all its texts.
    """

    max_beam_size: int = 16
    max_parts: int = 10_000
    max_contents: int = 10_000
    max_characters: int = 1_000_000

    def of(self, request: TranslationRequest) -> ServingLimits:
        """Return the limits of a request, whose caller may have a smaller beam."""
        if not 0 < request.max_beam < self.max_beam_size:
            return self
        return replace(self, max_beam_size=request.max_beam)


def beam_size(options: Options, manifest: Manifest, limits: ServingLimits) -> int:
    """Return the beam size a request gets: its own, else 1 for sampling, else the model's, as far as it is allowed.

    Alternatives that differ have a beam each: without one of their own, as much of the model's as there is room for.
    """
    if options.beam_size is not None:
        return options.beam_size
    if options.diversity_penalty:
        return max(1, min(manifest.defaults.beam_size, limits.max_beam_size // max(options.n_best, 1)))
    return 1 if options.sampling else min(manifest.defaults.beam_size, limits.max_beam_size)


def request_violations(
    request: TranslationRequest, manifest: Manifest, limits: ServingLimits, *, beside: int = 0
) -> list[FieldViolation]:
    """Check all of a request that can be checked before its texts are tokenised; one entry for each bad field.

    Args:
        request: To check.
        manifest: Of its model.
        limits: Of the operator.
        beside: Characters that are to be tokenised beside its texts.
    """
    return [
        *_size_violations(request.texts, beside, limits),
        *request.violations,
        *_language_violations(request, manifest),
        *_glossary_violations(request.options),
        *_option_violations(request.options, len(request.texts), manifest, limits),
    ]


def prefix_violations(
    prefixes: Sequence[tuple[int, ...]], options: Options, manifest: Manifest, limits: ServingLimits
) -> list[FieldViolation]:
    """Check that each target prefix, as tokens, leaves the translation within its length limit."""
    longest, _ = _ceilings(options, manifest, limits)["max_length"]
    return [
        FieldViolation(
            f"options.target_prefixes[{index}]",
            f"has {len(prefix)} tokens, but a translation has {longest} at most; shorten it or raise max_length",
        )
        for index, prefix in enumerate(prefixes)
        if len(prefix) > longest
    ]


def _glossary_violations(options: Options) -> list[FieldViolation]:
    found = []
    if len(options.glossary) > _MOST_ENTRIES:
        problem = f"has {len(options.glossary)} entries, at most {_MOST_ENTRIES} are allowed; send those that occur"
        found.append(FieldViolation("glossary", problem))
    elif options.glossary and options.sampling:
        found.append(FieldViolation("glossary", "is given with options.sampling; leave one of them out"))
    first: dict[str, int] = {}
    for index, entry in enumerate(options.glossary[:_MOST_ENTRIES]):
        for field, term in (("source", entry.source), ("target", entry.target)):
            if not term.strip():
                found.append(FieldViolation(f"glossary[{index}].{field}", "is blank; give a term"))
        if first.setdefault(entry.source, index) != index:
            problem = f"is {entry.source!r}, as in entry {first[entry.source]}; give each term once"
            found.append(FieldViolation(f"glossary[{index}].source", problem))
    return found


def _size_violations(texts: Sequence[str], beside: int, limits: ServingLimits) -> list[FieldViolation]:
    count, characters = len(texts), sum(map(len, texts)) + beside
    if not count:
        return [FieldViolation("contents", "is empty; give at least one text")]
    if count > limits.max_contents:
        problem = f"has {count} texts, at most {limits.max_contents} are allowed; send several calls"
        return [FieldViolation("contents", problem)]
    if characters > limits.max_characters:
        problem = f"has {characters} characters, at most {limits.max_characters} are allowed; send several calls"
        return [FieldViolation("contents", problem)]
    return []


def _language_violations(request: TranslationRequest, manifest: Manifest) -> list[FieldViolation]:
    languages, served = manifest.languages, ", ".join(request.served)
    found = []
    for side, asked, table, known in (
        ("source", request.source_language, languages.sources, languages.has(request.source_language, "")),
        ("target", request.target_language, languages.targets, languages.has("", request.target_language)),
    ):
        if not known:
            problem = f"is {asked!r}, but {manifest.label} translates {languages.in_words}; served: {served}"
        elif not asked and len(table) > 1:
            problem = f"is missing, and {manifest.label} translates {languages.in_words}; name one"
        else:
            continue
        found.append(FieldViolation(f"{side}_language", problem))
    return found


def _option_violations(options: Options, texts: int, manifest: Manifest, limits: ServingLimits) -> list[FieldViolation]:
    options = replace(options, beam_size=beam_size(options, manifest, limits))
    ceilings = _ceilings(options, manifest, limits)
    found = _out_of_bounds("options", options, ceilings)
    if options.sampling and options.beam_size != 1 and not any(v.field == "options.beam_size" for v in found):
        problem = f"is {options.beam_size}, but sampling needs 1; leave one of them out"
        found.insert(0, FieldViolation("options.beam_size", problem))
    if options.diversity_penalty and (options.sampling or options.glossary):
        problem = "is given with sampling or a glossary; leave one of them out"
        found.append(FieldViolation("options.diversity_penalty", problem))
    if options.target_prefixes and len(options.target_prefixes) != texts:
        problem = f"has {len(options.target_prefixes)} entries for {texts} texts"
        problem += "; give none, or one for each text, possibly empty"
        found.append(FieldViolation("options.target_prefixes", problem))
    if options.attention and not manifest.has_attention:
        problem = f"is set, but {manifest.label} does not tell its attention"
        found.append(FieldViolation("include_attention", f"{problem}; leave it out, or export the model anew"))
    found += [
        FieldViolation(f"protected_terms[{index}]", "is empty; leave it out")
        for index, term in enumerate(options.protected_terms)
        if not term
    ]
    if options.sampling:
        found += _out_of_bounds("options.sampling", options.sampling, ceilings)
    return found


def _ceilings(options: Options, manifest: Manifest, limits: ServingLimits) -> dict[str, tuple[float, str]]:
    """Return the value of each limit that bounds refer to by name, with words for it where its name is not enough."""
    beam, longest = options.beam_size, manifest.limits.max_target_tokens
    named: dict[str, tuple[float, str]] = {
        "max_beam_size": (limits.max_beam_size, ""),
        "beam_size": (limits.max_beam_size, ""),
        "max_target_tokens": (longest, ""),
        "max_length": (longest, ""),
        "vocabulary_size": (manifest.vocabulary_size, "the vocabulary's size"),
    }
    # An option that is itself out of bounds limits no other.
    if beam is not None and 1 <= beam <= limits.max_beam_size:
        named["beam_size"] = beam, "the beam size"
        if options.diversity_penalty:
            named["beam_size"] = limits.max_beam_size // beam, f"the beams of size {beam} that there is room for"
    if options.max_length is not None and 1 <= options.max_length <= longest:
        named["max_length"] = options.max_length, "options.max_length"
    return named


def _out_of_bounds(
    path: str, record: Options | Sampling, ceilings: Mapping[str, tuple[float, str]]
) -> list[FieldViolation]:
    """Check each option that has bounds and is set. NaN is within no bounds."""
    found = []
    for option in fields(record):
        bounds: Bounds | None = option.metadata.get("bounds")
        value = getattr(record, option.name)
        if bounds is None or value is None:
            continue
        high, meaning = ceilings[bounds.high] if isinstance(bounds.high, str) else (bounds.high, "")
        if bounds.low <= value <= high and not (bounds.exclusive and value == bounds.low):
            continue
        limit = f"{high:g}, {meaning}" if meaning else f"{high:g}"
        allowed = f"above {bounds.low:g}, at most {limit}" if bounds.exclusive else f"from {bounds.low:g} to {limit}"
        place = option.name if option.metadata["of_request"] else f"{path}.{option.name}"
        found.append(FieldViolation(place, f"is {value:g}; give a value {allowed}"))
    return found
