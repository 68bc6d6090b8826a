"""Tokens: who may call what. Every method and every page is walked, so that a new one cannot be forgotten."""

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc.aio import _server
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

from serving.api.server import ADMIN_SERVICE, SERVICE
from serving.client import AccessDenied, AsyncTranslationClient, TranslationClient
from serving.pb import admin_service_pb2 as admin_pb
from serving.pb import translation_service_pb2 as pb
from serving.pb.google import translation_service_pb2 as google_pb
from serving.tokens import Role, new_token
from tests.integration.toy_server import Toy, detail, failure, serving, toy_config

OK, UNAUTHENTICATED, DENIED = (
    grpc.StatusCode.OK,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
)
METHODS = [
    f"/{service.full_name}/{method.name}"
    for service in (
        pb.DESCRIPTOR.services_by_name["TranslationService"],
        google_pb.DESCRIPTOR.services_by_name["TranslationService"],
    )
    for method in service.methods
]
REFLECTION = f"/{reflection.SERVICE_NAME}/ServerReflectionInfo"
HEALTH = [f"/{health.SERVICE_NAME}/{method}" for method in ("Check", "List", "Watch")]
ADMIN_METHODS = [f"/{ADMIN_SERVICE}/{m.name}" for m in admin_pb.DESCRIPTOR.services_by_name["AdminService"].methods]
FOR_ADMINS_TOO = {f"/{SERVICE}/ListModels", f"/{SERVICE}/GetModel", REFLECTION} | {
    path for path in METHODS if path.endswith("/GetSupportedLanguages")
}


@dataclass
class Guarded:
    toy: Toy
    file: Path
    tokens: Mapping[Role, str]


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Guarded]:
    made = {role: new_token(f"some-{role}", role) for role in Role}
    file = tmp_path / "tokens"
    file.write_text("# who calls\n\n" + "".join(f"{line}\n" for _, line in made.values()))
    async with serving(toy_config(tokens=file, admin="127.0.0.1:0")) as toy:
        yield Guarded(toy, file, {role: token for role, (token, _) in made.items()})


async def status(toy: Toy, path: str, *authorization: str) -> grpc.StatusCode:
    """How any method ends, whatever its kind: an invalid message, or none at all, tells who gets to its handler."""
    metadata = [("authorization", value) for value in authorization]
    port = toy.server.admin_port if path in ADMIN_METHODS else toy.server.port
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        method: Any = channel.unary_stream  # on the wire every kind of call begins like this one
        call = method(path)(b"", metadata=metadata, timeout=5)
        with suppress(grpc.aio.AioRpcError):
            async for _ in call:
                if path.endswith("Watch"):  # goes on for ever
                    call.cancel()
                    return OK
        code: grpc.StatusCode = await call.code()
        return code


async def test_these_are_all_methods_that_the_server_has(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Any] = []
    add = _server.Server.add_generic_rpc_handlers

    def record(server: Any, handlers: list[Any]) -> None:
        found.extend(handlers)
        add(server, handlers)

    monkeypatch.setattr(_server.Server, "add_generic_rpc_handlers", record)
    async with serving(toy_config(admin="127.0.0.1:0")):
        paths = {path for handler in found for path in handler._method_handlers}
    assert paths == {*METHODS, *ADMIN_METHODS, *HEALTH, REFLECTION}


