"""A file is translated as a whole or not at all, and goes on where it stopped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from serving.client.files.translation import read_file, translate_file

Answers = Iterator[tuple[str, str | int]]


def test_it_goes_on_where_it_stopped(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\n\none\nthree\n")
    output, asked = tmp_path / "a.fr.txt", list[str]()

    def failing(texts: Iterator[str]) -> Answers:
        for text in texts:
            asked.append(text)
            yield text, text.upper() if text != "two" else 7

    def working(texts: Iterator[str]) -> Answers:
        for text in texts:
            asked.append(text)
            yield text, text.upper()

    document = read_file(tmp_path / "a.txt")
    assert translate_file(document, output, "job", failing) == [7]
    assert not output.exists()
    assert (tmp_path / "a.fr.txt.part").exists()
    with (tmp_path / "a.fr.txt.part").open("a") as journal:
        journal.write('["two", "TW')  # killed while it wrote
    assert translate_file(document, output, "job", working) == []
    assert output.read_text() == "ONE\nTWO\n\nONE\nTHREE\n"
    assert asked == ["one", "two", "three", "two"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.fr.txt", "a.txt"]


def test_what_was_done_with_other_options_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    output = tmp_path / "a.fr.txt"

    def failing(texts: Iterator[str]) -> Answers:
        yield next(texts), "1"
        yield next(texts), 7

    document = read_file(tmp_path / "a.txt")
    assert translate_file(document, output, "job", failing) == [7]
    asked = list[str]()

    def working(texts: Iterator[str]) -> Answers:
        for text in texts:
            asked.append(text)
            yield text, text

    assert translate_file(document, output, "another", working) == []
    assert asked == ["one", "two"]
