"""Token ids and the place of every token, for texts that normalisation changes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.bundle.tokenizer import SubwordTokenizer
from serving.errors import StartupError
from tests.unit.serving.engine.toy_engine import EOS, IDS, UNK, subword_model, tokenizer

AWKWARD = [
    "The cat sat on the mat.",
    "  The   cat\n\tsat. ",
    "cafe\u0301 and caf\u00e9",
    "\ufb01ne \u00bd \u2026 \uff21\uff22",  # one character becomes several, and wide letters narrow ones
    "a \U0001f468\u200d\U0001f469\u200d\U0001f467 b \U0001f1eb\U0001f1f7",
    "\u0928\u092e\u0938\u094d\u0924\u0947 \u4f60\u597d\u3002",
    "a\u200bb\u00a0c\u3000d\x00e",
    "half \ud800 way",
]


@pytest.mark.parametrize("text", AWKWARD)
@pytest.mark.parametrize("reverse", [False, True])
def test_spans_lie_in_the_text_as_given(text: str, reverse: bool) -> None:
    encoded = tokenizer(reverse_source=reverse).encode(text)
    assert encoded.ids[-1] == EOS
    assert encoded.spans.shape == (encoded.ids.size, 2)
    assert encoded.spans[-1].tolist() == [len(text), len(text)]
    assert encoded.dropped == 0
    spans = encoded.spans[:-1][::-1] if reverse else encoded.spans[:-1]
    begins, ends = spans[:, 0], spans[:, 1]
    assert (begins <= ends).all()
    assert (begins[1:] == ends[:-1]).all()
    # Only white space at either end belongs to no token.
    assert not text[: begins[0]].strip()
    assert not text[ends[-1] :].strip()


@given(st.text(max_size=60))
@settings(deadline=None, max_examples=200)
def test_any_text_has_spans_inside_it(text: str) -> None:
    encoded = tokenizer().encode(text)
    assert ((encoded.spans >= 0) & (encoded.spans <= len(text))).all()
    assert (np.diff(encoded.spans[:, 0]) >= 0).all()
    assert tokenizer().count(text) == encoded.ids.size - 1


def test_each_token_is_where_its_letters_are() -> None:
    text = "The  cat sat,  e\u0301"
    encoded = tokenizer(byte_fallback=False).encode(text)
    letters = ["".join(text[begin:end].split()) for begin, end in encoded.spans.tolist()]
    assert "".join(letters) == "".join(text.split())


def test_the_source_is_reversed_before_the_end_token() -> None:
    plain, reverse = tokenizer().encode("The cat sat"), tokenizer(reverse_source=True).encode("The cat sat")
    assert reverse.ids.tolist() == [*plain.ids[:-1][::-1].tolist(), EOS]
    assert reverse.spans.tolist() == [*plain.spans[:-1][::-1].tolist(), [11, 11]]


@pytest.mark.parametrize("reverse", [False, True])
def test_a_limit_keeps_the_beginning_of_the_text(reverse: bool) -> None:
    whole = tokenizer(reverse_source=False).encode("The cat sat on the mat.")
    cut = tokenizer(reverse_source=reverse).encode("The cat sat on the mat.", 4)
    kept = cut.ids[:-1][::-1] if reverse else cut.ids[:-1]
    assert kept.tolist() == whole.ids[:4].tolist()
    assert cut.dropped == whole.ids.size - 1 - 4


def test_decoding_gives_text_pieces_and_their_places() -> None:
    ids = tokenizer().encode_prefix("L'eau est froide \U0001f468.")
    decoded = tokenizer().decode(ids)
    assert decoded.text == "L'eau est froide \U0001f468."
    assert len(decoded.pieces) == len(ids)
    assert decoded.spans.shape == (len(ids), 2)
    assert "".join(decoded.text[begin:end] for begin, end in decoded.spans.tolist()) == decoded.text


def test_nothing_decodes_to_nothing() -> None:
    decoded = tokenizer().decode([])
    assert (decoded.text, decoded.pieces, decoded.spans.shape) == ("", (), (0, 2))


def test_without_byte_fallback_an_unknown_character_is_the_unknown_token() -> None:
    assert UNK in tokenizer(byte_fallback=False).encode("\U0001f468").ids


def test_threads_may_share_it() -> None:
    shared = tokenizer()
    expected = [shared.encode(text).ids.tolist() for text in AWKWARD]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            assert [encoded.ids.tolist() for encoded in pool.map(shared.encode, AWKWARD)] == expected


def test_both_sides_may_have_their_own_model() -> None:
    both = SubwordTokenizer(subword_model(), subword_model(byte_fallback=False), special_ids=IDS)
    assert (both.source_size, both.target_size) == (350, 100)


def test_a_broken_model_is_a_startup_error() -> None:
    with pytest.raises(StartupError, match="source tokenizer"):
        SubwordTokenizer(b"no model", subword_model(), special_ids=IDS)
