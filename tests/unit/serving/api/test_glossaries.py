import pytest

from serving.api.glossaries import GlossaryStore, read_entries
from serving.errors import InvalidRequest, NotFound


def test_tables_are_read() -> None:
    wanted = {"cat": "chat", "New York": "New York"}
    assert read_entries("cat\tchat\n\nNew York\tNew York\n", "tsv") == wanted
    assert read_entries('cat,chat,en,fr\n"New York","New York"\n', "csv") == wanted


@pytest.mark.parametrize(
    ("text", "form"),
    [("cat", "tsv"), ("cat\t", "tsv"), ("a\tb\tc", "tsv"), ("cat", "csv"), ("", "csv"), ("a\tb\na\tc", "tsv")],
)
def test_what_is_no_table_is_refused(text: str, form: str) -> None:
    with pytest.raises(InvalidRequest, match="entries: "):
        read_entries(text, form)


def test_each_owner_has_its_own() -> None:
    store = GlossaryStore()
    made = store.add("one", "animals", "en", "fr", {"cat": "chat"})
    assert store.of("one") == [made]
    assert store.of("other") == []
    with pytest.raises(NotFound):
        store.remove("other", made.id)
    store.remove("one", made.id)
    with pytest.raises(NotFound, match="gone when it restarts"):
        store.get("one", made.id)
