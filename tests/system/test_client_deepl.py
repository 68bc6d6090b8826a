"""DeepL's own client, unchanged, against the server with the shipped bundle."""

import re
from collections.abc import Iterator
from pathlib import Path

import deepl
import pytest

from serving.tokens import Role, new_token
from tests.shipped import BUNDLE
from tests.system.served import server

ENGLISH, FRENCH = "A dog runs in the snow.", "Un chien court dans la neige."


@pytest.fixture(scope="module")
def token_and_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    token, line = new_token("somebody", Role.TRANSLATE)
    file = Path(tmp_path_factory.mktemp("tokens")) / "tokens"
    file.write_text(line + "\n")
    with server(BUNDLE.parents[1], "--web", "127.0.0.1:0", "--tokens", str(file)) as addresses:
        yield token, f"http://{addresses.web}"


@pytest.fixture
def client(token_and_url: tuple[str, str]) -> Iterator[deepl.DeepLClient]:
    token, url = token_and_url
    client = deepl.DeepLClient(token, server_url=url)
    yield client
    client.close()


def test_translate(client: deepl.DeepLClient) -> None:
    found = client.translate_text(ENGLISH, source_lang="EN", target_lang="FR")
    assert isinstance(found, deepl.TextResult)
    assert (found.text, found.billed_characters) == (FRENCH, len(ENGLISH))


def test_a_list_with_detection(client: deepl.DeepLClient) -> None:
    found = client.translate_text([ENGLISH, FRENCH], target_lang="FR")
    assert isinstance(found, list)
    assert [one.text for one in found] == [FRENCH, FRENCH]
    assert [one.detected_source_lang for one in found] == ["EN", "FR"]


def test_sentences_and_formatting(client: deepl.DeepLClient) -> None:
    two = client.translate_text(
        f"{ENGLISH}\n\n  {ENGLISH}", target_lang="FR", source_lang="EN", split_sentences="1", preserve_formatting=True
    )
    assert isinstance(two, deepl.TextResult)
    assert two.text == f"{FRENCH}\n\n  {FRENCH}"
    whole = client.translate_text(ENGLISH, target_lang="FR", split_sentences=deepl.SplitSentences.OFF)
    assert isinstance(whole, deepl.TextResult)
    assert whole.text == FRENCH


@pytest.mark.parametrize("kind", ["html", "xml"])
def test_markup(client: deepl.DeepLClient, kind: str) -> None:
    found = client.translate_text("A dog runs in the <b>snow</b>.", target_lang="FR", tag_handling=kind)
    assert isinstance(found, deepl.TextResult)
    assert found.text == "Un chien court dans la <b>neige</b>."


def test_languages(client: deepl.DeepLClient) -> None:
    assert [(one.code, one.name) for one in client.get_source_languages()] == [("EN", "English")]
    assert [(one.code, one.supports_formality) for one in client.get_target_languages()] == [("FR", False)]


def test_usage(client: deepl.DeepLClient) -> None:
    before = client.get_usage().character.count
    client.translate_text(ENGLISH, source_lang="EN", target_lang="FR")
    after = client.get_usage().character.count
    assert before is not None
    assert after == before + len(ENGLISH)


def test_glossaries(client: deepl.DeepLClient) -> None:
    assert [(one.source_lang, one.target_lang) for one in client.get_glossary_languages()] == [("en", "fr")]
    made = client.create_glossary("animals", "EN", "FR", {"dog": "toutou", "snow": "poudreuse"})
    assert (made.ready, made.entry_count) == (True, 2)
    assert client.get_glossary(made.glossary_id).name == "animals"
    assert client.get_glossary_entries(made) == {"dog": "toutou", "snow": "poudreuse"}
    assert [one.glossary_id for one in client.list_glossaries()] == [made.glossary_id]
    found = client.translate_text(ENGLISH, source_lang="EN", target_lang="FR", glossary=made)
    assert isinstance(found, deepl.TextResult)
    assert {"toutou", "poudreuse"} <= set(re.findall(r"\w+", found.text.lower()))
    client.delete_glossary(made)
    with pytest.raises(deepl.GlossaryNotFoundException):
        client.get_glossary(made.glossary_id)


def test_errors(client: deepl.DeepLClient, token_and_url: tuple[str, str]) -> None:
    with pytest.raises(deepl.DeepLException, match="target_lang: is 'DE', which no model has here; served: en to fr"):
        client.translate_text(ENGLISH, target_lang="DE")
    with pytest.raises(deepl.DeepLException, match="formality: is of a wrong kind or value"):
        client.translate_text(ENGLISH, target_lang="FR", formality="more")
    stranger = deepl.DeepLClient("wrong", server_url=token_and_url[1])
    with pytest.raises(deepl.AuthorizationException, match="show who you are"):
        stranger.translate_text(ENGLISH, target_lang="FR")
    stranger.close()
