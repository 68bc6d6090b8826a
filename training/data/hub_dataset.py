"""Parallel text by a Hugging Face ``datasets`` name: from the hub, or from a folder of parquet, JSON or CSV files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from training.data.parallel_text import Pair
from training.errors import DataError


@dataclass(frozen=True)
class HubDataset:
    """A data set that ``datasets.load_dataset`` finds; read as a stream, so that it may exceed memory.

    Attributes:
        dataset: Name on the hub, such as ``Helsinki-NLP/opus_books``, or a folder of data files.
        columns: Columns of source and target; a dot goes into a nested one, such as ``translation.en``.
        subset: The data set's configuration, such as ``en-fr``.
        split: Which part of it.
        revision: Commit or tag on the hub; name one for a run that can be repeated.
        name: Label of every pair.
    """

    dataset: str
    columns: tuple[str, str]
    subset: str | None = None
    split: str = "train"
    revision: str | None = None
    name: str = ""

    def identity(self) -> list[tuple[str, int, int]]:
        """Path, size and time of each file of a folder; of a data set on the hub the revision is all there is."""
        files = sorted(path for path in Path(self.dataset).rglob("*") if path.is_file())
        return [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]

    def pairs(self) -> Iterator[Pair]:
        """Stream the data set.

        Raises:
            DataError: If ``datasets`` is not installed, the data set cannot be loaded, or a column is missing.
        """
        try:
            import datasets
        except ImportError as error:
            raise DataError(
                f"the corpus {self.dataset} needs the package 'datasets'; install dragoman with the extra 'datasets'."
            ) from error
        described = f"the data set {self.dataset}" + (f" ({self.subset})" if self.subset else "")
        try:
            rows = datasets.load_dataset(
                self.dataset, self.subset, split=self.split, revision=self.revision, streaming=True
            )
            stream = enumerate(iter(rows), start=1)
            first = next(stream, None)
        except Exception as error:  # the hub, the network and every file format raise errors of their own
            reason = str(error).split("\n", maxsplit=1)[0] or type(error).__name__
            raise DataError(f"{described}, split {self.split}, cannot be loaded: {reason}") from error
        if first is None:
            raise DataError(f"{described}, split {self.split}, is empty; name another split.")
        yield self._pair(*first)
        for number, row in stream:
            yield self._pair(number, row)

    def _pair(self, number: int, row: Mapping[str, Any]) -> Pair:
        texts = list[str]()
        for column in self.columns:
            try:
                text: Any = reduce(lambda value, key: value[key], column.split("."), row)
            except (KeyError, TypeError) as error:
                raise DataError(
                    f"{self.dataset}, row {number}: there is no column {column}; it has {', '.join(row)}."
                ) from error
            if not isinstance(text, str):
                raise DataError(f"{self.dataset}, row {number}: column {column} holds {text!r:.40}, which is not text.")
            texts.append(text)
        return Pair(texts[0], texts[1], self.name)
