"""Students of Marian in Firefox's engine and in ours: the same text, greedily, from the same file of 32 bits.

``DRAGOMAN_AGREEMENT=1000 pytest tests/agreement/test_fxtranslate.py -s`` does so with 1,000 texts of each shape.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from export.readers.kinds import kind_of
from serving.bundle.manifest import Languages
from tests.agreement.comparison import COUNT
from tests.unit.export.readers.marian_native import PIECES, SENTENCES, STUDENT, bin_of, random_weights, spm
from training import decode

fxtranslate = pytest.importorskip("fxtranslate", reason="fxtranslate is not installed (extra dev, on Linux on x86-64)")

SHAPES: dict[str, dict[str, Any]] = {
    "student": {},
    "deep encoder, one shallow layer": {"enc-depth": 6, "dec-depth": 1},
    "wide": {"dim-emb": 64, "transformer-dim-ffn": 256, "transformer-heads": 8},
}


def longest(source: int) -> int:
    """Tokens that Firefox's engine ends a translation at, for so many of the source; both with the end token."""
    return min(2 * source + 4, 256)


@pytest.mark.parametrize("shape", SHAPES)
def test_students_translate_as_in_firefox(shape: str, tmp_path: Path) -> None:
    options, vocabulary = {**STUDENT, **SHAPES[shape]}, spm()
    model = bin_of(random_weights(options, (PIECES, PIECES)), options)
    (tmp_path / "model.ende.bin").write_bytes(model)
    (tmp_path / "vocab.ende.spm").write_bytes(vocabulary)
    theirs = fxtranslate.Translator(model, vocabulary, vocabulary)
    trained = kind_of(tmp_path).read(tmp_path, Languages.between("en", "de"))
    words = " ".join(SENTENCES).split()
    texts = [" ".join(words[n % len(words) :][: 1 + n % 17]) for n in range(COUNT)]
    different, lengths = [], set()
    for text, ids in zip(texts, trained.encode(texts), strict=True):
        search = decode.DecodeOptions(beam_size=1, max_length=longest(len(ids) + 1), **dict(trained.search))
        ((best, *_),) = decode.translate(trained.model, [ids], search)
        lengths.add(len(best.tokens))
        (ours,) = trained.decode([best.tokens])
        if ours != (wanted := theirs.translate(text)):
            different.append((text, ours, wanted))
    print(f"\n{shape}: {len(texts) - len(different)} of {len(texts)} texts the same")
    assert not different
    assert len(lengths) > 3
