"""Word-level vocabularies: text to token ids and back, with the call signatures of a SentencePiece processor.

The file is JSON: the pattern that cuts a text into tokens, and the tokens in order of id. A token that white space
precedes, or that begins the text, starts with U+2581. A word outside the vocabulary becomes one of two placeholders,
with and without white space before it.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

_SPACE, _UNKNOWN = "\u2581", "\u2047"


class WordProcessor:
    """The vocabulary of one language. Nothing here changes, so threads may share it."""

    def __init__(self, model: bytes) -> None:
        """Loads a serialised vocabulary.

        Raises:
            ValueError: It is not one.
        """
        try:
            content = json.loads(model)
            self._pattern, self._tokens = re.compile(content["pattern"]), [str(token) for token in content["tokens"]]
            self._ids = {token: number for number, token in enumerate(self._tokens)}
            self._placeholders = {self._ids[_SPACE + _UNKNOWN]: _SPACE, self._ids[_UNKNOWN]: ""}
        except (KeyError, TypeError, ValueError, re.error) as error:
            raise ValueError(f"no word vocabulary: {error}") from error

    def get_piece_size(self) -> int:
        """Tokens in the vocabulary."""
        return len(self._tokens)

    def encode(self, text: str, return_type: str | None = None) -> Any:
        """Token ids of a text; as ``offset_mapping`` also their spellings and their places in it, in code points."""
        ids, pieces, offsets, end = list[int](), list[str](), list[tuple[int, int]](), -1
        for match in self._pattern.finditer(text):
            mark = "" if match.start() == end else _SPACE
            end = match.end()
            # Each token by itself, so that its place in the text as given stays known.
            piece = mark + unicodedata.normalize("NFKC", match[0])
            ids.append(self._ids.get(piece, self._ids[mark + _UNKNOWN]))
            pieces.append(piece)
            offsets.append(match.span())
        return ids if return_type is None else {"ids": ids, "pieces": pieces, "offsets": offsets}

    def decode(self, ids: Sequence[int], return_type: str = "offset_mapping") -> Any:
        """Text of token ids, with the place of each token in it; placeholders stay."""
        return self.fill([self._tokens[number] for number in ids])

    def fill(self, pieces: Sequence[str]) -> dict[str, Any]:
        """Text of token spellings, with the place of each token in it, the white space before it left out."""
        text, offsets = "", list[tuple[int, int]]()
        for piece in pieces:
            if piece.startswith(_SPACE) and text:
                text += " "
            start = len(text)
            text += piece.removeprefix(_SPACE)
            offsets.append((start, len(text)))
        return {"text": text, "pieces": list(pieces), "offsets": offsets}

    def replaced(self, ids: Sequence[int], attended: Sequence[str]) -> list[str]:
        """Spellings of token ids where placeholders give way to what their token attends to (Jean et al. 2015)."""
        return [
            self._placeholders[number] + word if number in self._placeholders and word else self._tokens[number]
            for number, word in zip(ids, attended, strict=True)
        ]
