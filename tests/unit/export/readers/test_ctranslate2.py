"""Models of CTranslate2 against its own ``Translator``: a small real one, and random ones that its converter wrote."""

from __future__ import annotations

import json
import os
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from export.errors import ReadingError
from export.readers import ctranslate2 as reader
from export.readers.ctranslate2_file import ModelFile, read_model_file
from export.readers.kinds import kind_of
from export.trained_model import TrainedModel
from serving.bundle.manifest import Languages
from tests.unit.export.readers.marian_models import SENTENCES, marian
from training import decode

ctranslate2 = pytest.importorskip("ctranslate2", reason="ctranslate2 is not installed (extra peer)")

LIMIT = 30


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Steps of tiny models are too small to share."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def compared(
    trained: TrainedModel, folder: Path, texts: list[str], cut: Callable[[str], list[str]], **options: Any
) -> None:
    """Both give the same hypotheses in the same order, greedily and by beam search, with the same scores."""
    translator = ctranslate2.Translator(str(folder), compute_type="float32", inter_threads=1, intra_threads=1)
    for beam in (1, 4):
        theirs = translator.translate_batch(
            [cut(text) for text in texts],
            beam_size=beam,
            num_hypotheses=beam,
            max_decoding_length=LIMIT,
            min_decoding_length=0,  # 1 unless asked: an empty translation has then no probability
            return_scores=True,
            **options,
        )
        search = decode.DecodeOptions(beam_size=beam, n_best=beam, max_length=LIMIT)
        ours = decode.translate(trained.model, trained.encode(texts), search)
        table = json.loads(trained.files[trained.tokenizer.target_vocabulary or trained.tokenizer.target])
        spellings = table.get("pieces", table.get("tokens"))
        for expected, found in zip(theirs, ours, strict=True):
            assert [[spellings[token] for token in one.tokens] for one in found] == expected.hypotheses
            assert [one.score for one in found] == pytest.approx(expected.scores, abs=1e-4)


@pytest.fixture
def real() -> Path:
    data = os.environ.get("DRAGOMAN_DATA")
    if data is None or not (Path(data) / "aren").is_dir():
        pytest.skip("DRAGOMAN_DATA has no aren/: the small real model is not there")
    return Path(data) / "aren"


@pytest.mark.parametrize("name", ["aren-transliteration", "aren-transliteration-i8"])
def test_a_real_model_transliterates_as_its_own_library(name: str, real: Path) -> None:
    folder, draw = real / name, random.Random(0)
    kind = kind_of(folder)
    assert (kind.name, kind.languages(folder)) == ("a CTranslate2 model", None)
    trained = kind.read(folder, Languages.between("ar", "en"))
    letters = (folder / "source_vocabulary.txt").read_text(encoding="utf-8").split("\n")[3:39]
    words = ["".join(draw.choices(letters, k=draw.randint(2, 7))) for _ in range(40)]
    compared(trained, folder, ["\u0622\u062a\u0632\u0645\u0648\u0646", *words, "\u0622z\u0645"], list)


@pytest.fixture(scope="module")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MarianMT model of random weights."""
    folder = tmp_path_factory.mktemp("marian")
    marian(folder)
    return folder


@pytest.mark.parametrize("quantization", [None, "int8", "int16", "float16"])
def test_a_random_model_that_its_converter_wrote(quantization: str | None, random_model: Path, tmp_path: Path) -> None:
    import transformers

    converter = ctranslate2.converters.TransformersConverter(str(random_model), copy_files=["source.spm", "target.spm"])
    converter.convert(str(tmp_path / "out"), quantization=quantization)
    tokenizer = transformers.MarianTokenizer.from_pretrained(random_model)
    trained = kind_of(tmp_path / "out").read(tmp_path / "out", Languages.between("en", "de"))
    ends = trained.framed(trained.encode(SENTENCES[:1])[0])[-1]
    assert ends == trained.vocabulary.eos

    def cut(text: str) -> list[str]:
        return [str(token) for token in tokenizer.convert_ids_to_tokens(tokenizer(text).input_ids)]

    compared(trained, tmp_path / "out", SENTENCES[:6], cut)


DTYPES = {torch.float32: 0, torch.int8: 1, torch.int16: 2, torch.int32: 3, torch.float16: 4, torch.bfloat16: 5}


def written(file: ModelFile, version: int) -> bytes:
    """The file again, in another version of the format."""

    def string(text: str) -> bytes:
        return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"

    def variable(name: str, value: Tensor) -> bytes:
        dims = struct.pack(f"<B{value.ndim}I", value.ndim, *value.shape)
        if version >= 4:
            kind = struct.pack("<BI", DTYPES[value.dtype], value.nbytes)
        else:
            kind = struct.pack("<BI", value.element_size(), value.numel())
        return string(name) + dims + kind + value.numpy().tobytes()

    parts = [struct.pack("<I", version), string(file.spec), struct.pack("<II", file.revision, len(file.variables))]
    parts += [variable(name, value) for name, value in file.variables.items()]
    return b"".join(parts) + (struct.pack("<I", 0) if version >= 3 else b"")


def test_older_versions_hold_the_same(random_model: Path, tmp_path: Path) -> None:
    ctranslate2.converters.TransformersConverter(str(random_model)).convert(str(tmp_path / "out"))
    path = tmp_path / "out" / "model.bin"
    newest = read_model_file(path)
    assert newest.version == 6
    for version in (2, 3, 4, 5):
        (tmp_path / "model.bin").write_bytes(written(newest, version))
        again = read_model_file(tmp_path / "model.bin")
        assert again.version == version
        assert again.variables.keys() == newest.variables.keys()
        assert all(torch.equal(again.variables[name], newest.variables[name]) for name in newest.variables)
    model = path.read_bytes()
    size = struct.pack("<I", newest.variables["encoder/layer_0/ffn/linear_0/bias"].nbytes)
    for content, reason in (
        (b"", "damaged"),
        (model[:1000], "too early"),
        (model + b"x", "1 bytes are left"),
        (struct.pack("<I", 7) + model[4:], "binary version 7, 2 to 6 are read"),
        (model.replace(size, struct.pack("<I", 1 << 31), 1), "bytes, which shape"),
    ):
        path.write_bytes(content)
        with pytest.raises(ReadingError, match=reason):
            reader.read(tmp_path / "out", Languages.between("en", "de"))


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("config.json", {"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon is 1e-06"),
        ("config.json", {"eos_token": "<end>"}, "eos_token is '<end>', which is not in the vocabulary"),
        ("shared_vocabulary.json", ["</s>", "<unk>"], "the source vocabulary has 2 tokens, the model has"),
        ("shared_vocabulary.json", {"</s>": 0}, "is not a list of tokens"),
    ],
)
def test_what_does_not_fit_is_refused(file: str, content: Any, reason: str, random_model: Path, tmp_path: Path) -> None:
    ctranslate2.converters.TransformersConverter(str(random_model)).convert(str(tmp_path / "out"))
    path = tmp_path / "out" / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **content} if file == "config.json" else content))
    with pytest.raises(ReadingError, match=reason):
        reader.read(tmp_path / "out", Languages.between("en", "de"))
