"""Argos packages: the model inside is read, and nothing of a hostile one is unpacked."""

from __future__ import annotations

import json
import tempfile
import zipfile
from pathlib import Path

import pytest
import torch

from export.errors import ReadingError
from export.readers import argos, ctranslate2
from export.readers.kinds import kind_of
from serving.bundle.manifest import Languages
from tests.unit.export.readers.marian_models import SENTENCES, marian

converters = pytest.importorskip("ctranslate2", reason="ctranslate2 is not installed (extra peer)").converters


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CTranslate2 directory of random weights."""
    folder = tmp_path_factory.mktemp("argos")
    marian(folder / "marian")
    with pytest.warns(UserWarning, match="sacremoses"):
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
        ("bpe", {"tokenizer": "bpe.model"}, "its tokenizer is bpe.model"),
        ("none", {"tokenizer": "other"}, "it has no tokenizer"),
    ):
        with pytest.raises(ReadingError, match=reason):
            argos.read(package(tmp_path / name, model, **options), Languages.between("en", "de"))


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
