"""Models that come and go while the server serves: the admin service, bundles that are refused, the watch."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shutil
import statistics
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import psutil
import pytest
from google.rpc import error_details_pb2
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from loadtests.service.cores import resident
from serving.api.admission import Phase
from serving.api.loading import load_models
from serving.api.watching import BundleWatch
from serving.pb import admin_service_pb2 as admin_pb
from serving.pb import translation_service_pb2 as pb
from serving.pb.admin_service_pb2_grpc import AdminServiceStub
from tests.integration.toy_server import Toy, detail, eventually, failure, request, started, toy_config
from tests.shipped import BUNDLE

if TYPE_CHECKING:
    from serving.pb.admin_service_pb2_grpc import AdminServiceAsyncStub

OK, INVALID, NOT_FOUND = grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND


@dataclass
class Operated:
    """A server of real bundles, and a client of its admin port."""

    toy: Toy
    admin: AdminServiceAsyncStub
    models: Path

    @property
    def labels(self) -> list[str]:
        return [model.label for model in self.toy.server.models.models()]

    async def translate(self, text: str = "I drink milk.", **wanted: object) -> pb.TranslateResponse:
        asked = pb.TranslateRequest(contents=[text], **wanted)  # type: ignore[arg-type]
        return await self.toy.stub.Translate(asked, timeout=60)

    async def reload(self) -> None:
        await self.admin.ReloadModel(admin_pb.ReloadModelRequest(model=version("en-fr", 3)), timeout=60)


def version(name: str, number: int = 0) -> admin_pb.ModelVersion:
    return admin_pb.ModelVersion(name=name, version=number)


def write_bundle(models: Path, name: str, number: int, source: str = "en", target: str = "fr") -> Path:
    """The shipped bundle under another name; written elsewhere and moved, as a bundle is to be."""
    place, partial = models / name / str(number), models / f".{name}-{number}"
    shutil.copytree(BUNDLE, partial, copy_function=os.link)
    manifest = json.loads((partial / "manifest.json").read_text())
    manifest |= {"name": name, "version": number}
    manifest["languages"] = {"sources": {source: {}}, "targets": {target: {}}}
    replace(partial / "manifest.json", json.dumps(manifest).encode())
    place.parent.mkdir(exist_ok=True)
    partial.rename(place)
    return place


def replace(file: Path, content: bytes) -> None:
    """Write a file of its own, not into one that others are linked to."""
    file.unlink()
    file.write_bytes(content)


@asynccontextmanager
async def operating(models: Path, **options: object) -> AsyncIterator[Operated]:
    config = toy_config(models=models, admin="127.0.0.1:0", threads=1, **options)
    async with started(config) as toy, aio.insecure_channel(f"127.0.0.1:{toy.server.admin_port}") as channel:
        await asyncio.to_thread(load_models, config, toy.server.models, toy.server.metrics)
        await toy.server.serve()
        yield Operated(toy, AdminServiceStub(channel), models)


@pytest.fixture
async def operated(tmp_path: Path) -> AsyncIterator[Operated]:
    write_bundle(tmp_path, "en-fr", 3)
    async with operating(tmp_path) as operated:
        yield operated


# --- loading and unloading ------------------------------------------------------------------------------------------


async def test_versions_and_models_come_and_go(operated: Operated) -> None:
    assert operated.labels == ["en-fr/3"]
    for name, number in (("en-fr", 4), ("en-it", 1)):
        write_bundle(operated.models, name, number, target=name[-2:])
        answer = await operated.admin.LoadModel(admin_pb.LoadModelRequest(model=version(name)))
        assert (answer.model.name, answer.model.version) == (name, number)
    assert operated.labels == ["en-fr/4", "en-fr/3", "en-it/1"]
    assert (await operated.translate(model="en-fr")).version == 4
    assert (await operated.translate(model="en-fr", version=3)).version == 3
    answered = await operated.translate(source_language="EN", target_language="it")
    assert (answered.model, answered.version) == ("en-it", 1)
    unnamed = await failure(operated.toy.stub.Translate(request("x")))
    assert unnamed.code() is INVALID
    assert (await operated.admin.SetDefaultModel(admin_pb.SetDefaultModelRequest(name="en-it"))).model.version == 1
    assert (await operated.translate()).model == "en-it"
    await operated.admin.UnloadModel(admin_pb.UnloadModelRequest(model=version("en-fr", 4)))
    assert operated.labels == ["en-fr/3", "en-it/1"]
    assert (await operated.translate(model="en-fr")).version == 3


async def test_several_models_of_one_pair_need_a_name(operated: Operated) -> None:
    for name in ("other", "third"):
        write_bundle(operated.models, name, 1, source="de")
        await operated.admin.LoadModel(admin_pb.LoadModelRequest(model=version(name)))
    asked = pb.TranslateRequest(contents=["x"], source_language="de", target_language="fr")
    error = await failure(operated.toy.stub.Translate(asked))
    assert "several translate de-fr; take one of other, third" in str(error.details())
    assert (await operated.translate(model="third", source_language="de")).model == "third"


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (admin_pb.LoadModelRequest(model=version("nope")), NOT_FOUND, "no bundle 'nope'"),
        (admin_pb.LoadModelRequest(model=version("en-fr", 9)), NOT_FOUND, "there are en-fr/3"),
        (admin_pb.LoadModelRequest(model=version("../en-fr", 3)), NOT_FOUND, "no bundle '../en-fr/3'"),
        (admin_pb.LoadModelRequest(), NOT_FOUND, "no bundle ''"),
        (admin_pb.ReloadModelRequest(model=version("en-fr", 9)), NOT_FOUND, "no model 'en-fr/9'"),
        (admin_pb.UnloadModelRequest(model=version("nope")), NOT_FOUND, "no model 'nope'"),
        (admin_pb.UnloadModelRequest(model=version("en-fr")), INVALID, "the only version of the default model"),
        (admin_pb.SetDefaultModelRequest(name="nope"), NOT_FOUND, "no model 'nope'"),
        (admin_pb.SetDefaultModelRequest(), INVALID, "is empty; take one of en-fr"),
    ],
)
async def test_what_cannot_be_done_changes_nothing(
    operated: Operated, change: object, code: grpc.StatusCode, message: str
) -> None:
    method = getattr(operated.admin, type(change).__name__.removesuffix("Request"))
    error = await failure(method(change))
    assert error.code() is code
    assert message in str(error.details())
    assert (await operated.translate()).version == 3


async def test_there_is_no_admin_port_unless_it_is_asked_for() -> None:
    async with started() as toy:
        assert toy.server.admin_port == 0


def test_no_manifest_opens_the_admin_port() -> None:
    files = [path for path in (BUNDLE.parents[2] / "deploy").rglob("*") if path.is_file()]
    assert files
    opened = re.compile(r"DRAGOMAN_ADMIN|--admin\b|^\s*admin:", re.MULTILINE)
    assert not [path.name for path in files if opened.search(path.read_text(errors="replace"))]


async def test_admin_calls_wait_for_no_place_but_for_the_server(operated: Operated) -> None:
    operated.toy.server.admission.phase = Phase.DRAINING
    error = await failure(operated.admin.ReloadModel(admin_pb.ReloadModelRequest(model=version("en-fr"))))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert operated.toy.server.admission.in_flight == 0


async def test_health_tells_of_each_model(operated: Operated) -> None:
    stub = health_pb2_grpc.HealthStub(operated.toy.channel)

    async def told(label: str) -> int:
        return int((await stub.Check(health_pb2.HealthCheckRequest(service=label))).status)

    write_bundle(operated.models, "en-fr", 4)
    await operated.admin.LoadModel(admin_pb.LoadModelRequest(model=version("en-fr")))
    await operated.admin.UnloadModel(admin_pb.UnloadModelRequest(model=version("en-fr", 3)))
    async with asyncio.timeout(30):
        while await told("en-fr/3") != 2:
            await asyncio.sleep(0.05)
    assert await told("en-fr/4") == 1


async def test_statistics_are_those_of_the_metrics(operated: Operated) -> None:
    await operated.translate("I drink milk. You drink tea.")
    await failure(operated.toy.stub.Translate(request("x", beam_size=99)))
    answer = await operated.admin.GetStatistics(admin_pb.GetStatisticsRequest())
    (found,) = answer.models
    assert (found.model.name, found.model.version, found.healthy) == ("en-fr", 3, True)
    assert found.sentences["ok"] == 2
    assert found.source_tokens == operated.toy.sample("dragoman_source_tokens_total", model="en-fr/3")
    assert found.target_tokens > 0
    assert found.phases["queue"].count == 2
    assert found.phases["step"].seconds > 0
    assert (answer.calls_in_flight, found.queue_depth, found.running) == (0, 0, 0)


# --- replacing what is in use -----------------------------------------------------------------------------------------


async def test_calls_in_flight_finish_on_the_model_that_took_them(operated: Operated) -> None:
    text = "The weather is fine today, and we want to go to the park with all of our friends. " * 200
    expected = (await operated.translate(text)).translations[0].hypotheses[0].text
    (old,) = operated.toy.server.models.models()
    calls = [asyncio.ensure_future(operated.translate(text)) for _ in range(4)]
    await eventually(lambda: old.snapshot().running_slots > 0)
    await operated.reload()
    (new,) = operated.toy.server.models.models()
    assert new is not old
    assert not any(call.done() for call in calls)
    assert old.calls.count == 4
    for answer in await asyncio.gather(*calls):
        assert answer.translations[0].hypotheses[0].text == expected
    await eventually(lambda: not old.snapshot().healthy)  # its threads have ended
    assert new.snapshot().healthy


RELOADS = int(os.environ.get("RELOADS", "12"))  # `make soak` does 100


@pytest.mark.timeout(1200)
async def test_reloads_under_load_fail_no_call_and_give_memory_back(operated: Operated) -> None:
    stop, codes = asyncio.Event(), Counter[str]()

    async def caller() -> None:
        while not stop.is_set():
            codes[(await operated.translate("I drink milk, and you drink tea.")).model] += 1

    async def settled() -> int:
        await eventually(lambda: not operated.toy.server.lifecycle.busy)
        return resident(psutil.Process())

    callers = [asyncio.ensure_future(caller()) for _ in range(4)]
    await eventually(lambda: codes.total() > 100)
    start, sizes = resident(psutil.Process()), list[int]()
    for _ in range(RELOADS):
        await operated.reload()
        sizes.append(await settled())
    stop.set()
    await asyncio.gather(*callers)
    assert codes.keys() == {"en-fr"}
    assert codes.total() > RELOADS
    assert operated.toy.sample("dragoman_model_loads_total", outcome="loaded") == RELOADS
    end = statistics.median(sizes[-5:])
    print(f"{codes.total():,} calls; resident bytes before the first reload {start:,}, after the last {end:,}")
    assert end <= 1.05 * start


# --- bundles that are no good ----------------------------------------------------------------------------------------


def manifest(bundle: Path, **changes: object) -> None:
    content = json.loads((bundle / "manifest.json").read_text())
    replace(bundle / "manifest.json", json.dumps(content | changes).encode())


def rehash(bundle: Path, file: str, content: bytes) -> None:
    """Bad content with the right hash: found only by reading it."""
    replace(bundle / file, content)
    files = json.loads((bundle / "manifest.json").read_text())["files"]
    manifest(bundle, files=files | {file: hashlib.sha256(content).hexdigest()})


BAD: dict[str, Callable[[Path], None]] = {
    "too new": lambda b: manifest(b, format_version=99),
    "no JSON": lambda b: replace(b / "manifest.json", b"{"),
    "empty manifest": lambda b: replace(b / "manifest.json", b""),
    "another name": lambda b: manifest(b, name="other"),
    "unknown key": lambda b: manifest(b, surprise=1),
    "no weights": lambda b: (b / "weights.bin").unlink(),
    "weights cut short": lambda b: replace(b / "weights.bin", (b / "weights.bin").read_bytes()[:-100]),
    "a bit flipped": lambda b: replace(b / "weights.bin", (b / "weights.bin").read_bytes()[:-1] + b"?"),
    "no graph": lambda b: rehash(b, "decoder.int8-shortlist.onnx", b"not a graph"),
    "another graph": lambda b: rehash(b, "decoder.int8-shortlist.onnx", (b / "encoder.int8.onnx").read_bytes()),
    "no tokenizer": lambda b: rehash(b, "source.spm", b"not a tokenizer"),
    "weights that lie": lambda b: rehash(b, "weights.bin", (b / "weights.bin").read_bytes()[:4096]),
    "a link": lambda b: (b / "source.spm").symlink_to((b / "source.spm").rename(b / "elsewhere")),
}


@pytest.mark.parametrize("kind", BAD)
async def test_a_bad_bundle_leaves_the_old_one_serving(operated: Operated, kind: str) -> None:
    (old,) = operated.toy.server.models.models()
    shutil.move(operated.models / "en-fr" / "3", operated.models / ".old")
    BAD[kind](write_bundle(operated.models, "en-fr", 3))
    calls = [asyncio.ensure_future(operated.translate()) for _ in range(4)]
    error = await failure(operated.admin.ReloadModel(admin_pb.ReloadModelRequest(model=version("en-fr"))))
    assert error.code() is INVALID
    (violation,) = detail(error, error_details_pb2.BadRequest).field_violations
    assert violation.field == "model"
    assert operated.toy.server.models.models() == (old,)
    assert {answer.version for answer in await asyncio.gather(*calls, operated.translate())} == {3}
    assert operated.toy.sample("dragoman_model_loads_total", outcome="refused") == 1


# --- the watch -------------------------------------------------------------------------------------------------------


async def test_the_watch_follows_the_directory(operated: Operated, caplog: pytest.LogCaptureFixture) -> None:
    watch = BundleWatch(operated.models, operated.toy.server.lifecycle)

    async def looked(times: int = 2) -> list[str]:
        for _ in range(times):
            await watch.look()
        return operated.labels

    assert await looked() == ["en-fr/3"]
    assert operated.toy.sample("dragoman_model_loads_total", outcome="loaded") == 0
    new = write_bundle(operated.models, "en-fr", 4)
    assert await looked(1) == ["en-fr/3"]  # it may still be growing
    assert await looked(1) == ["en-fr/4", "en-fr/3"]
    shutil.rmtree(operated.models / "en-fr" / "3")
    assert await looked() == ["en-fr/4"]
    manifest(new, surprise=1)
    assert await looked(4) == ["en-fr/4"]
    assert operated.toy.sample("dragoman_model_loads_total", outcome="refused") == 1  # tried once
    shutil.rmtree(new)
    assert await looked() == ["en-fr/4"]  # the only model is kept
    (replaced,) = operated.toy.server.models.models()
    write_bundle(operated.models, "en-fr", 4)
    assert await looked() == ["en-fr/4"]
    assert operated.toy.server.models.models() != (replaced,)
    assert (await operated.translate()).version == 4


async def test_the_watch_is_an_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.api.watching._PERIOD", 0.05)
    write_bundle(tmp_path, "en-fr", 3)
    async with operating(tmp_path, watch=True) as operated:
        write_bundle(tmp_path, "en-fr", 4)
        await eventually(lambda: operated.labels == ["en-fr/4", "en-fr/3"])


async def test_a_change_ends_although_its_caller_goes_away(operated: Operated) -> None:
    write_bundle(operated.models, "en-fr", 4)
    call = operated.admin.LoadModel(admin_pb.LoadModelRequest(model=version("en-fr")))
    await eventually(lambda: operated.toy.server.lifecycle.busy)
    call.cancel()
    await eventually(lambda: operated.labels == ["en-fr/4", "en-fr/3"])
