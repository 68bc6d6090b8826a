"""Translations that are done, kept beside the output until all are: whoever was interrupted goes on from there."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path


class Journal:
    """Translations of texts, on disk as they come; as a context manager it closes its file."""

    def __init__(self, output: Path, job: str) -> None:
        """Read what was done of the same job; what is of another is thrown away.

        Args:
            output: The file to be written in the end.
            job: Whatever makes a difference to the translations.
        """
        self._path = output.with_name(output.name + ".part")
        self._done: dict[str, str] = {}
        self._job = hashlib.sha256(job.encode(errors="surrogatepass")).hexdigest()
        lines = self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []
        if lines and lines[0] == self._job:
            for line in lines[1:]:
                try:
                    text, translation = json.loads(line)
                except ValueError:  # the last line, half written
                    break
                self._done[text] = translation
        self._file = self._path.open("w", encoding="utf-8")
        self._write(self._job)
        for text, translation in self._done.items():
            self._write(json.dumps([text, translation]))

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def get(self, text: str) -> str | None:
        """Return the translation of a text, if it is done."""
        return self._done.get(text)

    def add(self, text: str, translation: str) -> None:
        """Keep a translation."""
        self._done[text] = translation
        self._write(json.dumps([text, translation]))

    def remove(self) -> None:
        """Forget all: the output is written."""
        self._file.close()
        self._path.unlink(missing_ok=True)

    def _write(self, line: str) -> None:
        self._file.write(line + "\n")
        self._file.flush()
