"""Files of a bundle's tokenizer, made of the vocabularies that imported models have.

Spellings are in order of id; None where an id has none.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

Spellings = Sequence[str | None]


def pieces_file(pieces: Spellings, unknown: int) -> bytes:
    """Serialise the table of a SentencePiece model's ids, as ``serving.bundle.pieces`` reads it."""
    return _json(unknown=unknown, pieces=list(pieces))


def tokens_file(tokens: Spellings, unknown: int, separator: str) -> bytes:
    """Serialise plain tokens, as ``serving.bundle.plain_tokens`` reads them."""
    return _json(separator=separator, unknown=unknown, tokens=[token or "" for token in tokens])


def moses_file(tokens: Spellings, unknown: int, codes: str, language: str) -> bytes:
    """Serialise parts of Moses' words, as ``serving.bundle.moses`` reads them."""
    return _json(language=language, codes=codes, unknown=unknown, tokens=[token or "" for token in tokens])


def _json(**content: object) -> bytes:
    return json.dumps(content, ensure_ascii=False).encode()
