import pytest

from serving.api.glossaries import GlossaryStore
from serving.errors import NotFound


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
