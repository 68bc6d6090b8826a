"""Glossaries as tables of text, with a source term and a target term per line."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from unicodedata import normalize

from serving.messages import GlossaryEntry

MOST_ENTRIES = 10_000
_DELIMITERS = {"tsv": "\t", "csv": ","}


def read_entries(text: str, form: str) -> dict[str, str]:
    """Read a table; more columns of CSV are languages, and left out.

    Args:
        text: The table.
        form: ``tsv`` or ``csv``.

    Returns:
        Target term by source term.

    Raises:
        ValueError: A line is something else, a source term is there twice, or there are none or too many lines.
    """
    if form == "tsv":
        rows = [line.split("\t") for line in text.splitlines() if line.strip()]
    else:
        rows = [row for row in csv.reader(text.splitlines()) if row]
    entries: dict[str, str] = {}
    for number, row in enumerate(rows, 1):
        terms = [term.strip() for term in row[:2]]
        if len(terms) < 2 or not all(terms) or (form == "tsv" and len(row) > 2):
            between = f"with {_DELIMITERS[form]!r} between them"
            raise ValueError(f"line {number} is not a source term and a target term, {between}")
        if entries.setdefault(terms[0], terms[1]) != terms[1]:
            raise ValueError(f"line {number} has the source term of another line; give each its own")
    if not 1 <= len(entries) <= MOST_ENTRIES:
        raise ValueError(f"has {len(entries)} entries; give from 1 to {MOST_ENTRIES}")
    return entries


def entries_for(entries: Mapping[str, str], texts: Iterable[str]) -> tuple[GlossaryEntry, ...]:
    """Return the entries whose terms may occur in some texts: a request may have fewer than a glossary holds."""
    read = _comparable("\n".join(texts))
    return tuple(GlossaryEntry(*entry) for entry in entries.items() if _comparable(entry[0]) in read)


def _comparable(text: str) -> str:
    return " ".join(normalize("NFC", text).split()).casefold()
