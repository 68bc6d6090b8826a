"""Argos packages (``.argosmodel``): a zip of a CTranslate2 directory, ``metadata.json`` and a tokenizer's model."""

from __future__ import annotations

import re
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from export.errors import ReadingError
from export.readers.ctranslate2 import read_with_texts
from export.readers.ctranslate2_tokenizer import BytePairCodes, SentencePieceModels, TextFiles
from export.readers.reading import read_object
from export.trained_model import TrainedModel
from serving.bundle.manifest import Languages

_LARGEST = 4 << 30  # bytes of all files, unpacked
_MOST_TIMES = 200  # that a file may grow: weights hardly shrink, and vocabularies to a tenth
_MOST_FILES = 10_000  # a package may have a sentence splitter's files too
# Of all that is in a package, only these are unpacked.
_WANTED = re.compile(
    r"metadata\.json|sentencepiece\.model|bpe\.model|model/(model\.bin|config\.json|\w*vocabulary\.\w+)"
)


def recognises(source: Path) -> bool:
    """Return whether this is a package, or one unpacked."""
    if source.is_dir():
        return (source / "metadata.json").is_file() and (source / "model" / "model.bin").is_file()
    return source.is_file() and zipfile.is_zipfile(source)


def languages(source: Path) -> Languages | None:
    """Return the languages that ``metadata.json`` names.

    Raises:
        ReadingError: The package is damaged or hostile.
    """
    with tempfile.TemporaryDirectory() as place:
        metadata = read_object(_unpacked(source, Path(place), re.compile(r"metadata\.json")) / "metadata.json")
    pair = metadata.get("from_code"), metadata.get("to_code")
    return Languages.between(str(pair[0]), str(pair[1])) if all(pair) else None


def read(source: Path, languages: Languages) -> TrainedModel:
    """Read the package.

    Raises:
        ReadingError: It is damaged or hostile, or the model cannot be represented exactly; lists every reason.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = _unpacked(source, Path(place), _WANTED)
        metadata = read_object(folder / "metadata.json")
        if prefix := metadata.get("target_prefix"):
            raise ReadingError([f"every translation has to begin with {prefix!r}, which a bundle cannot say"])
        return read_with_texts(folder / "model", languages, _texts(folder, metadata))


def _texts(folder: Path, metadata: Mapping[str, Any]) -> TextFiles:
    """Return what cuts texts.

    Raises:
        ReadingError: There is nothing, or it needs languages that nothing says.
    """
    model, codes = folder / "sentencepiece.model", folder / "bpe.model"
    if model.is_file():
        return SentencePieceModels(model, model)
    if not codes.is_file():
        raise ReadingError(["it has neither sentencepiece.model nor bpe.model"])
    pair = metadata.get("from_code"), metadata.get("to_code")
    if not all(pair):
        raise ReadingError(
            ["metadata.json does not say from_code and to_code, by whose rules texts are cut into words"]
        )
    return BytePairCodes(codes, str(pair[0]), str(pair[1]))


def _unpacked(source: Path, place: Path, wanted: re.Pattern[str]) -> Path:
    """Unpack those files of a package that are wanted; a directory is its own.

    Raises:
        ReadingError: A name in the package leads out of it, or the files are larger than a model's can be.
    """
    if source.is_dir():
        return source
    try:
        with zipfile.ZipFile(source) as package:
            members = _checked(package, wanted)
            for path, member in members.items():
                target = place / path
                target.parent.mkdir(parents=True, exist_ok=True)
                with package.open(member) as content, target.open("wb") as file:
                    shutil.copyfileobj(content, file)  # zipfile reads no more than the size that was checked
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise ReadingError([f"{source.name} is damaged ({error})"]) from error
    return place


def _checked(package: zipfile.ZipFile, wanted: re.Pattern[str]) -> dict[str, zipfile.ZipInfo]:
    """Return the wanted files by their paths below the package's one directory."""
    found: dict[str, zipfile.ZipInfo] = {}
    members = package.infolist()
    if len(members) > _MOST_FILES:
        raise ReadingError([f"it has {len(members)} files, at most {_MOST_FILES} are read"])
    for member in members:
        parts = PurePosixPath(member.filename).parts
        if member.filename.startswith("/") or "\\" in member.filename or ".." in parts or ":" in member.filename:
            raise ReadingError([f"its file {member.filename!r} would lie outside of it"])
        if stat.S_ISLNK(member.external_attr >> 16):
            raise ReadingError([f"its file {member.filename!r} is a link"])
        if member.file_size > _MOST_TIMES * max(member.compress_size, 1):
            raise ReadingError([f"its file {member.filename!r} grows more than {_MOST_TIMES} times when unpacked"])
        path = "/".join(parts[1:])
        if not member.is_dir() and wanted.fullmatch(path):
            if path in found:
                raise ReadingError([f"it has {path} twice"])
            found[path] = member
    if sum(member.file_size for member in found.values()) > _LARGEST:
        raise ReadingError([f"its files have more than {_LARGEST} bytes when unpacked"])
    return found
