"""SentencePiece with token ids of the model's own, with the interface of a SentencePiece processor.

The vocabulary file is JSON: ``pieces``, the spelling of each token in order of id, null where an id has none, and
``unknown``, the id of every other piece.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sentencepiece import SentencePieceProcessor

_SPACE, _UNKNOWN = "\u2581", "\u2047"


class PieceProcessor:
    """SentencePiece model of one language and its table of ids; immutable, so threads may share it."""

    def __init__(self, model: bytes, vocabulary: bytes) -> None:
        """Load a serialised SentencePiece model and its table.

        Raises:
            RuntimeError: ``model`` is not a SentencePiece model.
            ValueError: ``vocabulary`` is not such a table.
        """
        self._model = SentencePieceProcessor(model_proto=model)
        try:
            content = json.loads(vocabulary)
            self._pieces: list[str | None] = [piece and str(piece) for piece in content["pieces"]]
            self._unknown = int(content["unknown"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a table of pieces: {error}") from error
        if not 0 <= self._unknown < len(self._pieces):
            raise ValueError(f"not a table of pieces: the unknown one is {self._unknown}")
        self._ids = {piece: number for number, piece in enumerate(self._pieces) if piece is not None}

    def get_piece_size(self) -> int:
        """Return the size of the vocabulary."""
        return len(self._pieces)

    def encode(self, text: str, return_type: str | None = None) -> Any:
        """Return the token ids of a text; for ``offset_mapping`` also their spellings and spans, in code points."""
        mapping = self._model.encode(text, return_type="offset_mapping")
        mapping["ids"] = [self._ids.get(piece, self._unknown) for piece in mapping["pieces"]]
        return mapping["ids"] if return_type is None else mapping

    def piece_to_id(self, piece: str) -> int:
        """Return the token of a spelling, the unknown one if there is no other."""
        return self._ids.get(piece, self._unknown)

    def id_to_piece(self, token: int) -> str:
        """Return the spelling of a token."""
        return self._pieces[token] or _UNKNOWN

    def is_unknown(self, token: int) -> bool:
        """Return whether a token stands for every piece outside the vocabulary."""
        return token == self._unknown

    def is_byte(self, token: int) -> bool:
        """Return whether a token is a byte of a character that has no piece."""
        return self._model.is_byte(self._model.piece_to_id(self._pieces[token] or ""))

    def decode(self, ids: Sequence[int], return_type: str = "offset_mapping") -> Any:
        """Return the text of token ids and the span of each token in it."""
        pieces = [self._pieces[number] or _UNKNOWN for number in ids]
        mapping = self._model.decode(pieces, return_type="offset_mapping")
        # SentencePiece leaves a piece that it does not have as it is spelt.
        text = mapping["text"].replace(_SPACE, " ")
        mapping["text"] = text.strip()
        lead, end = len(text) - len(text.lstrip()), len(text.rstrip())
        mapping["offsets"] = [tuple(min(max(place, lead), end) - lead for place in span) for span in mapping["offsets"]]
        return mapping
