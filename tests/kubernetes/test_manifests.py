"""Every kustomization renders, and every object of it is one that the API server would take."""

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.kubernetes.rendered import ALL, MANIFESTS, SERVING, Object, one, render

KUBERNETES = "1.37"
SCHEMAS = {
    path.stem: json.loads(path.read_text()) for path in (MANIFESTS.parents[1] / "tests/kubernetes/schemas").iterdir()
}


def check(entry: Object) -> None:
    """Holds an object against its schema, in which unknown fields are errors."""
    if schema := SCHEMAS.get(entry["kind"]):
        jsonschema.Draft202012Validator(schema).validate(entry)
    else:
        kubernetes_validate.validate(entry, KUBERNETES, strict=True)


@pytest.mark.parametrize("folder", ALL)
def test_every_object_is_valid(folder: str) -> None:
    objects = render(folder)
    assert len(objects) >= 6
    for entry in objects:
        check(entry)


def test_nothing_is_left_out_of_the_tests() -> None:
    kustomizations = {
        str(path.parent.relative_to(MANIFESTS))
        for path in MANIFESTS.rglob("kustomization.yaml")
        if "kind: Component" not in path.read_text() and path.parent.name != "base"
    }
    assert kustomizations == set(ALL)
    overlays = [MANIFESTS / folder / "kustomization.yaml" for folder in SERVING]
    used = {
        Path(each).name for overlay in overlays for each in yaml.safe_load(overlay.read_text()).get("components", ())
    }
    assert used == {path.name for path in (MANIFESTS / "components").iterdir()}
    for kustomization in MANIFESTS.rglob("kustomization.yaml"):
        files = {path.name for path in kustomization.parent.glob("*.yaml")} - {kustomization.name}
        assert {file for file in files if file not in kustomization.read_text()} == set()
    rendered = {entry["kind"] for folder in ALL for entry in render(folder)}
    assert set(SCHEMAS) <= rendered


def _misspell(entry: Object) -> None:
    entry["spec"]["templete"] = {}


def _wrong_type(entry: Object) -> None:
    entry["spec"]["minReadySeconds"] = "ten"


def _absent(entry: Object) -> None:
    del entry["spec"]["template"]["spec"]["containers"]


@pytest.mark.parametrize("spoil", [_misspell, _wrong_type, _absent])
def test_a_bad_deployment_is_refused(spoil: Callable[[Object], None]) -> None:
    deployment = one(render("overlays/cpu"), "Deployment")
    spoil(deployment)
    with pytest.raises(kubernetes_validate.ValidationError):
        check(deployment)


def test_a_bad_scaled_object_is_refused() -> None:
    scaled = one(render("overlays/cpu"), "ScaledObject")
    scaled["spec"]["triggers"][0]["metricTyp"] = scaled["spec"]["triggers"][0].pop("metricType")
    with pytest.raises(jsonschema.ValidationError):
        check(scaled)


def test_a_bad_service_monitor_is_refused() -> None:
    monitor = one(render("overlays/cpu"), "ServiceMonitor")
    monitor["spec"]["endpoints"][0]["interval"] = 15
    with pytest.raises(jsonschema.ValidationError):
        check(monitor)
