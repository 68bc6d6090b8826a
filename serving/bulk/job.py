"""A bulk translation on disk: its description, the blocks that are done, and the way they become one file.

Beside the output lies a directory ``OUTPUT.parts`` with ``job.json`` and a file for each block that is done. A part
appears whole or not at all, so that a job can be killed anywhere and goes on where it was. All workers see the
directory: on more than one machine it lies on storage they share.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from serving.bulk.blocks import Block
from serving.errors import StartupError

_DESCRIPTION = "job.json"
_COPY_BYTES = 1 << 20


@dataclass(frozen=True)
class BulkJob:
    """The translation of one input to one output.

    Attributes:
        source: Text to translate, one a line.
        output: Where the translations shall be, line by line.
    """

    source: Path
    output: Path

    @property
    def parts(self) -> Path:
        """The directory of what is done."""
        return self.output.with_name(self.output.name + ".parts")

    def open(self, description: Mapping[str, object]) -> None:
        """Begin the job, or go on with one of the same description.

        Raises:
            StartupError: The output exists, or what is there was begun as another job.
        """
        if self.output.exists():
            raise StartupError(f"{self.output} is there already; remove it, or give another --output")
        self.parts.mkdir(parents=True, exist_ok=True)
        path = self.parts / _DESCRIPTION
        if not path.exists():
            _write_whole(path, json.dumps(description, indent=1).encode())
            return
        begun = json.loads(path.read_bytes())
        if changed := sorted(key for key in {*begun, *description} if begun.get(key) != description.get(key)):
            raise StartupError(
                f"{self.parts} was begun with another {', '.join(changed)}; "
                "repeat the command that began it, or remove the directory"
            )

    def is_done(self, block: Block) -> bool:
        """Tell whether the block's translations are on disk."""
        return self._part(block).exists()

    def write(self, block: Block, translations: Sequence[str], failures: Mapping[int, str]) -> None:
        """Put a block on disk: one line for each of its lines.

        Args:
            block: The block that was translated.
            translations: As many as the block has lines; those that failed are empty.
            failures: Reasons of lines that failed, by their numbers in the file.

        Raises:
            ValueError: There are more or fewer translations than lines.
        """
        if len(translations) != block.lines:
            raise ValueError(f"block {block.number} has {block.lines} lines and got {len(translations)} translations")
        if failures:  # before the part: a part that is there is complete
            _write_whole(self._failures(block), json.dumps(failures).encode())
        lines = (translation.replace("\r", " ").replace("\n", " ") + "\n" for translation in translations)
        _write_whole(self._part(block), "".join(lines).encode())

    def failures(self, blocks: Iterable[Block]) -> dict[int, str]:
        """Return the reasons why lines failed, by their numbers in the file."""
        found: dict[int, str] = {}
        for path in (self._failures(block) for block in blocks):
            if path.exists():
                found |= {int(line): reason for line, reason in json.loads(path.read_bytes()).items()}
        return found

    def finish(self, blocks: Iterable[Block]) -> None:
        """Join the parts in order into the output, and remove them."""
        partial = self.output.with_name(f".{self.output.name}.partial")
        with partial.open("wb") as whole:
            for block in blocks:
                with self._part(block).open("rb") as part:
                    shutil.copyfileobj(part, whole, _COPY_BYTES)
            whole.flush()
            os.fsync(whole.fileno())
        partial.replace(self.output)
        shutil.rmtree(self.parts)

    def _part(self, block: Block) -> Path:
        return self.parts / f"{block.number:08d}.txt"

    def _failures(self, block: Block) -> Path:
        return self.parts / f"{block.number:08d}.failures.json"


def _write_whole(path: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all, even if two workers write it, or the machine stops."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
