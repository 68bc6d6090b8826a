"""The web port: requests in the API's own form, and what surrounds every request."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from http.client import HTTPSConnection
from pathlib import Path

import pytest
import trustme

from serving.errors import StartupError
from serving.tokens import Role, new_token
from tests.integration.certificates import issued
from tests.integration.toy_server import NAN_TEXT, Toy, eventually, serving, started, toy_config, toy_manifest
from tests.integration.web_client import ask

FREE = "127.0.0.1:0"


@pytest.fixture
async def toy() -> AsyncIterator[Toy]:
    async with serving(toy_config(web=FREE)) as toy:
        yield toy


async def test_a_request_is_the_proto_in_json(toy: Toy) -> None:
    asked = {"contents": ["abc", ""], "options": {"beam_size": 2, "n_best": 2}, "includeTokens": True}
    reply = await ask(toy, "POST", "/v1/translate", asked)
    assert reply.status == 200
    assert (reply.json["model"], reply.json["version"]) == ("toy", "1")
    first, blank = reply.json["translations"]
    assert first["hypotheses"][0]["text"] == "abc"
    assert len(first["hypotheses"]) == 2
    assert [token["text"] for token in first["hypotheses"][0]["tokens"]] == ["a", "b", "c"]
    assert first["flags"] == []
    assert blank["hypotheses"][0]["text"] == ""


async def test_translations_are_scored(toy: Toy) -> None:
    asked = {"pairs": [{"source": "abc", "target": "abc"}, {"source": "abc", "target": "cba"}]}
    reply = await ask(toy, "POST", "/v1/score", asked)
    assert reply.status == 200
    copied, other = reply.json["scores"]
    assert copied["score"] > other["score"]


async def test_models_are_listed(toy: Toy) -> None:
    (model,) = (await ask(toy, "GET", "/v1/models")).json["models"]
    assert (model["name"], model["source_language"], model["is_default"]) == ("toy", "en", True)


@pytest.mark.parametrize(
    ("body", "status", "code", "said"),
    [
        ({"contents": []}, 400, "INVALID_ARGUMENT", "contents: is empty"),
        ({"contents": ["a"], "options": {"beam_size": 99}}, 400, "INVALID_ARGUMENT", "options.beam_size: is 99"),
        ({"contents": ["a"], "model": "other"}, 404, "NOT_FOUND", "there is no model 'other'"),
        ({"content": ["a"]}, 400, "INVALID_ARGUMENT", 'no field named "content"'),
        ({"contents": [f"a{NAN_TEXT}"]}, 500, "INTERNAL", "internal error; quote request id mine"),
        (b"{", 400, "INVALID_ARGUMENT", "is not a TranslateRequest in JSON"),
        (b"\xff", 400, "INVALID_ARGUMENT", "body: is not UTF-8"),
        (b"[" * 2000, 400, "INVALID_ARGUMENT", "is not a TranslateRequest in JSON"),
        (b'{"contents": ["' + b"a" * 5000 + b'"]}', 400, "INVALID_ARGUMENT", "body: has more than 4,096 bytes"),
    ],
)
async def test_errors_are_those_of_grpc(body: object, status: int, code: str, said: str) -> None:
    async with serving(toy_config(web=FREE, max_message_bytes=4096)) as toy:
        headers = {"Content-Type": "application/json", "X-Request-Id": "mine"}
        reply = await ask(toy, "POST", "/v1/translate", body, headers)
        error = reply.json["error"]
        assert (reply.status, error["code"], error["status"]) == (status, status, code)
        assert said in error["message"]
        assert reply.headers["X-Request-Id"] == "mine"


async def test_only_json_is_json(toy: Toy) -> None:
    """So that no page of another origin can send it without asking first."""
    reply = await ask(toy, "POST", "/v1/translate", b'{"contents": ["a"]}', {"Content-Type": "text/plain"})
    assert reply.status == 400
    assert "body: is of type 'text/plain'" in reply.json["error"]["message"]


async def test_calls_are_counted_and_logged_by_path(toy: Toy, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    await ask(toy, "POST", "/v1/translate", {"contents": ["secret"]}, X_Request_Id="mine")
    labels = {"model": "toy/1", "method": "POST /v1/translate", "code": "OK"}
    await eventually(lambda: toy.sample("dragoman_requests_total", **labels) == 1)
    (line,) = [vars(record) for record in caplog.records if record.getMessage() == "call"]
    assert (line["method"], line["code"], line["contents"]) == ("POST /v1/translate", "OK", 1)
    assert "secret" not in str(line)


async def test_limits_are_those_of_grpc() -> None:
    async with serving(toy_config(web=FREE, max_calls=1)) as toy:
        with toy.held():
            first = asyncio.create_task(ask(toy, "POST", "/v1/translate", {"contents": ["abc"]}))
            await eventually(lambda: toy.server.admission.in_flight == 1)
            second = await ask(toy, "POST", "/v1/translate", {"contents": ["abc"]})
            assert (second.status, second.json["error"]["status"]) == (429, "RESOURCE_EXHAUSTED")
            assert second.headers["Retry-After"] == "1"
        assert (await first).status == 200


async def test_a_server_that_loads_says_so() -> None:
    async with started(toy_config(web=FREE)) as toy:
        reply = await ask(toy, "GET", "/v1/models")
        assert (reply.status, reply.headers["Retry-After"]) == (503, "5")
        assert (await ask(toy, "GET", "/health")).status == 503
        assert (await ask(toy, "GET", "/")).status == 200


async def test_a_caller_that_goes_away_frees_its_slots(toy: Toy) -> None:
    assert toy.server.web is not None
    with toy.held() as steps:
        _, writer = await asyncio.open_connection("127.0.0.1", toy.server.web.port)
        body = b'{"contents": ["abcdefgh"]}'
        head = "POST /v1/translate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(body)}"
        writer.write(head.encode() + b"\r\n\r\n" + body)
        await eventually(lambda: toy.server.models.models()[0].snapshot().running_slots == 1)
        writer.close()
        await eventually(lambda: toy.server.admission.in_flight == 0)
        steps(2)
        await eventually(lambda: toy.server.models.models()[0].snapshot().running_slots == 0)
    labels = {"model": "toy/1", "method": "POST /v1/translate", "code": "CANCELLED"}
    await eventually(lambda: toy.sample("dragoman_requests_total", **labels) == 1)


async def test_a_deadline_is_kept(toy: Toy) -> None:
    with toy.held() as steps:
        steps(1)
        waiting = asyncio.create_task(
            ask(toy, "POST", "/v1/translate", {"contents": ["abcdefgh"]}, X_Server_Timeout="0.05")
        )
        await eventually(lambda: toy.server.admission.in_flight == 1)
        await asyncio.sleep(0.1)
        steps(3)
        reply = await waiting
    assert (reply.status, reply.json["error"]["status"]) == (504, "DEADLINE_EXCEEDED")


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET /v1/models HTTP/1.1\r\nHo"]
)
async def test_a_head_that_does_not_come_is_not_waited_for(
    toy: Toy, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr("serving.api.web.server._HEAD_SECONDS", 0.2)
    assert toy.server.web is not None
    reader, writer = await asyncio.open_connection("127.0.0.1", toy.server.web.port)
    writer.write(sent)
    async with asyncio.timeout(30):
        await reader.read()
    writer.close()


async def test_a_body_that_does_not_come_holds_no_place(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.api.web.exchange._BODY_SECONDS", 0.2)
    assert toy.server.web is not None
    reader, writer = await asyncio.open_connection("127.0.0.1", toy.server.web.port)
    head = b"POST /v1/translate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    writer.write(head + b"Content-Length: 9\r\n\r\n{")
    assert toy.server.admission.in_flight == 0
    async with asyncio.timeout(30):
        assert (await reader.readline()).startswith(b"HTTP/1.1 400")
    writer.close()


async def test_the_web_port_may_be_closed() -> None:
    async with serving(toy_config(web="")) as toy:
        assert toy.server.web is None


async def test_a_port_that_is_taken_says_what_to_do(toy: Toy) -> None:
    assert toy.server.web is not None
    address = f"127.0.0.1:{toy.server.web.port}"
    with pytest.raises(StartupError, match=f"cannot listen on {address}: .*; give another --web, or --web '' for none"):
        async with started(toy_config(web=address)):
            pass


async def test_models_are_found_by_their_languages() -> None:
    async with started(toy_config(web=FREE, default_model="toy")) as toy:
        toy.add(toy_manifest())
        toy.add(toy_manifest("back", source="fr", target="en"))
        await toy.server.serve()
        asked = {"contents": ["abc"], "source_language": "fr", "target_language": "en"}
        assert (await ask(toy, "POST", "/v1/translate", asked)).json["model"] == "back"


# --- tokens and TLS --------------------------------------------------------------------------------------------------


@pytest.fixture
def tokens(tmp_path: Path) -> tuple[Path, dict[Role, str]]:
    made = {role: new_token(f"some-{role}", role) for role in Role}
    file = tmp_path / "tokens"
    file.write_text("".join(f"{line}\n" for _, line in made.values()))
    return file, {role: token for role, (token, _) in made.items()}


TRANSLATING = ["/v1/translate", "/v1/score", "/translate", "/detect", "/v2/translate", "/v2/glossaries"]
LOOKING = [
    "/v1/models",
    "/languages",
    "/frontend/settings",
    "/v2/languages",
    "/v2/usage",
    "/v2/glossary-language-pairs",
]
OPEN = ["/", "/docs", "/openapi.json", "/app.js", "/health"]


async def test_every_route_is_guarded_or_open_on_purpose(toy: Toy, tokens: tuple[Path, dict[Role, str]]) -> None:
    file, by_role = tokens
    async with serving(toy_config(web=FREE, tokens=file)) as guarded:
        for path in TRANSLATING + LOOKING:
            method = "POST" if path in TRANSLATING else "GET"

            async def status(token: str, path: str = path, method: str = method) -> int:
                """The status with the token in each of the ways to show it; an empty request tells who gets in."""
                scheme = "DeepL-Auth-Key" if path.startswith("/v2") else "Bearer"
                body = {"api_key": token} if not path.startswith("/v") else {}
                reply = await ask(guarded, method, path, body, Authorization=f"{scheme} {token}")
                return reply.status

            refused = 401 if path.startswith("/v1") else 403
            assert await status("wrong") == refused, path
            assert await status(by_role[Role.TRANSLATE]) == (400 if path in TRANSLATING else 200), path
            assert await status(by_role[Role.ADMIN]) == (403 if path in TRANSLATING else 200), path
        for path in OPEN:
            assert (await ask(guarded, "GET", path)).status == 200


async def test_the_web_port_has_the_servers_certificate(tmp_path: Path) -> None:
    ca = trustme.CA()
    server, client = issued(ca, tmp_path, "server"), issued(ca, tmp_path, "client")
    authorities = tmp_path / "ca.pem"
    authorities.write_bytes(ca.cert_pem.bytes())
    options = {"tls_cert": server.cert, "tls_key": server.key, "tls_client_ca": authorities}
    async with serving(toy_config(web=FREE, **options)) as toy:
        assert toy.server.web is not None
        port = toy.server.web.port

        def page(known: bool) -> int:
            context = ssl.create_default_context(cadata=ca.cert_pem.bytes().decode())
            if known:
                context.load_cert_chain(client.cert, client.key)
            connection = HTTPSConnection("127.0.0.1", port, context=context, timeout=30)
            try:
                connection.request("GET", "/v1/models")
                return connection.getresponse().status
            finally:
                connection.close()

        assert await asyncio.to_thread(page, True) == 200
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.to_thread(page, False)


# --- pages -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/docs", "/app.js", "/v1/models", "/nowhere"])
async def test_nothing_comes_from_or_goes_to_anybody_else(toy: Toy, path: str) -> None:
    policy = (await ask(toy, "GET", path)).headers["Content-Security-Policy"]
    allowed = {word for rule in policy.split(";") for word in rule.split()[1:]}
    assert allowed == {"'none'", "'self'"}


async def test_a_path_that_is_not_there_says_where_to_look(toy: Toy) -> None:
    reply = await ask(toy, "GET", "/nowhere")
    assert (reply.status, reply.json["error"]["message"]) == (404, "there is no such path; /docs lists all")
    assert (await ask(toy, "GET", "/translate")).status == 405


async def test_pages_of_other_sites_cannot_reach_a_server_of_this_machine_by_a_name_of_theirs(toy: Toy) -> None:
    for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "[", "a@b:c"):
        reply = await ask(toy, "POST", "/v1/translate", {"contents": ["a"]}, {"Host": host})
        assert (reply.status, reply.json["error"]["status"]) == (403, "PERMISSION_DENIED")
        assert (await ask(toy, "GET", "/", headers={"Host": host})).status == 403
    for host in ("localhost:8000", "127.0.0.1:1", "[::1]:8000", "box.localhost", "10.0.0.1"):
        assert (await ask(toy, "GET", "/v1/models", headers={"Host": host})).status == 200


async def test_names_that_were_allowed_and_servers_with_tokens_may_be_called_by_any(tmp_path: Path) -> None:
    async with serving(toy_config(web=FREE, allowed_hosts="box.example, other.example")) as toy:
        for host, status in {"box.example:80": 200, "other.example": 200, "evil.example": 403}.items():
            assert (await ask(toy, "GET", "/v1/models", headers={"Host": host})).status == status
    (tmp_path / "tokens").write_text(new_token("a", Role.TRANSLATE)[1] + "\n")
    async with serving(toy_config(web=FREE, tokens=tmp_path / "tokens")) as toy:
        assert (await ask(toy, "GET", "/v1/models", headers={"Host": "evil.example"})).status == 401
