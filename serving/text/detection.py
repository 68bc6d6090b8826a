"""Which language a text is in, among some that are possible.

py3langid (BSD, 4 MB with its model, NumPy only) tells 97 languages by the bytes they use, and is unsure where a text
says little. lingua is better at single words, and has a hundred megabytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

_MOST_CHARACTERS = 2000  # more make a detection slower and no surer


def detect(text: str, among: Iterable[str]) -> list[tuple[str, float]]:
    """Return the languages that a text may be in with their probabilities, the likeliest first.

    The first call loads the model, which takes about a second. Safe to call from any thread.

    Args:
        text: In any language.
        among: BCP-47 tags of the possible languages. One that the model does not know is found only if it is the only
            one.
    """
    tags = {tag.partition("-")[0].lower(): tag for tag in sorted(set(among), reverse=True)}
    if len(tags) < 2:
        return [(tag, 1.0) for tag in tags.values()]
    ranked = [(tags[code], chance) for code, chance in _identifier().rank(text[:_MOST_CHARACTERS]) if code in tags]
    whole = sum(chance for _, chance in ranked) or 1.0
    return [(tag, chance / whole) for tag, chance in ranked]


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
