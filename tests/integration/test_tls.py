"""TLS on both ports: who gets through, and certificates that change while the server runs."""

import asyncio
import os
import socket
import ssl
import sys
import time
from collections.abc import Callable
from http.client import HTTPSConnection
from pathlib import Path

import grpc
import pytest
import trustme

from serving.api.server import Server
from serving.client import AsyncTranslationClient
from serving.errors import StartupError
from serving.pb.translation_service_pb2_grpc import TranslationServiceStub
from tests.integration.certificates import Files, authority, expired, issued
from tests.integration.toy_server import Toy, request, serving, toy_config


@pytest.fixture
def ca() -> trustme.CA:
    return trustme.CA()


def options(server: Files, client_ca: Path | None = None) -> dict[str, object]:
    return {"tls_cert": server.cert, "tls_key": server.key, "tls_client_ca": client_ca}


def credentials(ca: trustme.CA, client: Files | None = None) -> grpc.ChannelCredentials:
    pair = (client.key.read_bytes(), client.cert.read_bytes()) if client else (None, None)
    return grpc.ssl_channel_credentials(ca.cert_pem.bytes(), *pair)


async def called(toy: Toy, given: grpc.ChannelCredentials | None) -> bool:
    address = f"127.0.0.1:{toy.server.port}"
    channel = grpc.aio.secure_channel(address, given) if given else grpc.aio.insecure_channel(address)
    async with channel:
        try:
            return bool(await TranslationServiceStub(channel).Translate(request("abc"), timeout=30))
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            return False


async def page(toy: Toy, path: str, ca: trustme.CA, client: Files | None = None) -> int:
    def get() -> int:
        context = ssl.create_default_context(cadata=ca.cert_pem.bytes().decode())
        if client:
            context.load_cert_chain(client.cert, client.key)
        connection = HTTPSConnection("127.0.0.1", toy.server.http.port, context=context, timeout=30)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        finally:
            connection.close()

    return await asyncio.to_thread(get)


async def test_callers_who_trust_the_authority_get_through_and_others_do_not(ca: trustme.CA, tmp_path: Path) -> None:
    async with serving(toy_config(**options(issued(ca, tmp_path, "server")))) as toy:
        assert await called(toy, credentials(ca))
        assert not await called(toy, credentials(trustme.CA()))
        assert not await called(toy, None)
        assert await page(toy, "/metrics", ca) == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            await page(toy, "/metrics", trustme.CA())


async def test_an_expired_certificate_of_the_server_is_refused_by_callers(ca: trustme.CA, tmp_path: Path) -> None:
    async with serving(toy_config(**options(expired(ca, tmp_path, "server")))) as toy:
        assert not await called(toy, credentials(ca))


@pytest.mark.parametrize(
    ("client", "allowed"),
    [
        (lambda ca, folder: issued(ca, folder, "client"), True),
        (lambda ca, folder: None, False),
        (lambda ca, folder: expired(ca, folder, "client"), False),
        (lambda ca, folder: issued(trustme.CA(), folder, "client"), False),
    ],
    ids=["valid", "missing", "expired", "of another authority"],
)
async def test_mutual_tls(
    ca: trustme.CA, tmp_path: Path, client: Callable[[trustme.CA, Path], Files | None], allowed: bool
) -> None:
    config = toy_config(**options(issued(ca, tmp_path, "server"), authority(ca, tmp_path)))
    given = client(ca, tmp_path)
    async with serving(config) as toy:
        assert await called(toy, credentials(ca, given)) == allowed
        if allowed:
            assert await page(toy, "/metrics", ca, given) == 200
        elif given:
            with pytest.raises(OSError):
                await page(toy, "/metrics", ca, given)
        else:  # probes have no certificates
            assert await page(toy, "/metrics", ca) == 401
            assert await page(toy, "/healthz", ca) == await page(toy, "/readyz", ca) == 200


async def test_certificates_are_rotated_without_a_restart(
    ca: trustme.CA, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server, client_ca, successor = issued(ca, tmp_path, "server"), authority(ca, tmp_path), trustme.CA()
    old, new = issued(ca, tmp_path, "old"), issued(successor, tmp_path, "new")
    async with serving(toy_config(**options(server, client_ca))) as toy:
        assert await called(toy, credentials(ca, old))
        async with AsyncTranslationClient(
            f"127.0.0.1:{toy.server.port}", credentials=credentials(ca, old)
        ) as connected:
            await connected.translate(["abc"])
            good = server.cert.read_bytes()
            server.cert.write_bytes(successor.issue_cert("127.0.0.1").cert_chain_pems[0].bytes())
            assert await called(toy, credentials(ca, old))  # the key does not fit: the pair that works stays
            assert "reload_failed" in [record.getMessage() for record in caplog.records]
            server.cert.write_bytes(good)

            server.replace(successor)
            authority(successor, tmp_path)
            assert await called(toy, credentials(successor, new))
            assert await page(toy, "/metrics", successor, new) == 200
            assert not await called(toy, credentials(successor, old))
            assert not await called(toy, credentials(ca, new))
            assert await connected.translate(["abc"])  # an open connection stays


@pytest.mark.parametrize(
    "break_it",
    [
        lambda files, other: files.cert.write_text("no certificate"),
        lambda files, other: files.key.unlink(),
        lambda files, other: files.key.write_bytes(other.key.read_bytes()),
    ],
    ids=["no certificate", "no key", "another key"],
)
def test_files_that_do_not_work_are_an_error_at_the_start(
    ca: trustme.CA, tmp_path: Path, break_it: Callable[[Files, Files], object]
) -> None:
    server = issued(ca, tmp_path, "server")
    break_it(server, issued(ca, tmp_path, "other"))
    with pytest.raises(StartupError, match=r"cannot use the certificate of .*; give matching PEM files"):
        Server(toy_config(**options(server)))


async def test_a_caller_who_does_not_finish_the_handshake_keeps_no_other_waiting(
    ca: trustme.CA, tmp_path: Path
) -> None:
    async with serving(toy_config(**options(issued(ca, tmp_path, "server")))) as toy:
        with socket.create_connection(("127.0.0.1", toy.server.http.port)):
            started = time.monotonic()
            assert await page(toy, "/healthz", ca) == 200
            assert time.monotonic() - started < 5  # the silent one is waited for 10 seconds


async def run(*arguments: str, **environment: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *arguments),
        env=os.environ | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode, said.decode()


async def test_the_commands_speak_tls(ca: trustme.CA, tmp_path: Path) -> None:
    root = authority(ca, tmp_path)
    client = issued(ca, tmp_path, "client")
    async with serving(toy_config(**options(issued(ca, tmp_path, "server"), root))) as toy:
        given = ["--tls-ca", str(root), "--tls-cert", str(client.cert), "--tls-key", str(client.key)]
        address = f"127.0.0.1:{toy.server.port}"
        assert await run("serving.client", "--server", address, *given, "abc") == (0, "abc\n")
        assert await run("serving.client.health", "--server", address, *given) == (0, f"{address}: SERVING\n")
        named = [*given, "--tls-name", "127.0.0.1"]
        assert (await run("serving.client.health", "--server", f"localhost:{toy.server.port}", *named))[0] == 0
        for command in ("serving.client", "serving.client.health"):
            status, said = await run(command, "--tls-cert", str(client.cert))
            assert status == 2
            assert "--tls-cert and --tls-key belong together" in said
