"""Byte pair encoding beside subword-nmt's own."""

from __future__ import annotations

import io

import numpy as np
import pytest
from subword_nmt.apply_bpe import BPE
from subword_nmt.learn_bpe import learn_bpe

from loadtests.service.sentences import BUNDLED, read_lines
from serving.bundle.byte_pairs import BytePairs

WORDS = sorted({word for line in read_lines(BUNDLED) for word in line.split()})


def learnt() -> str:
    codes = io.StringIO()
    learn_bpe(io.StringIO("\n".join(WORDS)), codes, 150, min_frequency=1)
    return codes.getvalue()


def theirs(codes: str, words: list[str]) -> list[tuple[str, ...]]:
    peer = BPE(io.StringIO(codes))
    return [tuple(part.removesuffix("@@") for part in peer.segment_tokens([word])) for word in words]


def test_words_are_cut_as_subword_nmt_cuts_them() -> None:
    codes, words = learnt(), [*WORDS, "a", "\u2603", "internationalisations", "".join(WORDS)]
    own = BytePairs(codes)
    assert [own.cut(word) for word in words] == theirs(codes, words)
    assert max(len(own.cut(word)) for word in words) > 5
    assert own.cut(words[0]) is own.cut(words[0])  # remembered


@pytest.mark.parametrize("version", ["", "#version: 0.2\n"])
def test_so_are_random_merges_in_any_order(version: str) -> None:
    draw = np.random.default_rng(0)
    for _ in range(150):
        symbols, pairs = ["a", "b", "</w>", "a</w>", "b</w>"], list[str]()
        for _ in range(12):
            left, right = (symbols[place] for place in draw.integers(len(symbols), size=2))
            if not left.endswith("</w>"):
                pairs.append(f"{left} {right}")
                symbols.append(left + right)
        codes = version + "\n".join(draw.permutation(pairs).tolist()) + "\n"
        words = ["".join(draw.choice(["a", "b"], size=draw.integers(1, 30))) for _ in range(10)]
        own = BytePairs(codes)
        assert [own.cut(word) for word in words] == theirs(codes, words), codes


def test_a_word_of_any_length_is_cut() -> None:
    codes = "#version: 0.2\na a\naa aa\naaaa aaaa\n"
    assert BytePairs(codes).cut("a" * 50_001) == ("a" * 8,) * 6250 + ("a",)


@pytest.mark.parametrize(
    ("codes", "reason"),
    [
        ("#version: 0.3\na b\n", "its version is 0.3"),
        ("#version: 0.2\na b c\n", "line 'a b c' is not a pair"),
        ("v3;false;false;true;@;@\n", "is not a pair"),
        ("", "is not a pair"),
    ],
)
def test_other_files_are_refused(codes: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        BytePairs(codes)
