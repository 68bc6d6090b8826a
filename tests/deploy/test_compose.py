"""The compose files: by the schema, by what they mount and name, and, in `make image-test`, by starting them."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.config import load_config
from serving.errors import StartupError
from tests.deploy.containers import ENGINE, ULIMITS, engine, image
from tests.deploy.monitoring import ALERTS, COMPOSE, DASHBOARD, tool
from tests.deploy.ports import free_ports

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parents[2]
FILES = [COMPOSE / "compose.yaml", COMPOSE / "compose.gpu.yaml"]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(FILES[0].read_text())["services"]


def default_of(text: str) -> str:
    """A line of the file as Compose reads it where no variable is set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def test_they_follow_the_compose_specification() -> None:
    command = [str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", *map(str, FILES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_is_confined(service: str) -> None:
    asked = SERVICES[service]
    assert asked["read_only"] is True
    assert asked["cap_drop"] == ["ALL"]
    assert asked["security_opt"] == ["no-new-privileges:true"]
    assert {"cpus", "mem_limit"} <= set(asked)
    assert re.fullmatch(r"[\w./-]+:v?\d+(\.\d+)+", default_of(asked["image"]))  # a version, never the latest
    assert all(port.startswith("127.0.0.1:") for port in asked.get("ports", []))


@pytest.mark.parametrize("file", [*FILES, ROOT / "deploy/docker/Containerfile", ROOT / "deploy/haproxy/haproxy.cfg"])
def test_the_admin_port_is_closed(file: Path) -> None:
    assert "admin" not in file.read_text().lower()


def test_every_file_that_is_mounted_exists() -> None:
    volumes = [default_of(volume) for service in SERVICES.values() for volume in service.get("volumes", [])]
    mounted = {volume.split(":")[0] for volume in volumes}
    files = {source for source in mounted if source.startswith(".")}
    assert len(files) == 6
    assert all((COMPOSE / file).exists() for file in files)


def test_grafana_finds_its_data_source_and_its_dashboard() -> None:
    inside = {volume.split(":")[1]: COMPOSE / volume.split(":")[0] for volume in SERVICES["grafana"]["volumes"]}
    (source,) = yaml.safe_load((COMPOSE / "grafana" / "datasources.yaml").read_text())["datasources"]
    prometheus = yaml.safe_load((COMPOSE / "prometheus.yaml").read_text())
    assert source["url"] == "http://prometheus:9090"
    assert source["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]
    (provider,) = yaml.safe_load((COMPOSE / "grafana" / "dashboards.yaml").read_text())["providers"]
    (dashboard,) = [place for place in inside if place.startswith(provider["options"]["path"] + "/")]
    assert json.loads(inside[dashboard].read_text()) == DASHBOARD
    assert SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == dashboard


def test_a_server_has_longer_to_end_than_to_drain() -> None:
    server = SERVICES["server"]
    assert int(server["stop_grace_period"].removesuffix("s")) > server["environment"]["DRAGOMAN_DRAIN_TIMEOUT"]


def test_the_server_starts_with_what_the_image_and_the_file_say_and_not_with_the_image_alone() -> None:
    containerfile = (COMPOSE.parent / "docker" / "Containerfile").read_text()
    image = dict(re.findall(r"(DRAGOMAN_(?:MODELS|LISTEN|HTTP))=(\S+)", containerfile))
    assert image.keys() == {"DRAGOMAN_MODELS", "DRAGOMAN_LISTEN", "DRAGOMAN_HTTP"}
    with pytest.raises(StartupError, match=r"other machines can reach 0\.0\.0\.0:50051 and 0\.0\.0\.0:8080"):
        load_config([], image)
    given = {key: default_of(str(value)) for key, value in SERVICES["server"]["environment"].items()}
    assert load_config([], image | given).insecure


def test_the_gpu_file_changes_the_server_only() -> None:
    (name,) = yaml.safe_load(FILES[1].read_text())["services"]
    assert name == "server"


@dataclass(frozen=True)
class Stack:
    """The services as they run, and where."""

    command: list[str]
    environment: dict[str, str]
    prometheus: str

    def compose(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs a command of Compose."""
        return subprocess.run(
            [*self.command, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def query(self, expression: str) -> list[float]:
        """What Prometheus answers."""
        url = f"http://{self.prometheus}/api/v1/query?query={urllib.parse.quote(expression)}"
        with urllib.request.urlopen(url, timeout=30) as response:
            return [float(row["value"][1]) for row in json.load(response)["data"]["result"]]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Everything but Grafana, of which there is no package: our images, and Debian's Prometheus in one of them."""
    images = {name: image(name) for name in ("serving-cpu", "load")}
    if ENGINE == "podman" and engine("info", "--format={{.Host.NetworkBackend}}").stdout.strip() != "netavark":
        pytest.skip("podman's networks have no names here: they need netavark and aardvark-dns")
    folder = tmp_path_factory.mktemp("compose")
    shutil.copy(tool("prometheus"), folder)
    (folder / "Containerfile").write_text(
        f'FROM {images["serving-cpu"]}\nCOPY prometheus /bin/\nUSER 65534\nENTRYPOINT ["/bin/prometheus"]\n'
    )
    engine("build", "--tag=dragoman/prometheus:test", str(folder))
    names = {"server": images["serving-cpu"], "load": images["load"], "prometheus": "dragoman/prometheus:test"}
    changed = {service: {"image": name, "ulimits": ULIMITS} for service, name in names.items()}
    (folder / "test.yaml").write_text(yaml.safe_dump({"services": changed}))
    grpc, http, port = free_ports(3)
    ports = {"GRPC_PORT": str(grpc), "HTTP_PORT": str(http), "PROMETHEUS_PORT": str(port)}
    compose = ["docker", "compose"] if ENGINE == "docker" else [str(BIN / "podman-compose")]
    command = [*compose, "-f", str(FILES[0]), "-f", str(folder / "test.yaml"), "-p", "dragoman-test"]
    running = Stack(command, os.environ | ports, f"127.0.0.1:{port}")
    try:
        started = running.compose("up", "--detach", "server", "prometheus")
        assert started.returncode == 0, started.stdout + started.stderr
        yield running
    finally:
        running.compose("--profile", "load", "down", "--volumes")


def test_they_start_and_find_one_another(stack: Stack) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        try:
            if stack.query("dragoman_model_ready{job='dragoman'}") == [1.0]:
                break
        except OSError:  # Prometheus does not listen yet
            pass
        time.sleep(0.5)
    assert stack.query("up") == [1.0], stack.compose("logs", "server", "prometheus")
    asked = [option for option in SERVICES["load"]["command"] if not option.startswith("--seconds")]
    load = stack.compose("--profile", "load", "run", "--rm", "--no-deps", "load", *asked, "--seconds=5")
    assert load.returncode == 0, load.stdout + load.stderr  # 1 if any call failed
    time.sleep(6)  # the next scrape
    assert sum(stack.query("dragoman_requests_total{code='OK'}")) > 0
    with urllib.request.urlopen(f"http://{stack.prometheus}/api/v1/rules?type=alert", timeout=30) as response:
        groups = json.load(response)["data"]["groups"]
    assert [rule["name"] for group in groups for rule in group["rules"]] == ALERTS
