"""What the manifests say of the program is true of the program."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from serving.api import loading, server
from serving.config import ServerConfig, load_config, split_address
from serving.engine.observer import Outcome
from serving.observability.metrics import Metrics, ModelMetrics
from tests.kubernetes.rendered import ALL, ROOT, SERVING, Object, arguments, containers, environment, one, pods, render
from tests.shipped import LABEL


def configuration(objects: list[Object]) -> ServerConfig:
    """What the server makes of its arguments and variables."""
    container = pods(objects)[0]["spec"]["containers"][0]
    assert "command" not in container  # the image's own
    return load_config(container["args"], environment(container, objects, {}))


@pytest.mark.parametrize("folder", SERVING)
def test_the_server_takes_its_options(folder: str) -> None:
    objects = render(folder)
    config = configuration(objects)
    container = pods(objects)[0]["spec"]["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert split_address(config.listen) == ("0.0.0.0", ports["grpc"])
    assert split_address(config.http) == ("0.0.0.0", ports["http"])
    assert container["volumeMounts"][0]["mountPath"] == str(config.models)
    assert (config.workers, config.threads) == (0, 0)  # by the limit of the container
    assert config.device == {"overlays/gpu": "cuda"}.get(folder, "cpu")


@pytest.mark.parametrize("folder", SERVING)
def test_a_pod_has_time_to_drain(folder: str) -> None:
    objects = render(folder)
    pod = pods(objects)[0]["spec"]
    before = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    ending = configuration(objects).drain_timeout + loading._STOP_SECONDS + server._FLUSH_SECONDS
    assert pod["terminationGracePeriodSeconds"] >= before + ending + 5


@pytest.mark.parametrize("folder", SERVING)
def test_probes_ask_what_the_server_answers(folder: str) -> None:
    objects = render(folder)
    container = pods(objects)[0]["spec"]["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert container["readinessProbe"]["grpc"] == {"port": ports["grpc"], "service": server.SERVICE}
    for probe in ("startupProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/healthz", "port": "http"}
    service = one(objects, "Service")["spec"]
    assert service["clusterIP"] == "None"
    assert {port["name"]: port["port"] for port in service["ports"]} == ports


@pytest.mark.parametrize("folder", SERVING)
def test_an_update_takes_no_pod_before_there_is_another(folder: str) -> None:
    objects = render(folder)
    spec = one(objects, "Deployment")["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert spec["minReadySeconds"] >= 10
    assert one(objects, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


@pytest.mark.parametrize("folder", ALL)
def test_what_a_pod_mounts_is_there(folder: str) -> None:
    objects = render(folder)
    claims = {entry["metadata"]["name"] for entry in objects if entry["kind"] == "PersistentVolumeClaim"}
    volumes = pods(objects)[0]["spec"]["volumes"]
    used = {volume["persistentVolumeClaim"]["claimName"] for volume in volumes if "persistentVolumeClaim" in volume}
    assert used == claims
    mounted = {mount["name"] for container in containers(objects) for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in volumes}


@pytest.mark.parametrize("folder", SERVING)
def test_who_is_let_in_finds_a_port(folder: str) -> None:
    objects = render(folder)
    policy = one(objects, "NetworkPolicy")["spec"]
    ports = {port["name"] for port in pods(objects)[0]["spec"]["containers"][0]["ports"]}
    assert {port["port"] for rule in policy["ingress"] for port in rule["ports"]} == ports
    callers, monitoring = (rule["from"][0] for rule in policy["ingress"])
    assert callers["podSelector"]["matchLabels"] == {"dragoman-client": "true"}
    assert monitoring["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "monitoring"}
    assert policy["egress"] == []


def test_a_pod_on_a_gpu_has_one_and_takes_its_model_from_an_image() -> None:
    objects = render("overlays/gpu")
    spec = pods(objects)[0]["spec"]
    resources = spec["containers"][0]["resources"]
    assert resources["requests"] == resources["limits"]  # of the highest class, never evicted for another
    assert resources["limits"]["nvidia.com/gpu"] == "1"
    assert "nvidia.com/gpu" in {toleration["key"] for toleration in spec["tolerations"]}
    (models,) = (volume for volume in spec["volumes"] if volume["name"] == "models")
    assert "/models:" in models["image"]["reference"]
    assert spec["containers"][0]["image"].rpartition("/")[2].startswith("serving-gpu:")


def test_development_is_one_small_pod_without_operators() -> None:
    objects = render("overlays/dev")
    assert one(objects, "Deployment")["spec"]["replicas"] == 1
    assert not {"ScaledObject", "ServiceMonitor"} & {entry["kind"] for entry in objects}
    assert pods(objects)[0]["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "1", "memory": "1Gi"}
    assert one(objects, "PersistentVolumeClaim")["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert configuration(objects).log_level == "debug"


def check_model(objects: list[Object], models: Path) -> subprocess.CompletedProcess[str]:
    """Runs the init container's own command, with its volume where ``models`` is."""
    (container,) = (each for each in containers(objects) if each["name"] == "check-model")
    mount = container["volumeMounts"][0]["mountPath"]
    given = arguments(container, environment(container, objects, {}))
    given = [
        str(models) + argument.removeprefix(mount) if argument.startswith(mount) else argument for argument in given
    ]
    command = [sys.executable, *container["command"][1:], *given]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("folder", SERVING)
def test_the_init_container_takes_the_shipped_model(folder: str) -> None:
    done = check_model(render(folder), ROOT / "models")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("file", "message"), [("weights.bin", "weights.bin has sha256"), ("manifest.json", ", expected ")]
)
def test_the_init_container_refuses_a_changed_model(tmp_path: Path, file: str, message: str) -> None:
    shutil.copytree(ROOT / "models", tmp_path / "models")
    changed = tmp_path / "models" / LABEL / file
    content = bytearray(changed.read_bytes())
    content[-1] ^= 1 if file != "manifest.json" else 0
    changed.write_bytes(bytes(content) + (b"\n" if file == "manifest.json" else b""))
    done = check_model(render("overlays/cpu"), tmp_path / "models")
    assert done.returncode == 1
    assert message in done.stderr


def test_the_autoscaler_asks_for_metrics_that_exist() -> None:
    metrics = Metrics()
    ModelMetrics(metrics, LABEL).finished(Outcome.OK, None, 0)
    known = {sample.name for family in metrics.registry.collect() for sample in family.samples}
    asked = set()
    for trigger in one(render("overlays/cpu"), "ScaledObject")["spec"]["triggers"]:
        asked |= set(re.findall(r"dragoman_\w+", trigger["metadata"]["query"]))
        assert 'namespace="dragoman"' in trigger["metadata"]["query"]
    assert {"dragoman_queue_seconds_bucket"} < asked
    assert asked <= known


def test_the_autoscaler_and_the_monitor_find_what_they_name() -> None:
    objects = render("overlays/cpu")
    assert (
        one(objects, "ScaledObject")["spec"]["scaleTargetRef"]["name"] == one(objects, "Deployment")["metadata"]["name"]
    )
    monitor, service = one(objects, "ServiceMonitor")["spec"], one(objects, "Service")
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["endpoints"][0]["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert "replicas" not in one(objects, "Deployment")["spec"]  # or every `kubectl apply` undoes the autoscaler
