"""Normalisation of text that changes as little as can be, as rules for SentencePiece.

Unlike NFKC it keeps what a reader sees: superscripts, fractions and full-width letters come out as they went in. The
rules live in the tokenizer's model file, so training and serving apply the same ones.
"""

from __future__ import annotations

import sys
import unicodedata

# Zero-width joiner and variation selector 16: parts of emoji, and of words in several scripts.
_JOINERS = frozenset("\u200d\ufe0f")


def _replacement(character: str) -> str | None:
    """Return the text that a character becomes on its own; None if it stays."""
    if character.isspace():
        return " "
    category = unicodedata.category(character)
    if category in {"Cc", "Cf"} and character not in _JOINERS:
        return ""
    composed = unicodedata.normalize("NFKC" if "\ufb00" <= character <= "\ufb06" else "NFC", character)
    return composed if composed != character else None


def normalization_rules() -> str:
    """Return the rules as SentencePiece's TSV, a line each: code points, a tab, the code points they become.

    White space becomes a space; soft hyphens, zero-width characters, marks of direction and controls disappear; letters
    followed by combining marks become single letters (Unicode's form NFC); Latin ligatures come apart.
    """
    rules: dict[str, str] = {}
    for character in map(chr, (*range(1, 0xD800), *range(0xE000, sys.maxunicode + 1))):
        decomposed = unicodedata.normalize("NFD", character)
        replacement = _replacement(character)
        if replacement is not None and replacement != character:
            rules[character] = replacement
        elif len(decomposed) > 1 and not "\uac00" <= character <= "\ud7a3":  # Hangul syllables would be 11,172 rules
            rules[decomposed] = character
    return "".join(f"{_hex(before)}\t{_hex(after)}\n" for before, after in sorted(rules.items()))


def _hex(text: str) -> str:
    return " ".join(f"{ord(character):X}" for character in text)
