"""Word-level vocabularies, as the first neural translation systems used them (Sutskever et al. 2014).

A text is cut into words, numbers and punctuation marks by a pattern. A token that white space precedes, or that begins
the text, starts with U+2581, as in SentencePiece, so that joining tokens gives the text back. A word outside the
vocabulary becomes one of two tokens, told apart by the white space before them. A model generates these two like any
other, and the source word that it attends to then takes their place (Jean et al. 2015, section 3.3).
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from training.errors import DataError

SPACE = "\u2581"
UNKNOWN = "\u2047"
SPECIAL = ("<pad>", "<unk>", "<s>", "</s>", SPACE + UNKNOWN, UNKNOWN)
# Numbers, words with their combining marks, and any other mark by itself.
PATTERN = r"\d+(?:[.,]\d+)*|(?:\w[\u0300-\u036f]*)+|[^\w\s]"


def train_words(sentences: Iterable[str], vocab_size: int) -> bytes:
    """Take the most frequent tokens of some text as the vocabulary, special tokens first, ties in order of spelling.

    Returns:
        The vocabulary as JSON: the pattern, and the tokens in order of id.

    Raises:
        DataError: If there is no text, or no room for a word.
    """
    pattern, counts = re.compile(PATTERN), Counter[str]()
    for text in sentences:
        counts.update(spell(text, pattern))
    if not counts or vocab_size <= len(SPECIAL):
        raise DataError(
            f"a vocabulary of {vocab_size} words cannot be made of a text with {len(counts)} different ones; "
            f"tokenizer.vocab_size must be above {len(SPECIAL)}, and the text must have words."
        )
    common = sorted(counts, key=lambda token: (-counts[token], token))[: vocab_size - len(SPECIAL)]
    return json.dumps({"pattern": PATTERN, "tokens": [*SPECIAL, *common]}, ensure_ascii=False).encode()


def spell(text: str, pattern: re.Pattern[str]) -> list[str]:
    """Cut a text into tokens in Unicode's form NFKC, with U+2581 for the white space before them."""
    tokens, end = [], -1
    for match in pattern.finditer(text):
        token = unicodedata.normalize("NFKC", match[0])
        tokens.append(token if match.start() == end else SPACE + token)
        end = match.end()
    return tokens


class Words:
    """A word-level vocabulary, of the same use as ``training.data.subwords.Subwords``."""

    def __init__(self, model: bytes) -> None:
        """Load a serialised vocabulary."""
        self.model = model
        content = json.loads(model)
        self._pattern = re.compile(content["pattern"])
        self.pieces: list[str] = content["tokens"]
        self._ids = {token: i for i, token in enumerate(self.pieces)}

    @property
    def size(self) -> int:
        """Number of tokens, special ones included."""
        return len(self.pieces)

    @property
    def unknown_ids(self) -> frozenset[int]:
        """Tokens that stand for a word outside the vocabulary."""
        return frozenset(self._ids[token] for token in (SPACE + UNKNOWN, UNKNOWN))

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Cut texts into token ids, without bos or eos."""
        spaced, joined = self._ids[SPACE + UNKNOWN], self._ids[UNKNOWN]
        return [
            [self._ids.get(t, spaced if t.startswith(SPACE) else joined) for t in spell(text, self._pattern)]
            for text in texts
        ]

    def spellings(self, text: str) -> list[str]:
        """Return the words of a text, one for each token id, whether in the vocabulary or not."""
        return [token.removeprefix(SPACE) for token in spell(text, self._pattern)]

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """Join token ids to texts; a word outside the vocabulary is spelt U+2047."""
        return ["".join(self.pieces[i] for i in row).replace(SPACE, " ").strip() for row in ids]

    def fill(self, ids: Sequence[int], attended: Sequence[str]) -> str:
        """Join token ids to a text where ``attended``, a word or nothing for each id, replaces the unknown ones."""
        spelt = (self.pieces[i].replace(UNKNOWN, word or UNKNOWN) for i, word in zip(ids, attended, strict=True))
        return "".join(spelt).replace(SPACE, " ").strip()
