"""Files given to ``dragoman-translate``: each is translated beside itself, or into a directory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from serving.client.client import TranslationClient
from serving.client.errors import CallError
from serving.client.files.document import FileError
from serving.client.files.translation import read_file, translate_file
from serving.client.glossary_file import with_terms_of
from serving.client.pace import Pace
from serving.client.pipeline import in_order
from serving.messages import Options


@dataclass(frozen=True)
class FileRun:
    """Translation of some files with the same options.

    Attributes:
        client: Of the server.
        pace: Of all calls.
        options: How to translate.
        model: Name of the model, or empty.
        version: Its version, or 0.
        output: Directory of the translations; None is that of each file.
        in_flight: Texts sent at the same time.
        complain: Tells the user of a file what went wrong.
        why: Says what an error means.
    """

    client: TranslationClient
    pace: Pace
    options: Options
    model: str
    version: int
    output: Path | None
    in_flight: int
    complain: Callable[[str, str], None]
    why: Callable[[CallError], str]

    def run(self, paths: Sequence[Path]) -> bool:
        """Translate files, one after the other; return whether all were."""
        try:
            model = self.pace.call(lambda: self.client.get_model(self.model, self.version))
        except CallError as error:
            self.complain(str(paths[0]), self.why(error))
            return False
        job = f"{model.name}/{model.version} {self.options}"
        done = [self._file(path, self._output(path, model.target_language), job) for path in paths]
        return all(done)

    def _output(self, path: Path, language: str) -> Path:
        name = f"{path.stem}.{language}{path.suffix}"
        return (self.output or path.parent) / name

    def _file(self, path: Path, output: Path, job: str) -> bool:
        try:
            document = read_file(path)
        except FileError as error:
            self.complain(str(path), str(error))
            return False
        except ImportError as error:
            self.complain(str(path), f"needs a package that is not installed ({error}); pip install '.[files]'")
            return False
        if document.left:
            said = f"{len(document.left)} texts are left as they are, since a translation of them could not be put back"
            self.complain(str(path), f"{said}; the first is {document.left[0]!r}")
        options = replace(self.options, mime_type=document.mime_type)

        def answer(text: str) -> str | CallError:
            try:
                result = self.pace.call(
                    lambda: self.client.translate(
                        [text], with_terms_of(options, text), model=self.model, version=self.version
                    )
                )
            except CallError as error:
                return error
            return result.translations[0].text

        def translate(texts: Iterator[str]) -> Iterator[tuple[str, str | CallError]]:
            with tqdm(
                total=len(set(document.texts)),
                unit=" texts",
                desc=path.name,
                file=sys.stderr,
                disable=None,
                leave=False,
            ) as bar:
                for entry in in_order(texts, answer, in_flight=self.in_flight):
                    bar.update()
                    yield entry

        failures = translate_file(document, output, job, translate)
        if failures:
            said = f"{len(failures)} texts failed, the first because {self.why(failures[0])}"
            self.complain(str(path), f"{said}; give the same command again to go on")
        else:
            print(output)
        return not failures
