"""Files of Marian that are damaged, hostile, or of a model that has no counterpart: refused with one sentence."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.errors import ExportError, ReadingError
from export.readers import marian
from export.readers.kinds import kind_of
from export.readers.marian_file import read_model_file
from serving.bundle.manifest import Languages
from tests.unit.export.readers.marian_native import PIECES, STUDENT, bin_of, random_weights, spm, write_npz


@pytest.fixture(scope="module")
def vocabulary() -> bytes:
    return spm()


@pytest.fixture(scope="module")
def good() -> dict[str, Any]:
    return {**random_weights(STUDENT, (PIECES, PIECES))}


@pytest.fixture
def folder(vocabulary: bytes, tmp_path: Path) -> Path:
    """A folder with everything but the model."""
    (tmp_path / "vocab.spm").write_bytes(vocabulary)
    return tmp_path


def array(header: str, content: bytes = b"") -> bytes:
    text = header.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + content


def zipped(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "special:model.yml.npy", array("{'descr': '|i1', 'fortran_order': False, 'shape': (2,), }", b"a:")
        )
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def pickled() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([print], dtype=object), allow_pickle=True)
    return buffer.getvalue()


FLOATS = "{'descr': '<f4', 'fortran_order': False, 'shape': %s, }"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (lambda: zipped(("Wemb.npy", pickled())), "Wemb holds pickled objects, which are never loaded"),
        (lambda: zipped(("Wemb.npy", array(FLOATS % "(1 << 40, 4)"))), "Wemb has no header of NumPy's"),
        (lambda: zipped(("Wemb.npy", array(FLOATS % "(1099511627776, 4)"))), "Wemb has 0 bytes, which shape"),
        (lambda: zipped(("Wemb.npy", array(FLOATS % "(-1, -4)", bytes(16)))), "Wemb has 16 bytes, which shape"),
        (lambda: zipped(("Wemb.npy", array("(" * 100))), "Wemb has no header of NumPy's"),
        (lambda: zipped(("Wemb.npy", b"text")), "Wemb has no header of NumPy's"),
        (lambda: zipped(("Wemb.npy", array(FLOATS % "(1048576,)", bytes(4 << 20)))), "Wemb grows more than 200 times"),
        (
            lambda: zipped(("x.npy", array("{'descr': '<i4', 'fortran_order': False, 'shape': (1,), }", bytes(4)))),
            "x is not of f",
        ),
        (lambda: zipped()[:-30], "damaged or not a model"),
    ],
)
def test_a_hostile_npz_is_refused(content: Callable[[], bytes], reason: str, folder: Path) -> None:
    path = folder / "model.npz"
    path.write_bytes(content())
    assert kind_of(path).name == "a Marian model"
    with pytest.raises(ReadingError, match=reason):
        marian.read(path, Languages.between("en", "de"))


def changed(data: bytes, at: int, form: str, value: int) -> bytes:
    """Write a number over others."""
    return data[:at] + struct.pack(form, value) + data[at + struct.calcsize(form) :]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data[:20], "ends .* bytes too early"),
        (lambda data: data[:-1000], "ends .* bytes too early"),
        (lambda data: data + b"x", "1 bytes are left at its end"),
        (lambda data: changed(data, 0, "<Q", 2), "it is encrypted"),
        (lambda data: changed(data, 0, "<Q", 3), "binary version 3, 1 is read"),
        (lambda data: changed(data, 8, "<Q", 1 << 60), "ends .* bytes too early"),
        (lambda data: changed(data, 16, "<Q", 1 << 62), "ends .* bytes too early"),
        (lambda data: changed(data, 16, "<Q", 3), "a name has no end"),
        (lambda data: changed(data, 24, "<Q", 0x0999), "packed for one kind of processor"),
        (lambda data: changed(data, 24, "<Q", 0x0208), "of an unknown type 0x208"),
        (lambda data: changed(data, 32, "<Q", 1 << 61), "ends .* bytes too early"),
        (lambda data: changed(data, 40, "<Q", 256), "has 252 bytes, which shape"),
        (lambda data: changed(data, 40, "<Q", 1 << 63), "ends .* bytes too early"),
    ],
)
def test_a_hostile_binary_file_is_refused(
    change: Callable[[bytes], bytes], reason: str, good: dict[str, Any], folder: Path
) -> None:
    path = folder / "model.bin"
    path.write_bytes(change(bin_of(good, STUDENT, bits=8)))
    with pytest.raises(ReadingError, match=reason):
        marian.read(path, Languages.between("en", "de"))


def test_a_matrix_was_multiplied_by_a_number(good: dict[str, Any], folder: Path) -> None:
    name = "encoder_l1_self_Wq"
    factor = struct.pack("<f", np.float32(127 / np.abs(good[name]).max()))
    data = bin_of(good, STUDENT, bits=8)
    assert data.count(factor) == 1
    for number in (0.0, -1.0, float("nan"), float("inf")):
        (folder / "model.bin").write_bytes(data.replace(factor, struct.pack("<f", number)))
        with pytest.raises(ReadingError, match=f"{name} was multiplied by"):
            read_model_file(folder / "model.bin")


def test_what_is_renamed_is_told_by_its_content(good: dict[str, Any], folder: Path) -> None:
    (folder / "model.npz").write_bytes(bin_of(good, STUDENT))
    assert kind_of(folder).name == "a Marian model"
    marian.read(folder, Languages.between("en", "de"))
    write_npz(folder / "other.npz", good, STUDENT)
    (folder / "other.npz").rename(folder / "model.bin")
    marian.read(folder / "model.bin", Languages.between("en", "de"))
    with pytest.raises(ReadingError, match=r"several models \(model.bin, model.npz\): give one of them"):
        marian.read(folder, Languages.between("en", "de"))
    for path in (folder / "model.npz", folder / "model.bin"):
        path.write_bytes(b"something else")
    with pytest.raises(ExportError, match="is not a model that can be read"):
        kind_of(folder)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"type": "s2s"}, "its type is s2s, not transformer"),
        ({"transformer-decoder-autoreg": "average-attention"}, "autoreg is average-attention, not one of"),
        ({"dec-cell": "sru"}, "dec-cell is sru, only ssru can be represented"),
        ({"transformer-ffn-activation": "gelu"}, "versions of Marian compute differently"),
        ({"transformer-ffn-depth": 3}, "transformer-ffn-depth is 3, only 2"),
        ({"transformer-decoder-dim-ffn": 48}, "transformer-decoder-dim-ffn is 48, it must be 24"),
        ({"transformer-postprocess": "dar"}, "postprocess 'dar', .* is neither that of post-norm nor of pre-norm"),
        (
            {"transformer-preprocess": "n", "transformer-postprocess": "da", "transformer-postprocess-top": "n"},
            "before 1.12",
        ),
        ({"transformer-rnn-projection": True}, "transformer-rnn-projection is set"),
        (
            {"transformer-no-projection": True, "layer-normalization": True},
            "layer-normalization is set; transformer-no-pro",
        ),
        ({"transformer-of-tomorrow": "new"}, "transformer-of-tomorrow is set"),
        ({"right-left": True}, "right-left is set"),
        ({"lemma-dim-emb": -1}, "lemma-dim-emb is set"),
        ({"transformer-tied-layers": [1]}, "transformer-tied-layers has 1 entries, which 2 layers do not fit"),
        ({"dim-emb": "wide"}, "dim-emb in the YAML in model.npz is 'wide', not a number"),
        ({"dim-emb": 1 << 20}, "weight source_embedding.weight has shape"),
        ({"dim-emb": 1 << 30}, "overflowed"),
        ({"enc-depth": 900}, "there is no weight encoder_layers.100."),
        ({"enc-depth": 1 << 20}, "enc-depth is 1048576"),
        ({"transformer-heads": 3}, "3 heads do not divide"),
        ({"transformer-dim-ffn": 1 << 40}, "not an integer"),
        ({"transformer-heads": [2]}, "transformer-heads in the YAML in model.npz is not one value"),
        ({"tied-embeddings-all": False}, "there is no matrix encoder_Wemb"),
        ({"tied-embeddings-all": "perhaps"}, "is 'perhaps', neither true nor false"),
        ({"output-omit-bias": True}, "weight decoder_ff_logit_out_b has no counterpart"),
    ],
)
def test_what_has_no_counterpart_is_refused(
    options: dict[str, Any], reason: str, good: dict[str, Any], folder: Path
) -> None:
    write_npz(folder / "model.npz", good, {**STUDENT, **options})
    with pytest.raises(ReadingError, match=reason):
        marian.read(folder, Languages.between("en", "de"))


@pytest.mark.parametrize(
    ("name", "weight", "reason"),
    [
        (
            "encoder_l1_self_Wq",
            np.zeros((16, 8), "f4"),
            r"self_attention.query.weight has shape \(8, 16\), the model needs",
        ),
        ("encoder_l1_self_Wk", np.zeros((16, 8), "f4"), "keys and values of encoder_l1_self have different shapes"),
        ("decoder_l2_rnn_Wf", None, "there is no weight decoder_layers.1.ssru.forget.weight"),
        ("decoder_l2_rnn_b", np.zeros((1, 16), "f4"), "weight decoder_layers.1.ssru.value.bias has no place"),
        ("decoder_l3_rnn_W", np.zeros((16, 16), "f4"), "weight decoder_l3_rnn_W has no counterpart"),
        ("Wpos", np.zeros((512, 16), "f4"), "weight Wpos has no counterpart"),
        ("encoder_l2_ffn_b1", np.full((1, 24), np.nan, "f4"), "expand.bias is not finite"),
        ("Wemb", np.zeros((2, 3, 4), "f4"), "there is no matrix Wemb"),
        ("Wemb", np.zeros((100, 16), "f4"), "the source vocabulary has 160 tokens, the model has 100"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    name: str, weight: Any, reason: str, good: dict[str, Any], folder: Path
) -> None:
    weights = {**good, name: weight}
    write_npz(folder / "model.npz", {name: weight for name, weight in weights.items() if weight is not None}, STUDENT)
    with pytest.raises(ReadingError, match=reason):
        marian.read(folder, Languages.between("en", "de"))


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"vocab.spm": b"text"}, "vocab.spm is not a SentencePiece model"),
        ({"vocab.spm": None}, "its vocabularies are not one or two files"),
        ({"a.vocab.spm": b"", "b.vocab.spm": b""}, "not one or two files"),
        ({"vocab.spm": None, "vocab.yml": b"a: 0\nb: 1\n"}, "</s> or <unk> has none"),
        ({"vocab.spm": None, "vocab.yml": b'"</s>": 0\n"<unk>": 7\n'}, "are not 0, 1, 2 and so on"),
        ({"vocab.spm": None, "vocab.yml": b"[" * 100_000}, "vocab.yml is not a flat mapping"),
        ({"vocab.spm": None, "vocab.yml": b"a: &a 1\nb: *a\n"}, "vocab.yml is not a flat mapping"),
        ({"d.yml": b"models: [model.npz]\nvocabs: [/far/other.spm]\n"}, "d.yml names other.spm, which is not there"),
        ({"d.yml": b"models: [model.npz, b.npz]\n"}, "d.yml is of 2 models, an ensemble cannot be represented"),
        (
            {"d.yml": b"models: [model.npz]\nbeam-size: 0\nword-penalty: 0.5\n"},
            "word-penalty in d.yml is set; beam-size",
        ),
        ({"d.yml": b"models: [model.npz]\nnormalize: .nan\n"}, "normalize in d.yml is '.nan', not a number"),
        ({"d.yml": b"models: &a [*a, *a]\n"}, "d.yml is not YAML"),
        ({"d.yml": b"models:\n" + b"- [" * 10_000}, "d.yml is not YAML"),
        ({"d.yml": b"models: !!python/object/apply:os.system [false]\n"}, ""),
        ({"lex.a.bin": b"", "lex.b.bin": b""}, "several lexicons"),
        ({"d.yml": b"models: [model.npz]\nshortlist: [vocab.spm, many]\n"}, "has something else than numbers"),
    ],
)
def test_files_beside_the_model_that_do_not_fit(
    files: dict[str, bytes | None], reason: str, good: dict[str, Any], folder: Path
) -> None:
    write_npz(folder / "model.npz", good, STUDENT)
    for name, content in files.items():
        (folder / name).write_bytes(content or b"")
        if content is None:
            (folder / name).unlink()
    if not reason:  # a tag is a name, and nothing is called
        marian.read(folder, Languages.between("en", "de"))
        return
    with pytest.raises(ReadingError, match=reason):
        marian.read(folder, Languages.between("en", "de"))
