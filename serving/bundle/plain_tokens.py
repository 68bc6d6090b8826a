"""Vocabularies of plain tokens, with the interface of a SentencePiece processor.

A text is its characters, or what white space separates. The file is JSON: ``separator``, which is empty for characters
and else a space, ``tokens``, the spellings in order of id, and ``unknown``, the id of every other token.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

_PATTERNS = {"": re.compile(r"\S|(?<=\S)\s+(?=\S)"), " ": re.compile(r"\S+")}


class TokenProcessor:
    """Vocabulary of one language; immutable, so threads may share it."""

    def __init__(self, model: bytes) -> None:
        """Load a serialised vocabulary.

        Raises:
            ValueError: ``model`` is not a vocabulary of tokens.
        """
        try:
            content = json.loads(model)
            self._separator, self._tokens = str(content["separator"]), [str(token) for token in content["tokens"]]
            self._pattern, self._unknown = _PATTERNS[self._separator], int(content["unknown"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a vocabulary of tokens: {error}") from error
        if not 0 <= self._unknown < len(self._tokens):
            raise ValueError(f"not a vocabulary of tokens: the unknown one is {self._unknown}")
        self._ids = {token: number for number, token in enumerate(self._tokens)}

    def get_piece_size(self) -> int:
        """Return the size of the vocabulary."""
        return len(self._tokens)

    def piece_to_id(self, piece: str) -> int:
        """Return the token of a spelling, the unknown one if there is no other."""
        return self._ids.get(piece, self._unknown)

    def id_to_piece(self, token: int) -> str:
        """Return the spelling of a token."""
        return self._tokens[token]

    def encode(self, text: str, return_type: str | None = None) -> Any:
        """Return the token ids of a text; for ``offset_mapping`` also their spellings and spans, in code points."""
        found = list(self._pattern.finditer(text))
        pieces = [" " if match[0].isspace() else match[0] for match in found]
        ids = [self._ids.get(piece, self._unknown) for piece in pieces]
        if return_type is None:
            return ids
        return {"ids": ids, "pieces": pieces, "offsets": [match.span() for match in found]}

    def decode(self, ids: Sequence[int], return_type: str = "offset_mapping") -> Any:
        """Return the text of token ids and the span of each token in it."""
        pieces, text, offsets = [self._tokens[number] for number in ids], "", list[tuple[int, int]]()
        for piece in pieces:
            text += self._separator if text else ""
            offsets.append((len(text), len(text) + len(piece)))
            text += piece
        return {"text": text, "pieces": pieces, "offsets": offsets}
