"""Argos packages: the model inside is read, and nothing of a hostile one is unpacked."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
import zipfile
from pathlib import Path

import pytest
import torch
from sacremoses import MosesDetokenizer, MosesPunctNormalizer, MosesTokenizer
from subword_nmt.apply_bpe import BPE
from subword_nmt.learn_bpe import learn_bpe

from export.errors import ReadingError
from export.readers import argos, ctranslate2
from export.readers.kinds import kind_of
from export.verify import translate_in_torch
from serving.bundle.manifest import Languages
from tests.unit.export.readers.marian_models import SENTENCES, marian

ctranslate2_library = pytest.importorskip("ctranslate2", reason="ctranslate2 is not installed (extra peer)")
converters = ctranslate2_library.converters


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CTranslate2 directory of random weights."""
    folder = tmp_path_factory.mktemp("argos")
    marian(folder / "marian")
    converters.TransformersConverter(str(folder / "marian")).convert(str(folder / "model"))
    return folder / "model"


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where packages would be unpacked."""
    place = tmp_path / "places"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


def package(path: Path, model: Path, *, tokenizer: str = "sentencepiece.model", **metadata: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for one in model.iterdir():
            file.write(one, f"translate-en_de-1_0/model/{one.name}")
        file.write(model.parent / "marian" / "source.spm", f"translate-en_de-1_0/{tokenizer}")
        file.writestr("translate-en_de-1_0/metadata.json", json.dumps({"from_code": "en", "to_code": "de", **metadata}))
        file.writestr("translate-en_de-1_0/stanza/en/tokenize/something.pt", b"pickled code")
    return path


def test_a_package_is_the_model_inside_it(model: Path, tmp_path: Path, places: Path) -> None:
    file = package(tmp_path / "en_de.argosmodel", model)
    kind = kind_of(file)
    assert (kind.name, kind.languages(file)) == ("an Argos package", Languages.between("en", "de"))
    trained = kind.read(file, Languages.between("en", "de"))
    inside = ctranslate2.read(model, Languages.between("en", "de")).model.state_dict()
    assert all(torch.equal(weight, inside[name]) for name, weight in trained.model.state_dict().items())
    (ids,) = trained.encode(SENTENCES[:1])
    assert len(ids) > 5
    assert not list(places.iterdir())
    zipfile.ZipFile(file).extractall(tmp_path)
    assert kind_of(tmp_path / "translate-en_de-1_0").name == "an Argos package"


def test_what_a_bundle_cannot_do_is_refused(model: Path, tmp_path: Path) -> None:
    for name, options, reason in (
        ("prefix", {"target_prefix": "__de__"}, "begin with '__de__'"),
        ("bpe", {"tokenizer": "bpe.model"}, "is not a file of subword-nmt's"),  # but SentencePiece's
        ("none", {"tokenizer": "other"}, "neither sentencepiece.model nor bpe.model"),
    ):
        with pytest.raises(ReadingError, match=reason):
            argos.read(package(tmp_path / name, model, **options), Languages.between("en", "de"))


def byte_pairs(folder: Path, model: Path) -> tuple[Path, str]:
    """A package whose tokens are parts of words, and the codes that cut them."""
    codes = io.StringIO()
    learn_bpe(io.StringIO("\n".join(SENTENCES)), codes, 60, min_frequency=1)
    vocabulary = json.loads((model / "shared_vocabulary.json").read_text())
    parts = sorted({part for text in SENTENCES for part in argos_s_own(text, codes.getvalue())})
    names = iter([*parts[: len(vocabulary) - 3], *(f"filler{number}" for number in range(len(vocabulary)))])
    named = [token if token in ("</s>", "<unk>", "<pad>") else next(names) for token in vocabulary]
    (folder / "model").mkdir()
    for file in ("model.bin", "config.json"):
        shutil.copy(model / file, folder / "model")
    (folder / "model" / "shared_vocabulary.json").write_text(json.dumps(named))
    (folder / "bpe.model").write_text(codes.getvalue())
    (folder / "metadata.json").write_text(json.dumps({"from_code": "en", "to_code": "de"}))
    return folder, codes.getvalue()


def argos_s_own(text: str, codes: str) -> list[str]:
    """The tokens that Argos Translate makes of an English text (its tokenizer.py)."""
    words = MosesTokenizer("en").tokenize(MosesPunctNormalizer("en").normalize(text))
    found: list[str] = BPE(io.StringIO(codes)).segment_tokens(" ".join(words).strip("\r\n ").split(" "))
    return found


def test_a_package_with_byte_pairs_translates_as_its_library_does(model: Path, tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    folder, codes = byte_pairs(tmp_path / "package", model)
    trained = argos.read(folder, Languages.between("en", "de"))
    assert trained.tokenizer.kind == "moses"
    translator = ctranslate2_library.Translator(str(folder / "model"), compute_type="float32", intra_threads=1)
    texts = [*SENTENCES[:6], "\u201cIt\u2019s 5\u00a0%,\u201d he said \u2014 & left\u2026"]
    theirs = translator.translate_batch(
        [[*argos_s_own(text, codes), "</s>"] for text in texts],  # which the models of this test read, as Marian's do
        beam_size=4,
        max_decoding_length=20,
        min_decoding_length=0,
    )
    rows = translate_in_torch(trained, trained.encode(texts), 4, 20)
    vocabulary = json.loads((folder / "model" / "shared_vocabulary.json").read_text())
    assert [[vocabulary[token] for token in row] for row in rows] == [one.hypotheses[0] for one in theirs]
    joined = [
        MosesDetokenizer("de").detokenize(" ".join(one.hypotheses[0]).replace("@@ ", "").split(" ")) for one in theirs
    ]
    assert [text.removesuffix("@@") for text in joined] == trained.decode(rows)
    assert len({len(row) for row in rows}) > 2


def test_byte_pairs_that_are_others_are_refused(model: Path, tmp_path: Path) -> None:
    folder, codes = byte_pairs(tmp_path, model)
    vocabulary = folder / "model" / "shared_vocabulary.json"
    for file, content, reason in (
        (folder / "bpe.model", "v3;false;false;true\n" + codes, "is not a file of subword-nmt's"),
        (vocabulary, vocabulary.read_text().replace("@@", "\uffed"), "no token of its vocabulary ends in @@"),
        (folder / "metadata.json", "{}", "does not say from_code and to_code"),
    ):
        before = file.read_text()
        file.write_text(content)
        with pytest.raises(ReadingError, match=reason):
            argos.read(folder, Languages.between("en", "de"))
        file.write_text(before)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("../../outside.json", b"{}", "would lie outside of it"),
        ("/etc/outside.json", b"{}", "would lie outside of it"),
        ("p/..\\outside.json", b"{}", "would lie outside of it"),
        ("p/model/huge_vocabulary.json", b"\0" * (8 << 20), "grows more than 200 times"),
    ],
)
def test_a_hostile_package_is_refused_before_anything_is_unpacked(
    name: str, content: bytes, reason: str, tmp_path: Path, places: Path
) -> None:
    path = tmp_path / "hostile.argosmodel"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("p/metadata.json", '{"from_code": "en", "to_code": "de"}')
        file.writestr(name, content)
    for work in (argos.languages, lambda source: argos.read(source, Languages.between("en", "de"))):
        with pytest.raises(ReadingError, match=reason):
            work(path)
    assert not list(places.iterdir())
    assert {one.name for one in tmp_path.iterdir()} == {"hostile.argosmodel", "places"}


def test_links_and_damage_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "link.argosmodel"
    link = zipfile.ZipInfo("p/metadata.json")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(link, "/etc/passwd")
    with pytest.raises(ReadingError, match="is a link"):
        argos.languages(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("p/metadata.json", "{" * 1000)
    damaged = bytearray(path.read_bytes())
    damaged[100] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(ReadingError, match="is damaged"):
        argos.languages(path)
