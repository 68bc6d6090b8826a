"""Clean sentence pairs and drop those that would teach a model nothing, counting what each filter removed."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from training.data.parallel_text import Pair

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u200b\ufeff]")


@dataclass(frozen=True, kw_only=True)
class FilterSettings:
    """Limits on a pair; lengths are counted in words split at white space.

    Attributes:
        max_words: Longest side kept.
        max_ratio: Longer side over shorter one, each plus `ratio_slack`, may not exceed this.
        ratio_slack: Words added to both sides, so that short sentences may differ more.
        drop_identical: Drop pairs whose sides are equal but for case (untranslated text).
    """

    max_words: int = 100
    max_ratio: float = 2.5
    ratio_slack: int = 3
    drop_identical: bool = True


@dataclass
class FilterReport:
    """How many pairs were read, kept, and removed by each filter."""

    read: int = 0
    kept: int = 0
    removed: Counter[str] = field(default_factory=Counter)

    def summary(self) -> str:
        """One line for the log."""
        removed = ", ".join(f"{name} {count}" for name, count in sorted(self.removed.items())) or "nothing"
        return f"read {self.read} pairs, kept {self.kept}; removed by filter: {removed}"


def clean_text(text: str) -> str:
    """Normalise to Unicode NFC, drop control and zero-width characters, and collapse white space."""
    return " ".join(_CONTROLS.sub("", unicodedata.normalize("NFC", text)).split())


def rejection(pair: Pair, settings: FilterSettings) -> str | None:
    """Name the first filter that a cleaned pair fails, or return None if it may stay."""
    lengths = sorted((len(pair.source.split()), len(pair.target.split())))
    if lengths[0] == 0:
        return "empty"
    if lengths[1] > settings.max_words:
        return "too_long"
    if (lengths[1] + settings.ratio_slack) > settings.max_ratio * (lengths[0] + settings.ratio_slack):
        return "length_ratio"
    if settings.drop_identical and pair.source.casefold() == pair.target.casefold():
        return "identical"
    return None


def clean_pairs(
    pairs: Iterable[Pair], settings: FilterSettings, labels: frozenset[str] | None, report: FilterReport
) -> Iterator[Pair]:
    """Stream the cleaned pairs that pass every filter.

    Args:
        pairs: Raw pairs.
        settings: The filters' limits.
        labels: Labels to keep, or None for all.
        report: Updated in place while the stream is read.
    """
    for raw in pairs:
        report.read += 1
        if labels is not None and raw.label not in labels:
            report.removed["label"] += 1
            continue
        pair = Pair(clean_text(raw.source), clean_text(raw.target), raw.label)
        reason = rejection(pair, settings)
        if reason is not None:
            report.removed[reason] += 1
            continue
        report.kept += 1
        yield pair
