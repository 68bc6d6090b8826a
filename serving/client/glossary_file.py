"""A glossary for ``dragoman-translate``: a file with a source term and a target term per line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from serving.glossary_table import entries_for, read_entries
from serving.messages import GlossaryEntry, Options


def read_glossary(path: Path) -> tuple[GlossaryEntry, ...]:
    """Read a file whose terms have a tab between them, or a comma if its name ends in ``.csv``.

    Raises:
        ValueError: It is something else, or not UTF-8.
        OSError: It cannot be read.
    """
    form = "csv" if path.suffix.lower() == ".csv" else "tsv"
    try:
        entries = read_entries(path.read_text(encoding="utf-8-sig"), form)
    except ValueError as error:  # UnicodeDecodeError is one
        raise ValueError(f"{path}: {error}") from error
    return tuple(GlossaryEntry(*entry) for entry in entries.items())


def with_terms_of(options: Options, text: str) -> Options:
    """Return options with those terms of their glossary that may occur in a text: a request takes not so many."""
    if not options.glossary:
        return options
    return replace(options, glossary=entries_for({entry.source: entry.target for entry in options.glossary}, [text]))
