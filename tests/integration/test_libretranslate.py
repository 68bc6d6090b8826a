"""The form of LibreTranslate, beyond what its own client sends."""

from collections.abc import AsyncIterator
from urllib.parse import urlencode

import pytest

from tests.integration.toy_server import Toy, started, toy_config, toy_manifest
from tests.integration.web_client import Reply, ask

ENGLISH, FRENCH = "Where is the nearest hospital, please?", "Bonjour à tous mes amis de Paris"


@pytest.fixture
async def toy() -> AsyncIterator[Toy]:
    async with started(toy_config(web="127.0.0.1:0", default_model="toy")) as toy:
        toy.add(toy_manifest())
        toy.add(toy_manifest("back", source="fr", target="en"))
        toy.add(toy_manifest("german", source="de", target="fr"))
        await toy.server.serve()
        yield toy


async def translate(toy: Toy, **fields: object) -> Reply:
    return await ask(toy, "POST", "/translate", {"source": "en", "target": "fr"} | fields)


async def test_a_string_and_a_list(toy: Toy) -> None:
    assert (await translate(toy, q="abc")).json == {"translatedText": "abc"}
    assert (await translate(toy, q=["abc", "def"])).json == {"translatedText": ["abc", "def"]}
    form = urlencode({"q": "a b", "source": "en", "target": "fr"}).encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await ask(toy, "POST", "/translate", form, headers)).json == {"translatedText": "a b"}


async def test_alternatives_are_told_where_they_are_asked_for(toy: Toy) -> None:
    found = (await translate(toy, q="abc", alternatives=2)).json
    assert len(found["alternatives"]) == 2
    assert found["translatedText"] not in found["alternatives"]
    listed = (await translate(toy, q=["abc"], alternatives=2)).json
    assert listed == {"translatedText": [found["translatedText"]], "alternatives": [found["alternatives"]]}


async def test_markup_is_kept(toy: Toy) -> None:
    found = (await translate(toy, q="<p>abc <b>def</b></p>", format="html")).json
    assert found == {"translatedText": "<p>abc <b>def</b></p>"}


async def test_the_language_is_detected_text_by_text(toy: Toy) -> None:
    found = (await translate(toy, q=[ENGLISH, FRENCH], source="auto")).json
    assert [one["language"] for one in found["detectedLanguage"]] == ["en", "fr"]
    assert found["detectedLanguage"][0]["confidence"] > 90
    assert found["translatedText"][1] == FRENCH  # it is French already


async def test_a_region_is_not_needed(toy: Toy) -> None:
    assert (await translate(toy, q="abc", source="en-GB", target="FR-ca")).json == {"translatedText": "abc"}


async def test_languages(toy: Toy) -> None:
    assert (await ask(toy, "GET", "/languages")).json == [
        {"code": "de", "name": "German", "targets": ["fr"]},
        {"code": "en", "name": "English", "targets": ["fr"]},
        {"code": "fr", "name": "French", "targets": ["en"]},
    ]


async def test_detection_knows_the_loaded_languages_only(toy: Toy) -> None:
    found = (await ask(toy, "POST", "/detect", {"q": ENGLISH})).json
    assert found[0]["language"] == "en"
    assert {one["language"] for one in found} == {"de", "en", "fr"}
    assert sum(one["confidence"] for one in found) == pytest.approx(100, abs=0.2)


async def test_what_a_page_in_front_has_to_know(toy: Toy) -> None:
    found = (await ask(toy, "GET", "/frontend/settings")).json
    assert found["keyRequired"] is False
    assert found["language"]["source"] == {"code": "de", "name": "German"}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"q": ["a", 1]}, "q: is of a wrong kind"),
        ({}, "q: is missing"),
        ({"q": "a", "target": "es"}, "target: is 'es', which no model has here"),
        ({"q": "a", "source": "fr"}, "source: is 'fr'"),
        ({"q": []}, "q: is empty"),
        ({"q": "a", "format": "pdf"}, "format: is of a wrong kind or value"),
        ({"q": "a", "alternatives": 99}, "alternatives.beam_size: is 100"),
        ({"q": "a", "glossary": "x"}, "glossary: is not honoured here"),
    ],
)
async def test_errors_name_the_fields_of_the_form(toy: Toy, fields: dict[str, object], said: str) -> None:
    reply = await translate(toy, **fields)
    assert reply.status == 400
    assert said in reply.json["error"]
