import pytest

from serving.glossary_table import entries_for, read_entries
from serving.messages import GlossaryEntry


def test_tables_are_read() -> None:
    wanted = {"cat": "chat", "New York": "New York"}
    assert read_entries("cat\tchat\n\nNew York\tNew York\n", "tsv") == wanted
    assert read_entries('cat,chat,en,fr\n"New York","New York"\n', "csv") == wanted


@pytest.mark.parametrize(
    ("text", "form"),
    [("cat", "tsv"), ("cat\t", "tsv"), ("a\tb\tc", "tsv"), ("cat", "csv"), ("", "csv"), ("a\tb\na\tc", "tsv")],
)
def test_what_is_no_table_is_refused(text: str, form: str) -> None:
    with pytest.raises(ValueError, match=r"line|entries"):
        read_entries(text, form)


def test_only_terms_that_may_occur_are_sent() -> None:
    made = {"cat": "chat", "New York": "New York", "dog": "chien"}
    assert entries_for(made, ["A Cat\nin New  York", "Nothing."]) == (
        GlossaryEntry("cat", "chat"),
        GlossaryEntry("New York", "New York"),
    )
