"""Language of a text, by py3langid (Lui and Baldwin 2012), whose model of 97 languages is in its package."""

from __future__ import annotations

from functools import cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from training.errors import DataError


@cache
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


class LanguageCheck:
    """Asks whether texts are in one language.

    Args:
        tag: BCP-47 tag; only its first part counts.
        threshold: Least probability that the identifier must give to that language.

    Raises:
        DataError: If the identifier does not know the language.
    """

    def __init__(self, tag: str, threshold: float) -> None:
        self._language, self._threshold = tag.split("-")[0].lower(), threshold
        if self._language not in _identifier().labels:
            raise DataError(
                f"the language filter does not know the language '{tag}'; leave data.filters.language_threshold out."
            )

    def __call__(self, text: str) -> bool:
        """Tell whether the text is likely enough to be in the language; one without any letter is in every language."""
        return not any(map(str.isalpha, text)) or self.probability(text) >= self._threshold

    def probability(self, text: str) -> float:
        """Probability of the language, 0 to 1."""
        return float(dict(_identifier().rank(text)).get(self._language, 0.0))
