"""Files that belong to a model of Marian: what a decoder's YAML names, or what is called as Marian's users call it.

Paths in the YAML are those of the machine it was written on, so of each the name counts, and the file lies beside it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from export.errors import ReadingError
from export.readers import marian_file
from export.readers.marian_options import MarianOptions
from export.readers.reading import read_bytes

_SUFFIXES = (".npz", ".bin")
_MODELS = re.compile(r"^models\s*:", re.MULTILINE)  # which a decoder's YAML has, and no other file


@dataclass(frozen=True)
class ModelFolder:
    """A model file, and the decoder's options beside it, if there are any.

    Attributes:
        model: The file.
        options: Of the decoder.
    """

    model: Path
    options: MarianOptions

    @property
    def vocabularies(self) -> tuple[Path, Path]:
        """The files of source and target, which may be one.

        Raises:
            ReadingError: There are none, or too many.
        """
        found = self._named("vocabs") or self._first(("srcvocab*.spm", "trgvocab*.spm"), ("*vocab*.spm",))
        found = found or self._first(("*vocab*.yml",), ("*vocab*.yaml",), ("*vocab*.json",))
        if len(found) not in (1, 2):
            names = ", ".join(path.name for path in found)
            raise ReadingError([f"its vocabularies are not one or two files ({names or 'there are none'})"])
        return found[0], found[-1]

    @property
    def sentencepiece(self) -> tuple[Path, Path] | None:
        """The models that cut text for vocabularies that are only lists, if there are any."""
        source, target = (self.model.parent / f"{side}.spm" for side in ("source", "target"))
        return (source, target) if source.is_file() and target.is_file() else None

    @property
    def lexicon(self) -> Path | None:
        """The shortlist's file, if there is one.

        Raises:
            ReadingError: There are several, or the one that is named is missing.
        """
        named = self.options.texts("shortlist")
        found = [self._beside(named[0])] if named else self._first(("lex*.bin",), ("lex*",))
        if len(found) > 1:
            raise ReadingError([f"it has several lexicons ({', '.join(path.name for path in found)}): leave one"])
        return found[0] if found else None

    def _named(self, option: str) -> list[Path]:
        return [self._beside(text) for text in self.options.texts(option)]

    def _beside(self, name: str) -> Path:
        path = self.model.parent / PurePosixPath(name).name
        if not path.is_file():
            raise ReadingError([f"{self.options.origin} names {path.name}, which is not there"])
        return path

    def _first(self, *groups: tuple[str, ...]) -> list[Path]:
        """Return the files of the first group of patterns that has any."""
        files = ([path for pattern in group for path in sorted(self.model.parent.glob(pattern))] for group in groups)
        return next((some for some in files if some), [])


def model_files(source: Path) -> list[Path]:
    """Return the models in a directory, or the file itself if it is one."""
    paths = sorted(source.iterdir()) if source.is_dir() else [source]
    return [path for path in paths if path.suffix in _SUFFIXES and marian_file.recognises(path)]


def find_model(source: Path) -> ModelFolder:
    """Find the one model of a directory or file, and the options that name it.

    Raises:
        ReadingError: There are several, or an ensemble of them.
    """
    models = model_files(source)
    folder = source if source.is_dir() else source.parent
    options = [(path.name, found) for path in sorted(folder.glob("*.y*ml")) if (found := _decoder_options(path))]
    naming = [(name, found, model) for name, found in options for model in models if model.name in _names(found)]
    named = sorted({model for *_, model in naming})
    if len(named or models) != 1:
        names = ", ".join(path.name for path in named or models)
        raise ReadingError([f"it has several models ({names}): give one of them"])
    model = (named or models)[0]
    # That which Marian writes beside a model comes first.
    naming.sort(key=lambda one: one[0] != f"{model.name}.decoder.yml")
    chosen = naming[0][1] if naming else MarianOptions("no YAML", {})
    if len(_names(chosen)) > 1:
        raise ReadingError([f"{chosen.origin} is of {len(_names(chosen))} models, an ensemble cannot be represented"])
    return ModelFolder(model, chosen)


def _names(options: MarianOptions) -> list[str]:
    return [PurePosixPath(name).name for name in options.texts("models")]


def _decoder_options(path: Path) -> MarianOptions | None:
    """Parse a YAML file, if it is a decoder's."""
    text = read_bytes(path).decode("utf-8", errors="replace")
    return MarianOptions.parse(text, path.name) if _MODELS.search(text) else None
