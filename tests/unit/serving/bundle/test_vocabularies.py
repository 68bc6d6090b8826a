"""Token ids of a model's own: beside SentencePiece, and of plain tokens."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sentencepiece import SentencePieceProcessor

from serving.bundle.manifest import Tokenizer
from serving.bundle.tokenizer import SubwordTokenizer
from serving.errors import StartupError
from serving.opening import read_tokenizer
from tests.unit.serving.engine.toy_engine import BOS, EOS, IDS, subword_model

MODEL = subword_model(byte_fallback=False)
PLAIN = SentencePieceProcessor(model_proto=MODEL)
PIECES = [PLAIN.id_to_piece(number) for number in reversed(range(PLAIN.get_piece_size()))]
UNKNOWN = PIECES.index("<unk>")
TABLE = json.dumps({"unknown": UNKNOWN, "pieces": [*PIECES, ">>fr<<", None]}).encode()
LETTERS = json.dumps({"separator": "", "unknown": 2, "tokens": ["a", "b", "<unk>", " "]}).encode()
WORDS = json.dumps({"separator": " ", "unknown": 2, "tokens": ["a", "bc", "<unk>"]}).encode()


def pieces() -> SubwordTokenizer:
    return SubwordTokenizer(MODEL, MODEL, special_ids=IDS, source_vocabulary=TABLE, target_vocabulary=TABLE)


def test_pieces_have_the_ids_of_the_table() -> None:
    text = "The cat sat \u2603."
    found, expected = pieces().encode(text), PLAIN.encode(text, return_type="offset_mapping")
    assert [PIECES[number] for number in found.ids[:-1] if number != UNKNOWN] == [
        piece for piece in expected["pieces"] if piece in PIECES
    ]
    assert UNKNOWN in found.ids
    assert found.spans[:-1].tolist() == [list(span) for span in expected["offsets"]]
    assert pieces().target_size == len(PIECES) + 2


def test_ids_become_text_again_with_spans() -> None:
    text = "The cat sat."
    decoded = pieces().decode(pieces().tokens(text))
    assert decoded.text == text
    assert "".join(text[begin:end] for begin, end in decoded.spans) == text
    # What SentencePiece does not have is spelt out, and an id without a piece is unknown.
    strange = pieces().decode([len(PIECES), len(PIECES) + 1])
    assert strange.text.startswith(">>fr<<")
    assert strange.spans.shape == (2, 2)
    assert pieces().decode([]).text == ""


@pytest.mark.parametrize(
    ("model", "text", "ids", "back"),
    [
        (LETTERS, "ab ba", [0, 1, 3, 1, 0], "ab ba"),
        (LETTERS, "  a\t\tx ", [0, 3, 2], "a <unk>"),
        (WORDS, " bc  a d", [1, 0, 2], "bc a <unk>"),
        (WORDS, " ", [], ""),
    ],
)
def test_plain_tokens(model: bytes, text: str, ids: list[int], back: str) -> None:
    tokenizer = SubwordTokenizer(model, model, special_ids=IDS, kind="tokens")
    encoded = tokenizer.encode(text)
    assert encoded.ids.tolist() == [*ids, EOS]
    assert encoded.size == tokenizer.count(text) == len(ids)
    decoded = tokenizer.decode(ids)
    assert decoded.text == back
    assert [back[begin:end] for begin, end in decoded.spans] == list(decoded.pieces)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("eos", [False, True])
def test_sources_have_the_special_tokens_that_the_model_reads(bos: bool, eos: bool, reverse: bool) -> None:
    files = Tokenizer(kind="tokens", source="s", target="s", source_bos=bos, source_eos=eos)
    tokenizer = read_tokenizer(files, {"s": WORDS}.__getitem__, special_ids=IDS, reverse_source=reverse)
    encoded = tokenizer.encode("a bc a bc", 3)
    own = [0, 1, 0][:: -1 if reverse else 1]
    assert encoded.ids.tolist() == [*[BOS] * bos, *own, *[EOS] * eos]
    assert encoded.spans.shape == (3 + bos + eos, 2)
    assert (encoded.size, encoded.dropped) == (3, 1)
    empty = tokenizer.encode("")
    assert empty.size == 0
    assert empty.spans.shape == (bos + eos, 2)
    assert empty.ids.dtype == np.int64


BROKEN = [
    b"",
    b"[]",
    b"{}",
    b'{"unknown": "x", "pieces": ["a"], "tokens": ["a"], "separator": ""}',
    b'{"unknown": 1, "pieces": ["a"], "tokens": ["a"], "separator": ""}',
]


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_vocabulary_is_refused(broken: bytes) -> None:
    with pytest.raises(StartupError, match="the source tokenizer is not a SentencePiece model"):
        SubwordTokenizer(MODEL, MODEL, special_ids=IDS, source_vocabulary=broken, target_vocabulary=TABLE)
    with pytest.raises(StartupError, match="the target tokenizer is not a vocabulary of tokens"):
        SubwordTokenizer(LETTERS, broken, special_ids=IDS, kind="tokens")


def test_what_is_not_used_is_not_in_a_manifest() -> None:
    plain = Tokenizer(source="s", target="t")
    assert plain.model_dump(mode="json") == {"kind": "sentencepiece", "source": "s", "target": "t"}
    full = Tokenizer(source="s", target="t", source_vocabulary="a", target_vocabulary="b", source_eos=False)
    assert full.files == {"s", "t", "a", "b"}
    assert Tokenizer.model_validate_json(full.model_dump_json()) == full
