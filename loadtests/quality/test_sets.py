"""The test sets that a bundle is scored on, out of the folder of corpora."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from loadtests.service.sentences import read_lines

_LENGTHS = (10, 20, 40)


@dataclass(frozen=True)
class Line:
    """A sentence of a test set.

    Attributes:
        source: The sentence.
        reference: Its translation by a person.
        set: Name of the test set.
        label: The part of the set that it comes from; empty if the set has none.
    """

    source: str
    reference: str
    set: str
    label: str = ""


def read_test_sets(data: Path, source: str, target: str) -> list[Line]:
    """Read every test set that the folder has of a pair of languages, in either order of their names.

    Raises:
        ValueError: If there is none.
    """
    lines: list[Line] = []
    for folder in (f"{source}{target}", f"{target}{source}"):
        for place in (data / folder, data / "general" / folder):
            files = [place / f"test.{kind}.gz" for kind in (source, target, "source")]
            if place.is_dir():
                columns = zip(*map(read_lines, files), strict=True)
                name = str(place.relative_to(data))
                lines += [Line(text, reference, name, label) for text, reference, label in columns]
    captions = [data / "multi30k" / f"test_2016_flickr.{language}.gz" for language in (source, target)]
    if all(path.is_file() for path in captions):
        pairs = zip(*map(read_lines, captions), strict=True)
        lines += [Line(text, reference, "multi30k") for text, reference in pairs]
    if not lines:
        raise ValueError(f"{data} has no test set of {source} to {target}; name another folder with --data")
    return lines


def groups(lines: list[Line]) -> dict[tuple[str, str], list[int]]:
    """Numbers of the lines of each set, of each of its parts, and of each range of lengths of the source.

    Returns:
        By name of the set and of the part, in the order of the table.
    """
    found: dict[tuple[str, str], list[int]] = {}
    for number, line in enumerate(lines):
        for part in dict.fromkeys((line.label, "all")):
            if part:
                found.setdefault((line.set, part), []).append(number)
    for low, high in zip((0, *_LENGTHS), (*_LENGTHS, 10_000), strict=True):
        numbers = [n for n, line in enumerate(lines) if low < len(line.source.split()) <= high]
        if numbers:
            found["by length", f"{low + 1} to {high} words" if high < 10_000 else f"above {low} words"] = numbers
    return dict(sorted(found.items(), key=lambda item: (item[0][0] == "by length", item[0][0], item[0][1] == "all")))
