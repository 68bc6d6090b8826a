"""Translation of one file: read, translate what the journal does not have, write."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from serving.client.files.document import Document
from serving.client.files.formats import FORMATS
from serving.client.files.journal import Journal

_Failure = TypeVar("_Failure")


def read_file(path: Path) -> Document:
    """Read a file.

    Raises:
        FileError: It is not what its name says.
    """
    return FORMATS[path.suffix.lower()](path.read_bytes())


def translate_file(
    document: Document,
    output: Path,
    job: str,
    translate: Callable[[Iterator[str]], Iterator[tuple[str, str | _Failure]]],
) -> list[_Failure]:
    """Write the translation of a file, as a whole or not at all.

    Args:
        document: The file.
        output: Path of the translation.
        job: Whatever makes a difference to the translations.
        translate: Yields each text with its translation or the reason why there is none.

    Returns:
        Those reasons; if there are any, nothing is written, and what is done is kept for the next time.
    """
    failures: list[_Failure] = []
    with Journal(output, job) as journal:
        texts = dict.fromkeys(text for text in document.texts if text.strip())
        for text, answer in translate(text for text in texts if journal.get(text) is None):
            if isinstance(answer, str):
                journal.add(text, answer)
            else:
                failures.append(answer)
        if not failures:
            translations = [journal.get(text) or text for text in document.texts]
            unfinished = output.with_name(output.name + ".tmp")
            unfinished.write_bytes(document.rebuild(translations))
            os.replace(unfinished, output)
            journal.remove()
    return failures
