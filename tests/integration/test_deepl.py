"""The form of DeepL, beyond what its own client sends."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from serving.tokens import Role, new_token
from tests.integration.toy_server import Toy, serving, toy_config
from tests.integration.web_client import Reply, ask


@pytest.fixture
async def toy() -> AsyncIterator[Toy]:
    async with serving(toy_config(web="127.0.0.1:0")) as toy:
        yield toy


async def translate(toy: Toy, **fields: object) -> Reply:
    return await ask(toy, "POST", "/v2/translate", {"target_lang": "FR", "source_lang": "EN"} | fields)


async def test_texts_come_back_in_order(toy: Toy) -> None:
    found = (await translate(toy, text=["abc", "def"])).json
    assert found == {
        "translations": [
            {"detected_source_language": "EN", "text": "abc"},
            {"detected_source_language": "EN", "text": "def"},
        ]
    }


@pytest.mark.parametrize("kind", ["html", "xml"])
async def test_markup_is_kept(toy: Toy, kind: str) -> None:
    text = "<p>abc <b>def</b></p>"
    found = (await translate(toy, text=[text], tag_handling=kind)).json
    assert found["translations"][0]["text"] == text


async def test_usage_counts_characters(toy: Toy) -> None:
    await translate(toy, text=["abc", "def"])
    assert (await ask(toy, "GET", "/v2/usage")).json == {"character_count": 6, "character_limit": 10**12}


@pytest.mark.parametrize(("split", "parts"), [("1", 2), ("0", 1), ("nonewlines", 1)])
async def test_sentences_are_split_as_asked(toy: Toy, split: str, parts: int) -> None:
    steps: list[int] = []
    sentences = toy.server.models.models()[0].translator
    seen = sentences.translate

    async def noting(request: Any) -> Any:
        result = await seen(request)
        steps.extend(one.parts for one in result.translations)
        return result

    sentences.translate = noting  # type: ignore[method-assign]
    await translate(toy, text=["Abc def. Ghi jkl."], split_sentences=split)
    assert steps == [parts]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"text": []}, "text: is empty"),
        (
            {"text": "a", "target_lang": "DE"},
            "target_lang: is 'DE', which no model has here; served: en to fr",
        ),
        ({"text": "a", "formality": "more"}, "formality: is of a wrong kind or value"),
        ({"text": "a <b>", "tag_handling": "xml"}, "text[0]: "),
        ({"text": "a", "style_id": "x"}, "style_id: is not honoured here"),
        ({"text": "a", "split_sentences": "2"}, "split_sentences: is of a wrong kind or value"),
        ({"text": "a", "glossary_id": "none"}, "glossary"),
    ],
)
async def test_what_cannot_be_honoured_is_refused(toy: Toy, fields: dict[str, object], said: str) -> None:
    reply = await translate(toy, **fields)
    assert reply.status in {400, 404}
    assert said in reply.json["message"]


GLOSSARY = {"name": "mine", "source_lang": "en", "target_lang": "fr", "entries": "cat\tchat\n", "entries_format": "tsv"}


async def test_glossaries_come_and_go(toy: Toy) -> None:
    made = await ask(toy, "POST", "/v2/glossaries", GLOSSARY)
    assert made.status == 201
    path = f"/v2/glossaries/{made.json['glossary_id']}"
    assert (await ask(toy, "GET", "/v2/glossaries")).json == {"glossaries": [made.json]}
    assert (await ask(toy, "GET", f"{path}/entries")).body == b"cat\tchat"
    assert (await ask(toy, "DELETE", path)).status == 204
    assert (await ask(toy, "GET", path)).status == 404


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"entries": "cat\n"}, "entries: line 1 is not a source term and a target term"),
        ({"entries": "cat\tchat\ncat\tminou"}, "entries: line 2 has the source term of another line"),
        ({"entries": ""}, "entries: has 0 entries"),
        ({"name": " "}, "name: is empty"),
        ({"target_lang": "de"}, "target_lang: is 'de'"),
    ],
)
async def test_a_glossary_that_is_none_is_refused(toy: Toy, change: dict[str, str], said: str) -> None:
    reply = await ask(toy, "POST", "/v2/glossaries", GLOSSARY | change)
    assert reply.status == 400
    assert said in reply.json["message"]


async def test_nobody_sees_the_glossaries_or_the_usage_of_others(tmp_path: Any) -> None:
    made = [new_token(name, Role.TRANSLATE) for name in ("one", "other")]
    (tmp_path / "tokens").write_text("".join(f"{line}\n" for _, line in made))
    one, other = ({"Authorization": f"DeepL-Auth-Key {token}"} for token, _ in made)
    async with serving(toy_config(web="127.0.0.1:0", tokens=tmp_path / "tokens")) as toy:
        glossary = (await ask(toy, "POST", "/v2/glossaries", GLOSSARY, one)).json
        await ask(toy, "POST", "/v2/translate", {"text": ["abc"], "target_lang": "FR"}, one)
        path = f"/v2/glossaries/{glossary['glossary_id']}"
        assert [(await ask(toy, "GET", path, None, who)).status for who in (one, other)] == [200, 404]
        usage = [(await ask(toy, "GET", "/v2/usage", None, who)).json["character_count"] for who in (one, other)]
        assert usage == [3, 0]
