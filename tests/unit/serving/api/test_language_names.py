import pytest

from serving.api.language_names import english_name


@pytest.mark.parametrize(
    ("tag", "name"), [("en", "English"), ("EN-GB", "English (GB)"), ("zh-Hant", "Chinese (Hant)"), ("tlh", "tlh")]
)
def test_names(tag: str, name: str) -> None:
    assert english_name(tag) == name
