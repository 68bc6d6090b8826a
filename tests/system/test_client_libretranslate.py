"""LibreTranslate's own client, unchanged, against the server with the shipped bundle.

It sends no lists and knows no glossaries.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError

import pytest
from libretranslatepy import LibreTranslateAPI

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
def client(token_and_url: tuple[str, str]) -> LibreTranslateAPI:
    token, url = token_and_url
    return LibreTranslateAPI(url, api_key=token)


def test_translate(client: LibreTranslateAPI) -> None:
    assert client.translate(ENGLISH, "en", "fr") == FRENCH


def test_detection(client: LibreTranslateAPI) -> None:
    assert client.translate(ENGLISH, "auto", "fr") == FRENCH
    assert client.translate(FRENCH, "auto", "fr") == FRENCH
    assert client.detect(FRENCH)[0]["language"] == "fr"
    assert client.detect(ENGLISH)[0]["confidence"] > 90


def test_languages(client: LibreTranslateAPI) -> None:
    assert client.languages() == [{"code": "en", "name": "English", "targets": ["fr"]}]


def test_errors(client: LibreTranslateAPI, token_and_url: tuple[str, str]) -> None:
    with pytest.raises(HTTPError) as wrong:
        client.translate(ENGLISH, "en", "es")
    with wrong.value as error:
        assert error.code == 400
        assert json.load(error)["error"].startswith("target: is 'es', which no model has here; served: en to fr")
    with pytest.raises(HTTPError) as denied:
        LibreTranslateAPI(token_and_url[1], api_key="wrong").translate(ENGLISH, "en", "fr")
    with denied.value as error:
        assert error.code == 403
