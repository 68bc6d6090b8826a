"""Lexicons of Marian: what a sentence may use is what Marian would let it use, but for its filling up to eight."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from export.errors import ReadingError
from export.readers.marian_lexicon import read_lexicon
from serving.bundle.shortlist import Shortlist
from tests.unit.export.readers.marian_native import lexicon_of
from training.models.contract import Vocabulary

SIZE, EOS, UNKNOWN = 12, 0, 1
VOCABULARY = Vocabulary(
    SIZE + 1, SIZE + 1, pad=SIZE, eos=EOS, decoder_start=SIZE, unk=UNKNOWN, bos=None, banned=(1, SIZE)
)
SEPARATE = Vocabulary(SIZE, SIZE, eos=EOS, unk=UNKNOWN, bos=None, shared=False, banned=(1,))
LISTS: list[list[int]] = [[0], [1, 9], [8, 9], [], [1], [5, 6, 7, 11], [], [], [], [], [], [3]]
NAMES = [chr(ord("a") + number) for number in range(SIZE)]


def spelling(token: str) -> int:
    return NAMES.index(token) if token in NAMES else UNKNOWN


def read(path: Path, vocabulary: Vocabulary = VOCABULARY, best: int = 100, threshold: float = 0.0) -> Shortlist:
    return read_lexicon(path, vocabulary, (spelling, spelling), (3, best), threshold)


def test_a_binary_lexicon(tmp_path: Path) -> None:
    path = tmp_path / "lex.50.50.ende.s2t.bin"
    path.write_bytes(lexicon_of(LISTS, first=4, best=50))
    for vocabulary, copied in ((VOCABULARY, True), (SEPARATE, False)):
        shortlist = read(path, vocabulary)
        assert shortlist.always.tolist() == [0, 2, 3]
        for source in ([2, 0], [5, 11, 4, 0], [1], [7, 0]):
            expected = {0, 2, 3}.union(*(LISTS[token] for token in source)) - {UNKNOWN}
            expected |= set(source) - {UNKNOWN} if copied else set()
            assert shortlist.candidates(np.array(source)).tolist() == sorted(expected)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_text_lexicon(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "lex.s2t"
    lines = b"i c 0.5\nj c 0.25\nk c 0.25\nl c 0.125\nNULL c 0.9\nd NULL 0.9\nx f 0.3\nh y 0.5\nl l 1e-3\n"
    path.write_bytes(pack(lines))
    shortlist = read(path, SEPARATE)
    assert shortlist.always.tolist() == [0, 2]
    assert shortlist.candidates(np.array([2])).tolist() == [0, 2, 8, 9, 10, 11]
    assert shortlist.candidates(np.array([UNKNOWN])).tolist() == [0, 2, 7]
    assert read(path, SEPARATE, best=2).candidates(np.array([2])).tolist() == [0, 2, 8, 10]
    assert read(path, SEPARATE, threshold=0.2).candidates(np.array([2, 11])).tolist() == [0, 2, 8, 9, 10]


def sealed(head: tuple[int, ...], rest: bytes) -> bytes:
    """A lexicon with another header or content, and a checksum that is right."""
    data = struct.pack("<4Q", *head) + rest
    checksum = 0
    for (word,) in struct.iter_unpack("<Q", data[: len(data) // 8 * 8]):
        checksum ^= (word + 0x9E3779B9 + (checksum << 6) + (checksum >> 2)) % (1 << 64)
    return struct.pack("<2Q", 0xF11A48D5013417F5, checksum) + data


GOOD = lexicon_of(LISTS, first=4, best=50)
WIDE = [list(range(SIZE)) * 100]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (GOOD[:40], "ends within its header"),
        (GOOD[:-4], "its header says"),
        (GOOD + b"1234", "its header says"),
        (GOOD[:-8] + bytes(8), "its checksum is wrong"),
        (sealed((4, 50, 1 << 61, 1), b""), "its header says"),
        (lexicon_of([*LISTS, [1], [1]], 4, 50), "is of 14 source tokens, the vocabulary has 13"),
        (lexicon_of([[13]], 4, 50), "has target token 13, the vocabulary ends at 12"),
        (lexicon_of(WIDE, 4, 50), "has 1200 translations of one token, at most 1000"),
        (sealed((4, 50, 3, 2), struct.pack("<3Q2I", 0, 5, 2, 1, 1)), "the offsets in lex.bin are not in order"),
        (sealed((4, 50, 3, 2), struct.pack("<3Q2I", 1, 1, 2, 1, 1)), "the offsets in lex.bin are not in order"),
        (sealed((4, 50, 3, 2), struct.pack("<3Q2I", 0, 1, 1 << 63, 1, 1)), "the offsets in lex.bin are not in order"),
        (b"a b\n", "has a line that is not a target token, a source token and a number"),
        (b"a b c\n", "has a line that is not"),
        (b"\xff b 0.5\n", "has a line that is not"),
        (gzip.compress(b"a b 0.5")[:-5], "is damaged"),
    ],
)
def test_a_damaged_lexicon_is_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "lex.bin"
    path.write_bytes(content)
    with pytest.raises(ReadingError, match=reason):
        read(path)
