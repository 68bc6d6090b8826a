"""Models of Marian against a reference in NumPy, and the same model in all of its files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
import torch
import yaml

from export.readers.kinds import kind_of
from export.trained_model import TrainedModel
from serving.bundle.manifest import Languages, SearchConventions
from tests.unit.export.readers.marian_native import (
    PIECES,
    SENTENCES,
    STUDENT,
    bin_of,
    dequantized,
    random_weights,
    spm,
    write_npz,
)
from tests.unit.export.readers.marian_reference import Pasts, Reference, Search
from training import decode

UNKNOWN, LIMIT = 1, 16
SHAPES: dict[str, dict[str, Any]] = {
    "student": {},
    "deep encoder, one shallow layer": {"enc-depth": 4, "dec-depth": 1},
    "tied layers": {"dec-depth": 1, "transformer-tied-layers": [1, 1, 1]},
    "self-attention": {"transformer-decoder-autoreg": "self-attention", "transformer-ffn-activation": "swish"},
    "untied": {"tied-embeddings-all": False, "transformer-decoder-autoreg": "self-attention"},
    "decoder tied": {"tied-embeddings-all": False, "tied-embeddings": True, "transformer-heads": 4},
    "pre-norm": {
        "transformer-preprocess": "n",
        "transformer-postprocess": "da",
        "transformer-postprocess-top": "n",
        "version": "v1.12.0 65bf82f 2023-02-21",
    },
    "pre-norm, self-attention": {
        "transformer-preprocess": "n",
        "transformer-postprocess": "da",
        "transformer-postprocess-top": "n",
        "transformer-decoder-autoreg": "self-attention",
        "version": "v1.12.0 65bf82f 2023-02-21",
    },
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Steps of tiny models are too small to share."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def vocabulary() -> bytes:
    return spm()


def written(folder: Path, vocabulary: bytes, ends: float = 2.0, **options: Any) -> tuple[TrainedModel, Reference]:
    """Write a model as ``.npz`` and read it."""
    merged = {**STUDENT, **options}
    weights = random_weights(merged, (PIECES, PIECES), ends)
    if tied := merged["transformer-tied-layers"]:
        merged["dec-depth"] = len(tied)
    write_npz(folder / "model.npz", weights, merged)
    (folder / "vocab.spm").write_bytes(vocabulary)
    kind = kind_of(folder)
    assert kind.name == "a Marian model"
    return kind.read(folder, Languages.between("en", "de")), Reference(weights, merged)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_step_is_that_of_the_equations(shape: str, vocabulary: bytes, tmp_path: Path) -> None:
    trained, reference = written(tmp_path, vocabulary, **SHAPES[shape])
    source = trained.framed(trained.encode(SENTENCES[:1])[0]).tolist()
    assert source[-1] == 0
    target = trained.encode_targets(SENTENCES[1:2])[0][:12]
    states, pasts = reference.encode(source), Pasts()
    with torch.no_grad():
        state = trained.model.encode(torch.tensor([source]), torch.tensor([len(source)]))
        for position, token in enumerate([None, *target]):
            expected, pasts = reference.step(states, token, position, pasts)
            ours = trained.vocabulary.decoder_start if token is None else token
            logits, state = trained.model.decode_step(torch.tensor([ours]), state)
            found = logits.log_softmax(-1)[0, :PIECES].numpy()
            np.testing.assert_allclose(found, expected, atol=2e-5)
            assert logits[0, PIECES] == -torch.inf  # the filler, whose embedding is the start


@pytest.mark.parametrize(("shape", "ends"), [("student", 2.0), ("self-attention", 6.0)])
@pytest.mark.parametrize(("beam", "exponent"), [(1, 0.0), (4, 1.0), (3, 0.6)])
def test_beam_search_is_that_of_the_equations(
    shape: str, ends: float, beam: int, exponent: float, vocabulary: bytes, tmp_path: Path
) -> None:
    trained, reference = written(tmp_path, vocabulary, ends, **SHAPES[shape])
    search = Search(reference, [UNKNOWN], beam, exponent, LIMIT)
    assert trained.search == SearchConventions(beam_shrinks=True)
    options = decode.DecodeOptions(
        beam_size=beam, n_best=beam, length_penalty=exponent, max_length=LIMIT, **dict(trained.search)
    )
    sources = trained.encode(SENTENCES[:8])
    lengths = set()
    for ids, found in zip(sources, decode.translate(trained.model, sources, options), strict=True):
        expected = search.translate([*ids, 0])
        assert [list(one.tokens) for one in found] == [tokens for tokens, _ in expected]
        assert [one.score for one in found] == pytest.approx([score for _, score in expected], abs=1e-4)
        lengths |= {len(one.tokens) for one in found if one.finished}
    assert beam == 1 or max(lengths) > 1


@pytest.mark.parametrize(
    ("bits", "alphas", "padded"), [(32, False, False), (16, False, True), (8, False, True), (8, True, False)]
)
def test_a_binary_file_equals_its_dequantized_self(
    bits: int, alphas: bool, padded: bool, vocabulary: bytes, tmp_path: Path
) -> None:
    weights = random_weights(STUDENT, (PIECES, PIECES))
    (tmp_path / "real").mkdir()
    write_npz(tmp_path / "real" / "model.npz", dequantized(weights, bits) if bits < 32 else weights, STUDENT)
    (tmp_path / "model.ende.intgemm.bin").write_bytes(bin_of(weights, STUDENT, bits, alphas=alphas, padded=padded))
    for folder in (tmp_path, tmp_path / "real"):
        (folder / "vocab.ende.spm").write_bytes(vocabulary)
    kind = kind_of(tmp_path)
    assert (kind.name, kind.languages(tmp_path)) == ("a Marian model", Languages.between("en", "de"))
    ours, real = (
        kind.read(folder, Languages.between("en", "de")).model.state_dict() for folder in (tmp_path, tmp_path / "real")
    )
    assert ours.keys() == real.keys()
    assert all(torch.equal(ours[name], real[name]) for name in real)


def test_the_decoder_s_yaml_says_what_belongs_to_the_model(vocabulary: bytes, tmp_path: Path) -> None:
    """As Bergamot packs its models: the paths are those of another machine, and other files lie beside."""
    weights = random_weights(STUDENT, (PIECES, PIECES))
    (tmp_path / "model.intgemm.alphas.bin").write_bytes(bin_of(weights, STUDENT, 8, alphas=True))
    write_npz(tmp_path / "model.npz", weights, STUDENT)
    (tmp_path / "vocab.deen.spm").write_bytes(vocabulary)
    (tmp_path / "lex.s2t").write_text("\u2581the \u2581a 0.5\n")
    (tmp_path / "config.intgemm8bitalpha.yml").write_text(
        "relative-paths: true\n"
        "models:\n- /somewhere/else/model.intgemm.alphas.bin\n"
        "vocabs: [vocab.deen.spm, vocab.deen.spm]\n"
        "shortlist: [lex.s2t, 10, 10]\n"
        "beam-size: 1\nnormalize: 0.6\nalignment: soft\n"
        "word-penalty: 0\ngemm-precision: int8shiftAlphaAll\nallow-unk: true\n"
    )
    trained = kind_of(tmp_path).read(tmp_path, Languages.between("de", "en"))
    rounded = dequantized(weights, 8)["encoder_l1_ffn_W1"].T
    assert np.array_equal(trained.model.get_parameter("encoder_layers.0.feed_forward.expand.weight").detach(), rounded)
    assert (trained.defaults.beam_size, trained.defaults.length_penalty) == (1, 0.6)
    assert trained.vocabulary.suppressed == (PIECES,)
    assert trained.alignment == (-1, 0)
    assert trained.shortlist is not None
    assert trained.shortlist.always.tolist() == list(range(10))
    (source, target) = (trained.encode([word])[0] for word in ("a", "the"))
    assert set(trained.shortlist.candidates(np.array([*source, 0]))) == {*range(10), *source, *target}
    alone = kind_of(tmp_path / "model.npz").read(tmp_path / "model.npz", Languages.between("de", "en"))
    assert (alone.defaults.beam_size, alone.vocabulary.suppressed) == (4, (UNKNOWN, PIECES))
    assert alone.alignment is None
    for layer, expected in (("1", (0, 0)), ("2", (1, 0))):
        options = {**STUDENT, "transformer-guided-alignment-layer": layer}
        (tmp_path / "model.intgemm.alphas.bin").write_bytes(bin_of(weights, options))
        assert kind_of(tmp_path).read(tmp_path, Languages.between("de", "en")).alignment == expected


def test_separate_vocabularies_and_bytes(tmp_path: Path) -> None:
    source = spm(SENTENCES, PIECES + 9)
    target = spm([line[::-1] for line in SENTENCES], 400, byte_fallback=True)
    options = {**STUDENT, "tied-embeddings-all": False, "tied-embeddings": True}
    write_npz(tmp_path / "model.npz", random_weights(options, (PIECES + 9, 400)), options)
    (tmp_path / "srcvocab.ende.spm").write_bytes(source)
    (tmp_path / "trgvocab.ende.spm").write_bytes(target)
    trained = kind_of(tmp_path).read(tmp_path, Languages.between("en", "de"))
    assert not trained.vocabulary.shared
    assert trained.vocabulary.source_size == 401  # filled up to the target's
    text = SENTENCES[0][::-1] + " \u2603"
    (ids,) = trained.encode_targets([text])
    assert trained.decode([ids]) == [text]
    # A byte of a character may be generated, but no control.
    snow, tab = (trained.encode_targets([character])[0][-1] for character in ("\u2603", "\u0001x"))
    assert snow not in trained.vocabulary.suppressed
    controls = {sentencepiece.SentencePieceProcessor(model_proto=target).piece_to_id(f"<0x{n:02X}>") for n in range(32)}
    assert set(trained.vocabulary.suppressed) == {UNKNOWN, 400} | controls
    assert len(controls) == 32
    assert tab not in controls  # serving takes controls out of texts


@pytest.mark.parametrize("cut", [True, False])
def test_vocabularies_that_are_lists_of_tokens(cut: bool, vocabulary: bytes, tmp_path: Path) -> None:
    """As OPUS-MT's: SentencePiece cuts the text, another file numbers the pieces; without it text is cut already."""
    pieces = sentencepiece.SentencePieceProcessor(model_proto=vocabulary)
    tokens = ["</s>", "<unk>", *sorted(pieces.id_to_piece(number) for number in range(2, PIECES))]
    write_npz(tmp_path / "model.npz", random_weights(STUDENT, (PIECES, PIECES)), STUDENT)
    table = {token: number for number, token in enumerate(tokens)}
    (tmp_path / "opus.spm32k-spm32k.vocab.yml").write_text(yaml.safe_dump(table, allow_unicode=True))
    if cut:
        (tmp_path / "source.spm").write_bytes(vocabulary)
        (tmp_path / "target.spm").write_bytes(vocabulary)
    trained = kind_of(tmp_path).read(tmp_path, Languages.between("en", "de"))
    spelt = pieces.encode(SENTENCES[0], out_type=str)
    (ids,) = trained.encode([SENTENCES[0] if cut else " ".join(spelt)])
    assert ids == [table[piece] for piece in spelt]
    assert trained.decode([ids]) == [SENTENCES[0] if cut else " ".join(spelt)]