@pytest.mark.parametrize("path", [*METHODS, REFLECTION])
async def test_no_method_is_open(guarded: Guarded, path: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    right = guarded.tokens[Role.TRANSLATE]
    for wrong in ([], [""], [right], ["Bearer"], ["Bearer wrong"], [f"Basic {right}"], [f"Bearer {right}"] * 2):
        assert await status(guarded.toy, path, *wrong) is UNAUTHENTICATED, wrong
    assert await status(guarded.toy, path, f"Bearer {right}") not in {UNAUTHENTICATED, DENIED}
    admin = await status(guarded.toy, path, f"bearer {guarded.tokens[Role.ADMIN]}")
    assert admin is not UNAUTHENTICATED
    assert (admin is DENIED) == (path not in FOR_ADMINS_TOO)
    assert right not in caplog.text


@pytest.mark.parametrize("path", ADMIN_METHODS)
async def test_administration_is_for_admins(guarded: Guarded, path: str) -> None:
    right = guarded.tokens[Role.ADMIN]
    for wrong in ([], ["Bearer wrong"], [right], [f"Bearer {right}"] * 2):
        assert await status(guarded.toy, path, *wrong) is UNAUTHENTICATED, wrong
    assert await status(guarded.toy, path, f"Bearer {guarded.tokens[Role.TRANSLATE]}") is DENIED
    assert await status(guarded.toy, path, f"Bearer {right}") not in {UNAUTHENTICATED, DENIED}


@pytest.mark.parametrize("path", HEALTH)
async def test_health_is_open(guarded: Guarded, path: str) -> None:
    assert await status(guarded.toy, path) not in {UNAUTHENTICATED, DENIED}


async def test_every_wrong_token_is_told_the_same(guarded: Guarded) -> None:
    said = set()
    for given in ([], [("authorization", "Bearer wrong")], [("authorization", "Basic eDp5")]):
        error = await failure(guarded.toy.stub.Translate(pb.TranslateRequest(), metadata=given))
        said.add((error.code(), error.details(), detail(error, error_details_pb2.ErrorInfo).reason))
    ((code, message, reason),) = said
    assert (code, reason) == (UNAUTHENTICATED, "UNAUTHENTICATED")
    assert str(message).startswith("show who you are")


async def test_refusals_are_counted(guarded: Guarded) -> None:
    await failure(guarded.toy.stub.Translate(pb.TranslateRequest()))
    sample = guarded.toy.sample("dragoman_requests_total", model="", method="Translate", code="UNAUTHENTICATED")
    assert sample == 1
    assert guarded.toy.server.admission.in_flight == 0


async def test_each_client_has_limits_by_its_token_or_host(guarded: Guarded) -> None:
    slow, line = new_token("slow", Role.TRANSLATE)
    with guarded.file.open("a") as file:
        file.write(f"{line} rate=1 characters=5 beam=1\n")

    def asked(token: str, *contents: str, **options: int) -> Any:
        metadata = [("authorization", f"Bearer {token}")]
        made = pb.TranslateRequest(contents=contents, options=pb.DecodingOptions(**options))  # type: ignore[arg-type]
        return guarded.toy.stub.Translate(made, metadata=metadata)

    wide = await failure(asked(slow, "a", beam_size=2))
    assert "from 1 to 1" in str(wide.details())
    often = await failure(asked(slow, "a"))
    assert often.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert detail(often, error_details_pb2.ErrorInfo).reason == "CLIENT_RATE"
    assert detail(often, error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() > 0
    for _ in range(3):
        await asked(guarded.tokens[Role.TRANSLATE], "others are not held up", beam_size=4)
    async with serving(toy_config(client_limits="quota=6")) as toy:
        await toy.stub.Translate(pb.TranslateRequest(contents=["abc", "de"]))
        spent = await failure(toy.stub.Translate(pb.TranslateRequest(contents=["fg"])))
        assert detail(spent, error_details_pb2.ErrorInfo).reason == "CLIENT_QUOTA"
        refused = toy.sample("dragoman_refused_calls_total", method="Translate", reason="client_quota")
        assert refused == 1


async def test_the_clients_carry_a_token_and_say_what_happened(guarded: Guarded) -> None:
    address = f"127.0.0.1:{guarded.toy.server.port}"
    async with AsyncTranslationClient(address, token=guarded.tokens[Role.TRANSLATE]) as client:
        assert (await client.translate(["abc"])).translations[0].hypotheses[0].text == "abc"
    async with AsyncTranslationClient(address) as client:
        with pytest.raises(AccessDenied, match="show who you are") as caught:
            await client.translate(["abc"])
    assert caught.value.code is UNAUTHENTICATED

    def blocking() -> None:
        with TranslationClient(address, token=guarded.tokens[Role.ADMIN]) as client:
            assert client.list_models()
            with pytest.raises(AccessDenied, match="the role of this token"):
                client.translate(["abc"])

    await asyncio.to_thread(blocking)


async def test_tokens_come_and_go_without_a_restart(guarded: Guarded) -> None:
    async def works(token: str) -> bool:
        return await status(guarded.toy, f"/{SERVICE}/ListModels", f"Bearer {token}") is OK

    old, before = guarded.tokens[Role.TRANSLATE], guarded.file.read_text()
    token, line = new_token("newcomer", Role.TRANSLATE)
    assert not await works(token)
    guarded.file.write_text(before + line + "\n")
    assert await works(token)
    assert await works(old)
    guarded.file.write_text("nonsense\n")
    assert await works(token)  # what cannot be read changes nothing
    guarded.file.write_text(line + "\n")
    assert await works(token)
    assert not await works(old)
    guarded.file.write_text("")
    assert not await works(token)


@pytest.mark.parametrize("on", [True, False])
async def test_reflection_can_be_off(on: bool) -> None:
    async with serving(toy_config(reflection=on)) as toy:
        assert await status(toy, REFLECTION) is (OK if on else grpc.StatusCode.UNIMPLEMENTED)


# --- HTTP ------------------------------------------------------------------------------------------------------------


async def page(toy: Toy, path: str, *authorization: str) -> tuple[int, str]:
    def get() -> tuple[int, str]:
        connection = HTTPConnection("127.0.0.1", toy.server.http.port, timeout=30)
        try:
            connection.putrequest("GET", path)
            for value in authorization:
                connection.putheader("Authorization", value)
            connection.endheaders()
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    return await asyncio.to_thread(get)


async def test_no_page_but_health_is_open(guarded: Guarded) -> None:
    status, said = await page(guarded.toy, "/elsewhere")
    pages = set(said.strip().removeprefix("ask for ").split(", "))
    assert status == 404
    assert pages == {"/metrics", "/healthz", "/readyz", "/debug/profile"}
    for path in pages - {"/healthz", "/readyz"}:
        for wrong in ([], ["Bearer wrong"], [guarded.tokens[Role.ADMIN]], [f"Bearer {guarded.tokens[Role.ADMIN]}"] * 2):
            assert (await page(guarded.toy, path, *wrong))[0] == 401
        for role, token in guarded.tokens.items():
            seen = role is Role.ADMIN or path != "/debug/profile"
            query = "?seconds=0.1" if path == "/debug/profile" else ""
            assert (await page(guarded.toy, path + query, f"Bearer {token}"))[0] == (200 if seen else 403)
    assert (await page(guarded.toy, "/healthz"))[0] == (await page(guarded.toy, "/readyz"))[0] == 200


async def test_metrics_tell_no_secret(guarded: Guarded) -> None:
    token = guarded.tokens[Role.TRANSLATE]
    metadata = [("authorization", f"Bearer {token}"), ("x-request-id", "who-asks")]
    await guarded.toy.stub.Translate(pb.TranslateRequest(contents=["secret text"]), metadata=metadata)
    _, said = await page(guarded.toy, "/metrics", f"Bearer {token}")
    digests = [line.split()[2] for line in guarded.file.read_text().splitlines() if line[:1] not in {"", "#"}]
    for secret in (token, *digests, "some-translate", str(guarded.file), "secret", "who-asks", "127.0.0.1"):
        assert secret not in said


# --- the command -----------------------------------------------------------------------------------------------------


async def run(*arguments: str, **environment: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "serving.client", *arguments),
        env=os.environ | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode, said.decode()


async def test_the_command_takes_a_token_from_a_file_or_the_environment(guarded: Guarded, tmp_path: Path) -> None:
    server = ["--server", f"127.0.0.1:{guarded.toy.server.port}"]
    token = guarded.tokens[Role.TRANSLATE]
    (tmp_path / "mine").write_text(f"{token}\n")
    assert await run(*server, "--token-file", str(tmp_path / "mine"), "abc") == (0, "abc\n")
    assert await run(*server, "abc", DRAGOMAN_TOKEN=token) == (0, "abc\n")
    status, said = await run(*server, "abc", "def")
    assert status == 1
    assert said.count("show who you are") == 1  # the second text would fail alike


async def test_a_token_crosses_no_network_in_the_clear() -> None:
    status, said = await run("--server", "translate.example:50051", "abc", DRAGOMAN_TOKEN="x")
    assert status == 2
    assert "the token would go to translate.example:50051 in the clear; use TLS" in said
