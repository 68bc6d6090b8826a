"""The command as a process: start-up, signals, exit statuses."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from serving.client import AsyncTranslationClient, CallCancelled, Options, ServerUnavailable
from serving.pb.translation_service_pb2_grpc import TranslationServiceStub
from tests.integration.toy_server import failure, request
from tests.shipped import BUNDLE, LABEL

ROOT = Path(__file__).parents[2]
TEXT = "a text that takes the slow toy model more than a second"


def lines(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


@dataclass
class Running:
    process: asyncio.subprocess.Process
    listen: str
    http: str

    def metric(self, line: str) -> bool:
        with urllib.request.urlopen(f"http://{self.http}/metrics", timeout=30) as response:
            return line in response.read().decode()

    async def rest(self) -> list[dict[str, Any]]:
        assert self.process.stderr
        return lines((await self.process.stderr.read()).decode())


@asynccontextmanager
async def server_process(*command: str, until: str = "ready", **environment: str) -> AsyncIterator[Running]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *command, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--web", ""),
        cwd=ROOT,
        env={**os.environ, **environment},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stderr
        async for raw in process.stderr:
            line = json.loads(raw)
            if line["event"] == until:
                break
        yield Running(process, line["listen"], line["http"])
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def toy_process(*arguments: str, **options: str) -> AbstractAsyncContextManager[Running]:
    return server_process("-m", "tests.integration.toy_process", "--models", "unused", *arguments, **options)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_accepted_calls_finish_and_refuses_new_ones(number: signal.Signals) -> None:
    async with toy_process() as running, grpc.aio.insecure_channel(running.listen) as channel:
        stub = TranslationServiceStub(channel)
        accepted = asyncio.ensure_future(stub.Translate(request(TEXT)))
        async with asyncio.timeout(60):
            while not await asyncio.to_thread(running.metric, 'dragoman_running_slots{model="toy/1"} 1.0'):
                await asyncio.sleep(0.01)
        running.process.send_signal(number)
        async with asyncio.timeout(60):
            while not await asyncio.to_thread(running.metric, 'dragoman_model_draining{model="toy/1"} 1.0'):
                await asyncio.sleep(0.01)
        assert (await stub.Translate(request("in time"))).translations  # for a while nobody is sent away
        codes = {grpc.StatusCode.OK}
        while codes == {grpc.StatusCode.OK}:
            call = stub.Translate(request("x"))
            codes.add(await call.code())
        assert codes == {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
        assert (await accepted).translations[0].hypotheses[0].text == TEXT
        rest = await running.rest()
        assert await running.process.wait() == 0
        assert [line["event"] for line in rest if line["event"] != "call"] == ["draining", "drained", "stopped"]
        assert {line["code"] for line in rest if line["event"] == "call"} == {"OK", "UNAVAILABLE"}


async def test_a_drain_that_takes_too_long_is_cut_short_and_still_an_orderly_end() -> None:
    async with toy_process("--drain-timeout", "0.1") as running, grpc.aio.insecure_channel(running.listen) as channel:
        stub = TranslationServiceStub(channel)
        accepted = asyncio.ensure_future(stub.Translate(request(*[TEXT] * 8, beam_size=1)))
        async with asyncio.timeout(60):
            while not await asyncio.to_thread(running.metric, "dragoman_calls_in_flight 1.0"):
                await asyncio.sleep(0.01)
        running.process.send_signal(signal.SIGTERM)
        rest = await running.rest()
        assert await running.process.wait() == 0
        assert "drain_timed_out" in [line["event"] for line in rest]
        with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
            await accepted


@pytest.mark.parametrize("numbers", [(signal.SIGINT, signal.SIGINT), (signal.SIGINT, signal.SIGTERM)])
async def test_a_second_signal_ends_it_at_once(numbers: tuple[signal.Signals, signal.Signals]) -> None:
    async with (
        toy_process("--drain-timeout", "600", "--max-rows", "1") as running,
        grpc.aio.insecure_channel(running.listen) as channel,
    ):
        accepted = asyncio.ensure_future(TranslationServiceStub(channel).Translate(request(*[TEXT] * 16, beam_size=1)))
        async with asyncio.timeout(60):
            while not await asyncio.to_thread(running.metric, 'dragoman_running_slots{model="toy/1"} 1.0'):
                await asyncio.sleep(0.01)
        running.process.send_signal(numbers[0])
        assert running.process.stderr
        assert json.loads(await running.process.stderr.readline())["event"] == "draining"
        running.process.send_signal(numbers[1])
        async with asyncio.timeout(10):
            (last,) = await running.rest()
            assert await running.process.wait() == 128 + numbers[1]
        assert (last["event"], last["signal"]) == ("ended_at_once", numbers[1].name)
        assert last["dropped"]["calls"] == 1
        assert 8 < last["dropped"]["sentences"] <= 16  # one after the other, and some may have ended
        assert (await failure(accepted)).code() is grpc.StatusCode.UNAVAILABLE  # type: ignore[arg-type]


async def test_a_drain_under_load_fails_no_call_that_was_accepted() -> None:
    async with toy_process("--drain-timeout", "10") as running, AsyncTranslationClient(running.listen) as client:
        stop, texts = asyncio.Event(), ["a few words", "and some more of them"]

        async def caller() -> str:
            while not stop.is_set():
                try:
                    result = await client.translate(texts, Options(beam_size=1), deadline=30)
                except (ServerUnavailable, CallCancelled):  # gRPC itself cancels what arrives while ports close
                    return "refused"
                assert [translation.hypotheses[0].text for translation in result.translations] == texts
            return "stopped"

        callers = [asyncio.ensure_future(caller()) for _ in range(8)]
        await asyncio.sleep(0.5)
        running.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(12):  # the grace and two seconds
            rest = await running.rest()
            assert await running.process.wait() == 0
        stop.set()
        assert set(await asyncio.gather(*callers)) == {"refused"}
        assert "drained" in [line["event"] for line in rest]
        assert {line["code"] for line in rest if line["event"] == "call"} <= {"OK", "UNAVAILABLE"}


async def test_callers_of_a_server_that_was_killed_know_at_once_and_are_answered_by_another() -> None:
    async with (
        toy_process() as doomed,
        toy_process() as other,
        grpc.aio.insecure_channel(doomed.listen) as channel,
        AsyncTranslationClient(f"ipv4:{doomed.listen},{other.listen}", balance=True) as client,
    ):
        await client.translate(["both are connected"])
        alone = asyncio.ensure_future(TranslationServiceStub(channel).Translate(request(*[TEXT] * 8)))
        calls = [asyncio.ensure_future(client.translate([TEXT], Options(beam_size=1))) for _ in range(8)]
        async with asyncio.timeout(60):
            for few in (0, 1):  # wait until it has more than these
                while await asyncio.to_thread(doomed.metric, f"dragoman_calls_in_flight {few}.0"):
                    await asyncio.sleep(0.01)
        doomed.process.kill()
        async with asyncio.timeout(1):
            error = await failure(alone)  # type: ignore[arg-type]
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        for result in await asyncio.gather(*calls):  # by the shipped retries
            assert result.translations[0].hypotheses[0].text == TEXT


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_server_that_loads_ends_at_the_first_signal(number: signal.Signals) -> None:
    async with toy_process(until="listening", TOY_LOAD_SECONDS="600") as running:
        running.process.send_signal(number)
        async with asyncio.timeout(10):
            assert [line["event"] for line in await running.rest()] == ["stopped"]
            assert await running.process.wait() == 0


async def test_models_are_read_at_the_start_and_not_again(tmp_path: Path) -> None:
    bundle = tmp_path / LABEL
    shutil.copytree(BUNDLE, bundle)
    async with (
        server_process("-m", "serving", "--models", str(tmp_path)) as running,
        AsyncTranslationClient(running.listen) as client,
    ):
        before = await client.list_models()
        shutil.move(bundle, bundle.with_name("99"))
        assert await client.list_models() == before
        for beam in (1, 4, 8):
            assert (await client.translate(["I drink milk."], Options(beam_size=beam))).translations[0].text


def serve(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "serving",
        "--listen",
        "127.0.0.1:0",
        "--http",
        "127.0.0.1:0",
        "--web",
        "",
        *arguments,
    ]
    environment = {**os.environ, **environment}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_no_bundles_are_a_startup_error(tmp_path: Path) -> None:
    (tmp_path / "en-fr").mkdir()
    done = serve("--models", str(tmp_path))
    assert done.returncode == 1
    (failed,) = [line for line in lines(done.stderr) if line["event"] == "startup_failed"]
    assert f"no NAME/VERSION/manifest.json in {tmp_path}" in failed["error"]


def test_every_broken_bundle_is_named_at_once(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / "1" / "manifest.json").write_text("{}")
    done = serve("--models", str(tmp_path))
    assert done.returncode == 1
    (failed,) = [line for line in lines(done.stderr) if line["event"] == "startup_failed"]
    assert "one/1" in failed["error"]
    assert "two/1" in failed["error"]


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        ([], {}, "models is not set"),
        (["--models", "m"], {"DRAGOMAN_BEEM": "1"}, "unknown variable DRAGOMAN_BEEM"),
        (["--models", "m", "--max-beam", "none"], {}, "--max-beam = 'none'"),
        (["--models", "m", "--bogus"], {}, "--bogus"),
        (["--models", "m", "--listen", "0.0.0.0:0"], {}, "other machines can reach 0.0.0.0:0"),
    ],
)
def test_bad_options_are_one_sentence(arguments: list[str], environment: dict[str, str], message: str) -> None:
    done = serve(*arguments, **environment)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_help_names_every_option() -> None:
    done = serve("--help")
    assert done.returncode == 0
    assert "directory of bundles, NAME/VERSION/ each; read when the server starts" in " ".join(done.stdout.split())
    for option in ("--models", "--listen", "--http", "--device", "--drain-timeout", "--config"):
        assert option in done.stdout
