"""The kinds of models that can be read, and which of them a directory or file is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from export.errors import ExportError
from export.readers import argos, ctranslate2, huggingface_marian, huggingface_multilingual, marian
from export.trained_model import TrainedModel
from serving.bundle.manifest import Languages


@dataclass(frozen=True)
class Kind:
    """A kind of model.

    Attributes:
        name: As people call it.
        recognises: Whether a directory or file holds one.
        languages: Those it translates, if it says.
        read: Reads it, given its languages.
    """

    name: str
    recognises: Callable[[Path], bool]
    languages: Callable[[Path], Languages | None]
    read: Callable[[Path, Languages], TrainedModel]


KINDS = (
    Kind(
        "a Hugging Face Marian model",
        huggingface_marian.recognises,
        huggingface_marian.languages,
        huggingface_marian.read,
    ),
    Kind(
        "a Hugging Face M2M100 or NLLB model",
        huggingface_multilingual.recognises_m2m100,
        huggingface_multilingual.languages,
        huggingface_multilingual.read,
    ),
    Kind(
        "a Hugging Face mBART-50 model",
        huggingface_multilingual.recognises_mbart,
        huggingface_multilingual.languages,
        huggingface_multilingual.read,
    ),
    Kind("a Marian model", marian.recognises, marian.languages, marian.read),
    Kind("an Argos package", argos.recognises, argos.languages, argos.read),
    Kind("a CTranslate2 model", ctranslate2.recognises, ctranslate2.languages, ctranslate2.read),
)


def kind_of(source: Path) -> Kind:
    """Find out what kind of model a directory or file holds.

    Raises:
        ExportError: There is nothing, or no kind that can be read.
    """
    if not source.exists():
        raise ExportError(f"there is no {source}: give the directory or file of a model")
    kind = next((kind for kind in KINDS if kind.recognises(source)), None)
    if kind is None:
        known = ", ".join(kind.name for kind in KINDS)
        raise ExportError(f"{source} is not a model that can be read: give {known}")
    return kind
