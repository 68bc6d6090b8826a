from pathlib import Path

import pytest

from serving.client.glossary_file import read_glossary, with_terms_of
from serving.messages import GlossaryEntry, Options


def test_files_with_tabs_and_with_commas(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\ufeffcat\tchat\n", encoding="utf-8")
    (tmp_path / "a.CSV").write_text('"cat, big",chat\n', encoding="utf-8")
    assert read_glossary(tmp_path / "a.txt") == (GlossaryEntry("cat", "chat"),)
    assert read_glossary(tmp_path / "a.CSV") == (GlossaryEntry("cat, big", "chat"),)


def test_an_error_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes(b"cat chat\n")
    (tmp_path / "b.tsv").write_bytes(b"\xff\t1\n")
    for name in ("a.tsv", "b.tsv"):
        with pytest.raises(ValueError, match=name):
            read_glossary(tmp_path / name)


def test_a_text_is_sent_with_its_own_terms() -> None:
    options = Options(glossary=(GlossaryEntry("cat", "chat"), GlossaryEntry("dog", "chien")), n_best=2)
    assert with_terms_of(options, "A Dog.") == Options(glossary=options.glossary[1:], n_best=2)
