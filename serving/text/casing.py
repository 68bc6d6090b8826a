"""Texts all in capitals or In Title Case: lowered for the model, which learnt from sentences, and raised again."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum

_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")
_FIRST = re.compile(r"[^\W_]")
_SHORT = 3  # letters of a word that titles may leave small
_FEW = 4  # words that may be a name, and more than that with a capital each are not
_ACRONYM = 5  # letters of a single word that may be one


class Case(Enum):
    """The case of a text."""

    SENTENCE = "sentence"
    CAPITALS = "capitals"
    TITLE = "title"
    WORDS = "every word"


def case_of(text: str) -> Case:
    """Return the case of a text; one word in capitals may be an acronym, few capitalised words a name."""
    if text.isupper():
        words = _WORD.findall(text)
        return Case.CAPITALS if len(words) > 1 or len("".join(words)) > _ACRONYM else Case.SENTENCE
    if not text[:1].isupper():
        return Case.SENTENCE
    words = _WORD.findall(text)
    long = [word for word in words if len(word) > _SHORT]
    if len(words) > _FEW and not any(map(_begins_small, text.split())) and not all(map(str.isupper, long)):
        return Case.WORDS  # with its full stop: no sentence has so many capitals
    if text[-1] in ".!?":
        return Case.SENTENCE
    titled = len(words) > 3 and len(long) > 2 and all(word[0].isupper() and not word.isupper() for word in long)
    return Case.TITLE if titled else Case.SENTENCE


def lowered(text: str, length: Callable[[str], int], language: str) -> str:
    """Return a text in the case of a sentence, of the same length.

    Args:
        text: In capitals or title case.
        length: Tokens of a word. A word that has fewer with a capital is a name, which keeps it.
        language: BCP-47 tag; Turkish and Azerbaijani have an i of their own.
    """
    turkish = _is_turkish(language)

    def lower(match: re.Match[str]) -> str:
        word = match.group()
        small = word.replace("I", "\u0131").replace("\u0130", "i") if turkish else word
        small = _same_length(small, small.lower(), str.lower)
        capital = word[0] + small[1:]
        first = match.start() == start
        return capital if first or length(capital) < length(small) else small

    found = _WORD.search(text)
    start = found.start() if found else 0
    return _WORD.sub(lower, text)


def raised(text: str, case: Case, language: str) -> str:
    """Return a translation in the case that the source had, of the same length."""

    def upper(text: str) -> str:
        if _is_turkish(language):
            text = text.replace("i", "\u0130")
        return _same_length(text, text.upper(), _upper)

    if case is Case.CAPITALS:
        return upper(text)
    if case in (Case.TITLE, Case.WORDS):
        small = _SHORT if case is Case.TITLE else 0
        first = _WORD.search(text)
        return _WORD.sub(
            lambda match: (
                upper(match[0][0]) + match[0][1:]
                if len(match[0]) > small or (first and match.start() == first.start())
                else match[0]
            ),
            text,
        )
    return text


def _begins_small(word: str) -> bool:
    """Return whether a word begins with a letter that is not a capital; marks before it do not count."""
    first = _FIRST.search(word)
    return first is not None and first[0].isalpha() and not first[0].isupper()


def _same_length(text: str, changed: str, change: Callable[[str], str]) -> str:
    """Return ``changed``, or, where it has another length, ``text`` with each character changed that keeps its own."""
    if len(changed) == len(text):
        return changed
    return "".join(new if len(new := change(character)) == 1 else character for character in text)


def _upper(character: str) -> str:
    return "\u1e9e" if character == "\u00df" else character.upper()


def _is_turkish(language: str) -> bool:
    return language.partition("-")[0].lower() in {"tr", "az"}
