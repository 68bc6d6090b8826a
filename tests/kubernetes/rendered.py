"""The manifests as kubectl renders them."""

from __future__ import annotations

import copy
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "deploy" / "kubernetes"
SERVING = ("overlays/cpu", "overlays/gpu", "overlays/dev")
ALL = (*SERVING, "training")

Object = dict[str, Any]


@cache
def _kustomize(folder: str) -> str:
    command = [str(Path(sys.executable).parent / "kubectl"), "kustomize", str(MANIFESTS / folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def render(folder: str) -> list[Object]:
    """Every object of a kustomization; the caller may change them."""
    return list(yaml.safe_load_all(_kustomize(folder)))


def one(objects: list[Object], kind: str) -> Object:
    """The only object of a kind."""
    (found,) = (entry for entry in objects if entry["kind"] == kind)
    return found


def pods(objects: list[Object]) -> list[Object]:
    """The pod templates: of Deployments and Jobs."""
    return [entry["spec"]["template"] for entry in objects if "template" in entry.get("spec", {})]


def containers(objects: list[Object]) -> list[Object]:
    """All containers of all pods, those that run first included."""
    specs = [pod["spec"] for pod in pods(objects)]
    return [each for spec in specs for each in (*spec.get("initContainers", ()), *spec["containers"])]


def environment(container: Object, objects: list[Object], fields: dict[str, str]) -> dict[str, str]:
    """What the container finds in its environment.

    Args:
        container: Whose.
        objects: With the ConfigMaps it refers to.
        fields: Values of what only a cluster knows, by the path a ``fieldRef`` names.
    """
    maps = {entry["metadata"]["name"]: entry["data"] for entry in objects if entry["kind"] == "ConfigMap"}
    found: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        found |= maps[source["configMapRef"]["name"]]
    for variable in container.get("env", ()):
        origin = variable.get("valueFrom", {})
        if "fieldRef" in origin:
            found[variable["name"]] = fields[origin["fieldRef"]["fieldPath"]]
        else:
            found[variable["name"]] = variable["value"]
    return found


def arguments(container: Object, variables: dict[str, str]) -> list[str]:
    """The container's arguments as the kubelet fills them in."""
    filled: list[str] = copy.copy(container["args"])
    for name, value in variables.items():
        filled = [argument.replace(f"$({name})", value) for argument in filled]
    return filled
