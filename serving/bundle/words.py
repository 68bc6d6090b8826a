"""Word-level vocabularies with the interface of a SentencePiece processor.

The file is JSON: the pattern that splits a text into tokens, and the tokens in order of id. A token at the start of the
text or after white space begins with U+2581. A word outside the vocabulary becomes one of two placeholders, for words
with and without white space before them.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

_SPACE, _UNKNOWN = "\u2581", "\u2047"


class WordProcessor:
    """Vocabulary of one language; immutable, so threads may share it."""

    def __init__(self, model: bytes) -> None:
        """Load a serialised vocabulary.

        Raises:
            ValueError: ``model`` is not a word vocabulary.
        """
        try:
            content = json.loads(model)
            self._pattern, self._tokens = re.compile(content["pattern"]), [str(token) for token in content["tokens"]]
            self._ids = {token: number for number, token in enumerate(self._tokens)}
            self._characters = frozenset("".join(self._tokens))
            self._placeholders = {self._ids[_SPACE + _UNKNOWN]: _SPACE, self._ids[_UNKNOWN]: ""}
        except (KeyError, TypeError, ValueError, re.error) as error:
            raise ValueError(f"not a word vocabulary: {error}") from error

    def spells(self, character: str) -> bool:
        """Return whether a character occurs in a token, as :meth:`encode` normalises it."""
        return self._characters.issuperset(unicodedata.normalize("NFKC", character))

    def get_piece_size(self) -> int:
        """Return the size of the vocabulary."""
        return len(self._tokens)

    def piece_to_id(self, piece: str) -> int:
        """Return the token of a spelling, a placeholder if there is no other."""
        return self._ids.get(piece, self._ids[_SPACE * piece.startswith(_SPACE) + _UNKNOWN])

    def id_to_piece(self, token: int) -> str:
        """Return the spelling of a token."""
        return self._tokens[token]

    def encode(self, text: str, return_type: str | None = None) -> Any:
        """Return the token ids of a text; for ``offset_mapping`` also their spellings and spans, in code points."""
        ids, pieces, offsets, end = list[int](), list[str](), list[tuple[int, int]](), -1
        for match in self._pattern.finditer(text):
            mark = "" if match.start() == end else _SPACE
            end = match.end()
            # Normalise each token by itself: spans must refer to the text as given.
            piece = mark + unicodedata.normalize("NFKC", match[0])
            ids.append(self._ids.get(piece, self._ids[mark + _UNKNOWN]))
            pieces.append(piece)
            offsets.append(match.span())
        return ids if return_type is None else {"ids": ids, "pieces": pieces, "offsets": offsets}

    def decode(self, ids: Sequence[int], return_type: str = "offset_mapping") -> Any:
        """Return the text of token ids and the span of each token in it; placeholders remain."""
        return self.fill([self._tokens[number] for number in ids])

    def fill(self, pieces: Sequence[str]) -> dict[str, Any]:
        """Return the text of token spellings and the span of each token in it, without the white space before it."""
        text, offsets = "", list[tuple[int, int]]()
        for piece in pieces:
            if piece.startswith(_SPACE) and text:
                text += " "
            start = len(text)
            text += piece.removeprefix(_SPACE)
            offsets.append((start, len(text)))
        return {"text": text, "pieces": list(pieces), "offsets": offsets}

    def replaced(self, ids: Sequence[int], attended: Sequence[str]) -> list[str]:
        """Return token spellings, with placeholders replaced by the attended source words (Jean et al. 2015)."""
        return [
            self._placeholders[number] + word if number in self._placeholders and word else self._tokens[number]
            for number, word in zip(ids, attended, strict=True)
        ]
