"""Clean sentence pairs and drop those that would teach a model nothing, counting what each filter removed."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from training.data.duplicates import mark_duplicates
from training.data.language import LanguageCheck
from training.data.parallel_text import Pair
from training.errors import DataError

# Controls that are not white space, the zero-width space, the byte order mark, and lone surrogates, which UTF-8 cannot
# hold. serving/bundle/tokenizer.py treats text alike; tests/parity compares the two.
_INVISIBLE = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u200b\ufeff\ud800-\udfff]")

Normalization = Literal["none", "nfc", "nfkc"]


@dataclass(frozen=True, kw_only=True)
class FilterSettings:
    """Limits on a pair; lengths are counted in words split at white space.

    Attributes:
        normalization: Unicode form that texts are brought to.
        max_words: Longest side kept.
        max_ratio: Longer side over shorter one, each plus ``ratio_slack``, may not exceed this.
        ratio_slack: Words added to both sides, so that short sentences may differ more.
        drop_identical: Drop pairs whose sides are equal but for case (untranslated text).
        drop_duplicates: Keep a pair of texts once, the first time.
        language_threshold: Least probability, by py3langid, that each side is in its language; None is off.
    """

    normalization: Normalization = "nfkc"
    max_words: int = 100
    max_ratio: float = 2.5
    ratio_slack: int = 3
    drop_identical: bool = True
    drop_duplicates: bool = True
    language_threshold: float | None = None

    def __post_init__(self) -> None:
        """Check the limits.

        Raises:
            DataError: If a limit would drop every pair.
        """
        if self.max_words < 1 or self.max_ratio < 1.0 or self.ratio_slack < 0:
            raise DataError(
                f"data.filters would drop every pair: max_words {self.max_words} and max_ratio {self.max_ratio} must "
                f"be at least 1, ratio_slack {self.ratio_slack} at least 0."
            )


@dataclass
class FilterReport:
    """Numbers of pairs read, kept, and removed by each filter, and the labels of those kept."""

    read: int = 0
    kept: int = 0
    removed: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)

    def summary(self) -> str:
        """One line for the log."""
        removed = ", ".join(f"{name} {count}" for name, count in sorted(self.removed.items())) or "nothing"
        return f"read {self.read} pairs, kept {self.kept}; removed by filter: {removed}"


def clean_text(text: str, normalization: Normalization = "nfkc") -> str:
    """Normalise Unicode, drop control and zero-width characters, and collapse white space."""
    if normalization != "none":
        text = unicodedata.normalize("NFC" if normalization == "nfc" else "NFKC", text)
    return " ".join(_INVISIBLE.sub("", text).split())


class PairFilter:
    """Says which filter a cleaned pair fails.

    Args:
        settings: The limits.
        languages: BCP-47 tags of source and target.

    Raises:
        DataError: If the language filter is on and does not know a language.
    """

    def __init__(self, settings: FilterSettings, languages: tuple[str, str]) -> None:
        self.settings = settings
        threshold = settings.language_threshold
        self._languages = [] if threshold is None else [LanguageCheck(tag, threshold) for tag in languages]

    def rejection(self, pair: Pair) -> str | None:
        """Name the first filter that the pair fails, or None if it may stay."""
        settings, texts = self.settings, (pair.source, pair.target)
        shorter, longer = sorted(len(text.split()) for text in texts)
        if shorter == 0:
            return "empty"
        if longer > settings.max_words:
            return "too_long"
        if (longer + settings.ratio_slack) > settings.max_ratio * (shorter + settings.ratio_slack):
            return "length_ratio"
        if settings.drop_identical and pair.source.casefold() == pair.target.casefold():
            return "identical"
        if not all(check(text) for check, text in zip(self._languages, texts, strict=False)):
            return "language"
        return None


def clean_pairs(
    pairs: Iterable[Pair],
    settings: FilterSettings,
    languages: tuple[str, str],
    labels: frozenset[str] | None,
    report: FilterReport,
) -> Iterator[Pair]:
    """Stream the cleaned pairs that pass every filter.

    Args:
        pairs: Raw pairs.
        settings: The filters' limits.
        languages: BCP-47 tags of source and target.
        labels: Labels to keep, or None for all.
        report: Updated in place while the stream is read.
    """
    filters = PairFilter(settings, languages)

    def passing() -> Iterator[Pair]:
        for raw in pairs:
            report.read += 1
            label = " ".join(raw.label.split())
            if labels is not None and label not in labels:
                report.removed["label"] += 1
                continue
            source, target = (clean_text(text, settings.normalization) for text in (raw.source, raw.target))
            pair = Pair(source, target, label)
            reason = filters.rejection(pair)
            if reason is None:
                yield pair
            else:
                report.removed[reason] += 1

    marked = mark_duplicates(passing()) if settings.drop_duplicates else ((pair, False) for pair in passing())
    for pair, duplicate in marked:
        if duplicate:
            report.removed["duplicate"] += 1
            continue
        report.kept += 1
        report.labels[pair.label] += 1
        yield pair
