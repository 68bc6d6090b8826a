"""Bodies at random to every route of the web port: no crash, no hang, and only statuses of the table."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from serving.api.web import deepl, deepl_glossaries, libretranslate
from tests.fuzz.test_fuzz import JSON, TEXTS, Background, fuzzed
from tests.integration.web_client import ask

# What fails is printed whole; a long one would fail for its length alone.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")
STATUSES = {200, 201, 400, 404, 429, 504}
V1 = ("contents", "pairs", "model", "version", "source_language", "target_language", "options", "mime_type", "x")
FIELDS = {
    "/v1/translate": V1,
    "/v1/score": V1,
    "/translate": libretranslate.TRANSLATE_FIELDS,
    "/detect": libretranslate.DETECT_FIELDS,
    "/v2/translate": deepl.TRANSLATE_FIELDS + deepl.IGNORED_FIELDS,
    "/v2/glossaries": deepl_glossaries.CREATE_FIELDS,
}
KINDS = ["application/json", "application/x-www-form-urlencoded", "text/plain", "multipart/form-data", ""]
LONE = '{"q": "\\ud800", "source": "en", "target": "fr", "text": ["\\udfff"], "target_lang": "FR", "contents": []}'
PLAUSIBLE = st.sampled_from(
    ["en", "fr", "EN", "FR", "auto", "", "text", "html", "xml", "tsv", "csv", "1", "0", True, 3, -1]
)


@pytest.fixture(scope="module")
def server() -> Iterator[Background]:
    server = Background(web="127.0.0.1:0")
    yield server
    server.close()


@fuzzed
@given(path=st.sampled_from(sorted(FIELDS)), kind=st.sampled_from(KINDS), raw=st.binary(max_size=200))
@example(path="/v1/translate", kind=KINDS[0], raw=LONE.encode())
@example(path="/translate", kind=KINDS[0], raw=LONE.encode())
@example(path="/detect", kind=KINDS[0], raw=b'{"q": "\\ud800"}')
@example(path="/translate", kind=KINDS[0], raw=b'{"q": "\\ud800", "source": "en", "target": "fr"}')
@example(path="/v1/translate", kind=KINDS[0], raw=b'{"contents": ["\\ud800"]}')
@example(path="/v1/translate", kind=KINDS[0], raw=b'{"contents": ["a"], "options": {"beam_size": 1e400}}')
@example(path="/translate", kind=KINDS[0], raw=b'{"q":' + b"[" * 100_000)
@example(path="/translate", kind=KINDS[1], raw=b"q=%ff")
@example(
    path="/translate",
    kind=KINDS[0],
    raw=b'{"q": "a", "source": "en", "target": "fr", "alternatives": ' + b"9" * 5000 + b"}",
)
def test_any_bytes(server: Background, path: str, kind: str, raw: bytes) -> None:
    reply = server.run(ask(server.toy, "POST", path, raw, {"Content-Type": kind}))
    assert reply.status in STATUSES, reply.body
    json.loads(reply.body)


@fuzzed
@given(data=st.data())
def test_any_fields(server: Background, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(FIELDS)))
    names = st.sampled_from(FIELDS[path])
    body = data.draw(st.dictionaries(names, PLAUSIBLE | TEXTS | st.lists(TEXTS, max_size=3) | JSON, max_size=6))
    headers = {"Accept": data.draw(st.sampled_from(["*/*", "text/event-stream"]))}
    reply = server.run(ask(server.toy, "POST", path, body, headers))
    assert reply.status in STATUSES, reply.body
