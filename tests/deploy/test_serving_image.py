"""The serving image, really built and really run; `make image-test` does both."""

import json
import signal
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import grpc
import pytest

from serving.client import Options, TranslationClient
from serving.pb.translation_service_pb2 import TranslateRequest
from serving.pb.translation_service_pb2_grpc import TranslationServiceStub
from tests.deploy.containers import Container, container, image, inspect
from tests.deploy.ports import free_ports
from tests.shipped import LABEL

ROOT = Path(__file__).parents[2]
MOUNT = f"--volume={ROOT / 'models'}:/models:ro"
MAX_BYTES = 350_000_000
SENTENCE = "I drink milk."
TRANSLATION = "Je bois du lait."

# What nobody who breaks into a server should find there.
UNWANTED_COMMANDS = ("cc", "gcc", "g++", "clang", "make", "ld", "as", "pip", "pip3", "curl", "wget", "git")
UNWANTED_MODULES = ("torch", "onnx", "pip", "setuptools", "pytest", "training", "export", "tests", "loadtests")


@pytest.fixture(scope="module")
def serving() -> str:
    return image("serving-cpu")


@pytest.fixture(scope="module")
def running(serving: str) -> Iterator[Container]:
    with container(serving, MOUNT, ports=free_ports(2)) as started:
        started.wait_for("/readyz", "ok")
        yield started


def test_it_is_small(serving: str) -> None:
    assert inspect(serving)["Size"] <= MAX_BYTES


def test_it_says_what_it_is(serving: str) -> None:
    config = inspect(serving)["Config"]
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in config["Labels"].items()}
    assert labels["version"] == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert labels["title"] == "Dragoman"
    assert {"description", "base.name"} <= set(labels)
    assert set(config["ExposedPorts"]) == {"50051/tcp", "8080/tcp"}
    assert config["Entrypoint"][-1] == "dragoman-serve"


def test_it_is_nobody_in_particular(serving: str, running: Container) -> None:
    assert inspect(serving)["Config"]["User"] == "10001:10001"  # numbers, which Kubernetes can tell from root
    assert running.run("id", "-u").stdout.strip() == "10001"
    status = running.run("cat", "/proc/1/status").stdout
    assert "CapEff:\t0000000000000000" in status


@pytest.mark.parametrize("path", ["/x", "/tmp/x", "/models/x", "/opt/dragoman/x"])
def test_it_needs_no_disk_to_write_to(running: Container, path: str) -> None:
    assert "Read-only file system" in running.run("touch", path).stderr
    assert running.get("/healthz") == (200, "ok\n")


def test_it_holds_nothing_to_build_or_install_with(running: Container) -> None:
    program = (
        "import importlib.util, json, shutil, sys; names = json.loads(sys.argv[1]); "
        "print(json.dumps([[name for name in names[0] if shutil.which(name)], "
        "[name for name in names[1] if importlib.util.find_spec(name)], "
        "[name for name in ('python', 'dragoman-serve', 'dragoman-translate') if shutil.which(name)]]))"
    )
    done = running.run("python", "-c", program, json.dumps([UNWANTED_COMMANDS, UNWANTED_MODULES]))
    assert json.loads(done.stdout) == [[], [], ["python", "dragoman-serve", "dragoman-translate"]]


def test_it_translates_and_counts_it(running: Container) -> None:
    with TranslationClient(running.grpc) as client:
        result = client.translate([SENTENCE], Options(beam_size=4))
    assert result.translations[0].text == TRANSLATION
    _, metrics = running.get("/metrics")
    assert f'dragoman_requests_total{{code="OK",method="Translate",model="{LABEL}"}} 1.0' in metrics
    assert 'execution_provider="CPUExecutionProvider"' in metrics


def test_its_health_check_tells_good_from_bad(serving: str, running: Container) -> None:
    found = inspect(serving)
    check = (found.get("Healthcheck") or found["Config"]["Healthcheck"])["Test"]  # podman's place for it, and docker's
    assert check[0] == "CMD"
    assert running.run(*check[1:]).returncode == 0
    (nobody,) = free_ports(1)
    assert running.run(*check[1:], "--server", f"127.0.0.1:{nobody}").returncode == 1


def test_a_call_that_was_accepted_outlives_sigterm(serving: str) -> None:
    long_texts = [f"{SENTENCE} The cat sat on the mat, and it was raining all day. " * 2] * 128
    with container(serving, MOUNT, ports=free_ports(2)) as server, ThreadPoolExecutor() as threads:
        server.wait_for("/readyz", "ok")
        with TranslationClient(server.grpc) as client:
            accepted = threads.submit(client.translate, long_texts, Options(beam_size=8), deadline=120)
            server.wait_for("/metrics", f'dragoman_running_slots{{model="{LABEL}"}} 32')
            server.signal("TERM")
            server.wait_for("/metrics", f'dragoman_model_draining{{model="{LABEL}"}} 1.0')
            assert server.run("python", "-m", "serving.client.health").returncode == 1
            with grpc.insecure_channel(server.grpc) as late, pytest.raises(grpc.RpcError) as refusal:  # no retries
                TranslationServiceStub(late).Translate(TranslateRequest(contents=[SENTENCE]), timeout=30)
            assert cast("grpc.Call", refusal.value).code() is grpc.StatusCode.UNAVAILABLE
            assert not accepted.done()
            translations = accepted.result().translations
        assert len(translations) == len(long_texts)
        assert {translation.text for translation in translations} == {translations[0].text}
        assert server.wait() == 0
        events = [line["event"] for line in server.log() if line["event"] != "call"]
        assert events[-3:] == ["draining", "drained", "stopped"]


def test_a_signal_in_the_first_moment_is_not_lost(serving: str) -> None:
    with container(serving, MOUNT) as server:
        server.signal("TERM")
        assert server.wait() in (0, 128 + signal.SIGTERM)  # by whether Python had come as far as to handle it


def test_without_a_bundle_it_ends_and_says_so(serving: str) -> None:
    with container(serving) as server:
        assert server.wait() == 1
        assert [line["event"] for line in server.log()][-1] == "startup_failed"


def test_baked_it_needs_neither_mount_nor_network() -> None:
    with container(image("serving-cpu-baked"), network="none") as server:
        done = server.run("dragoman-translate", "--server", server.ready()["listen"], SENTENCE)
        assert (done.stdout.strip(), done.returncode) == (TRANSLATION, 0)


def test_bundles_can_be_mounted_as_an_image(serving: str) -> None:
    mount = f"--mount=type=image,source={image('models')},destination=/models"
    with container(serving, mount) as server:
        assert server.ready()["models"] == [LABEL]
