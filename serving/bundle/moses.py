"""Words as Moses cuts them, and parts of words by byte pair encoding, with the interface of a SentencePiece processor.

The file is JSON: ``language``, whose rules Moses follows, ``codes``, the merges of subword-nmt, ``tokens``, the
spellings in order of id, and ``unknown``, the id of every other token. A token that ends in ``@@`` is continued by the
next one. Quotation marks and the like are normalised, and &, <, >, ", ', | and brackets are escaped in tokens.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from serving.bundle.byte_pairs import JOINER, BytePairs

_SPACE = "\u2581"
_NEAR = 32  # characters that a word is looked for in, beyond its length


class MosesProcessor:
    """Vocabulary and rules of one language; immutable, so threads may share it."""

    def __init__(self, model: bytes) -> None:
        """Load a serialised vocabulary.

        Raises:
            ValueError: ``model`` is no such vocabulary.
            ImportError: sacremoses is not installed.
        """
        from sacremoses import MosesDetokenizer, MosesPunctNormalizer, MosesTokenizer  # an extra

        try:
            content = json.loads(model)
            self._tokens, self._unknown = [str(token) for token in content["tokens"]], int(content["unknown"])
            self._pairs, language = BytePairs(str(content["codes"])), str(content["language"])
            self._normalizer, self._tokenizer = MosesPunctNormalizer(language), MosesTokenizer(language)
            self._detokenizer = MosesDetokenizer(language)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a vocabulary of byte pairs: {error}") from error
        if not 0 <= self._unknown < len(self._tokens):
            raise ValueError(f"not a vocabulary of byte pairs: the unknown one is {self._unknown}")
        self._ids = {token: number for number, token in enumerate(self._tokens)}

    def get_piece_size(self) -> int:
        """Return the size of the vocabulary."""
        return len(self._tokens)

    def piece_to_id(self, piece: str) -> int:
        """Return the token of a spelling, the unknown one if there is no other."""
        return self._ids.get(piece.removeprefix(_SPACE), self._unknown)

    def id_to_piece(self, token: int) -> str:
        """Return the spelling of a token. The token before it says whether a space is between them: mostly one is."""
        return _SPACE + self._tokens[token]

    def is_unknown(self, token: int) -> bool:
        """Return whether a token stands for every one outside the vocabulary."""
        return token == self._unknown

    def is_byte(self, token: int) -> bool:
        """Return False: no token is a byte."""
        return False

    def encode(self, text: str, return_type: str | None = None) -> Any:
        """Return the token ids of a text; for ``offset_mapping`` also their spellings and spans, in code points."""
        words = [self._pairs.cut(word) for word in self._tokenizer.tokenize(self._normalizer.normalize(text))]
        pieces = [piece for word in words for piece in (*(part + JOINER for part in word[:-1]), word[-1])]
        ids = [self._ids.get(piece, self._unknown) for piece in pieces]
        return ids if return_type is None else {"ids": ids, "pieces": pieces, "offsets": list(_spans(words, text))}

    def decode(self, ids: Sequence[int], return_type: str = "offset_mapping") -> Any:
        """Return the text of token ids and the span of each token in it."""
        pieces, words = [self._tokens[number] for number in ids], list[list[str]]()
        continues = False
        for piece in pieces:
            if not continues:
                words.append([])
            words[-1].append(piece.removesuffix(JOINER))
            continues = piece.endswith(JOINER)
        text = self._detokenizer.detokenize(["".join(word) for word in words])
        return {"text": text, "pieces": pieces, "offsets": list(_spans(words, text))}


def _spans(words: Sequence[Sequence[str]], text: str) -> Iterator[tuple[int, int]]:
    """Find the parts of escaped words in a text; where a word is spelt otherwise there, its last part has all of it."""
    plain = [html.unescape("".join(word)) for word in words]
    for word, spelt, (begin, end) in zip(words, plain, _located(plain, text), strict=True):
        whole = end - begin == len(spelt) == sum(map(len, word))
        for number, part in enumerate(word):
            stop = end if number == len(word) - 1 else begin + len(part) * whole
            yield begin, stop
            begin = stop


def _located(words: Iterable[str], text: str) -> list[tuple[int, int]]:
    """Return the spans of words in a text that mostly has them in this order.

    Words that are spelt otherwise there have what lies between their neighbours: the last of them all, the others none.
    """
    spans, at, missing = list[tuple[int, int]](), 0, 0
    for word in words:
        begin = text.find(word, at, at + len(word) + _NEAR + missing)
        missing = missing + len(word) if begin < 0 else 0
        if begin < 0:
            spans.append((-1, -1))
            continue
        _fill(spans, text, at, begin)
        at = begin + len(word)
        spans.append((begin, at))
    _fill(spans, text, at, len(text))
    return spans


def _fill(spans: list[tuple[int, int]], text: str, begin: int, end: int) -> None:
    """Give what is between two words to those before the end of the list that have no span yet."""
    while begin < end and text[begin].isspace():
        begin += 1
    while end > begin and text[end - 1].isspace():
        end -= 1
    for place in range(len(spans) - 1, -1, -1):
        if spans[place][0] >= 0:
            break
        spans[place] = (begin, end)
        end = begin
