"""What every manifest must keep to: each policy names the violations it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.kubernetes.rendered import Object, containers, pods

Policy = Callable[[list[Object]], Iterator[str]]


def images_are_pinned(objects: list[Object]) -> Iterator[str]:
    """A version or a digest, never a tag that moves."""
    references = [container["image"] for container in containers(objects)]
    references += [
        volume["image"]["reference"]
        for pod in pods(objects)
        for volume in pod["spec"].get("volumes", ())
        if "image" in volume
    ]
    for reference in references:
        tag = reference.rpartition("/")[2].partition(":")[2]
        if "@sha256:" not in reference and tag in ("", "latest"):
            yield f"{reference} has no fixed tag"


def resources_are_bounded(objects: list[Object]) -> Iterator[str]:
    """CPU and memory: requested and limited."""
    for container in containers(objects):
        given = container.get("resources", {})
        for bound in ("requests", "limits"):
            for resource in ("cpu", "memory"):
                if resource not in given.get(bound, {}):
                    yield f"{container['name']}: no {resource} in {bound}"


def containers_are_confined(objects: list[Object]) -> Iterator[str]:
    """No privileges, no capabilities, nothing written to the image."""
    expected = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    for container in containers(objects):
        context = container.get("securityContext", {})
        for key in {*expected, *context}:
            if context.get(key) != expected.get(key):
                yield f"{container['name']}: {key} is {context.get(key)}"


def pods_run_as_nobody(objects: list[Object]) -> Iterator[str]:
    """A user that is not root, the runtime's seccomp profile, nothing of the node's."""
    for pod in pods(objects):
        spec = pod["spec"]
        context = spec.get("securityContext", {})
        if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
            yield "the pod may run as root"
        if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield "the pod has no seccomp profile"
        yield from (f"the pod has {key}" for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key))
        yield from (f"volume {volume['name']} is the node's" for volume in spec["volumes"] if "hostPath" in volume)


def pods_have_no_token(objects: list[Object]) -> Iterator[str]:
    """A ServiceAccount of their own, and no credentials of it."""
    accounts = {entry["metadata"]["name"]: entry for entry in objects if entry["kind"] == "ServiceAccount"}
    for pod in pods(objects):
        name = pod["spec"].get("serviceAccountName")
        if name not in accounts:
            yield f"the pod's ServiceAccount {name} is not among the manifests"
        if pod["spec"].get("automountServiceAccountToken") is not False:
            yield "the pod gets a token"
    for name, account in accounts.items():
        if account.get("automountServiceAccountToken") is not False:
            yield f"ServiceAccount {name} hands out tokens"


def no_variables_of_services(objects: list[Object]) -> Iterator[str]:
    """A Service called dragoman makes DRAGOMAN_* variables, which the server refuses as unknown options."""
    for pod in pods(objects):
        if pod["spec"].get("enableServiceLinks") is not False:
            yield "the pod gets variables of every Service"


def namespaces_are_restricted(objects: list[Object]) -> Iterator[str]:
    """The namespace enforces the strictest Pod Security Standard, and everything is in it."""
    namespaces = {entry["metadata"]["name"]: entry for entry in objects if entry["kind"] == "Namespace"}
    for name, namespace in namespaces.items():
        if namespace["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce") != "restricted":
            yield f"namespace {name} does not enforce the restricted standard"
    for entry in objects:
        if entry["kind"] != "Namespace" and entry["metadata"].get("namespace") not in namespaces:
            yield f"{entry['kind']} {entry['metadata']['name']} is in no namespace of ours"


def selectors_select_the_pods(objects: list[Object]) -> Iterator[str]:
    """An empty or a wrong selector protects, exposes or scrapes the wrong pods."""
    labels = [pod["metadata"]["labels"] for pod in pods(objects)]
    for entry in objects:
        spec = entry.get("spec", {})
        wanted = {
            "Service": lambda spec: spec["selector"],
            "Deployment": lambda spec: spec["selector"]["matchLabels"],
            "PodDisruptionBudget": lambda spec: spec["selector"].get("matchLabels"),
            "NetworkPolicy": lambda spec: spec["podSelector"].get("matchLabels"),
        }.get(entry["kind"])
        if wanted and not ((selector := wanted(spec)) and all(selector.items() <= given.items() for given in labels)):
            yield f"the selector of {entry['kind']} {entry['metadata']['name']} is not our pods'"


def traffic_is_named(objects: list[Object]) -> Iterator[str]:
    """A NetworkPolicy holds in both directions, and lets nobody in who is not named."""
    policies = [entry["spec"] for entry in objects if entry["kind"] == "NetworkPolicy"]
    if not policies:
        yield "there is no NetworkPolicy"
    for spec in policies:
        if set(spec.get("policyTypes", ())) != {"Ingress", "Egress"}:
            yield "the NetworkPolicy does not hold in both directions"
        for rule in (*spec.get("ingress", ()), *spec.get("egress", ())):
            peers = rule.get("from") or rule.get("to") or [{}]
            if any(not any(_labels(peer)) for peer in peers):
                yield "a rule of the NetworkPolicy names nobody and so lets everybody"


def _labels(peer: Object) -> Iterator[Object]:
    for selector in ("podSelector", "namespaceSelector"):
        yield peer.get(selector, {}).get("matchLabels", {})


def replicas_are_spread(objects: list[Object]) -> Iterator[str]:
    """No two pods on a node while another node has none."""
    for pod in pods(objects):
        constraints = pod["spec"].get("topologySpreadConstraints", ())
        if "kubernetes.io/hostname" not in {constraint["topologyKey"] for constraint in constraints}:
            yield "the pods are not spread over nodes"
        for constraint in constraints:
            selector = constraint["labelSelector"].get("matchLabels", {})
            if not selector or not selector.items() <= pod["metadata"]["labels"].items():
                yield f"the spread over {constraint['topologyKey']} counts other pods"


def models_are_read_only(objects: list[Object]) -> Iterator[str]:
    """Nothing that serves can change a model."""
    for container in containers(objects):
        for mount in container.get("volumeMounts", ()):
            if mount["name"] in ("models", "corpora") and mount.get("readOnly") is not True:
                yield f"{container['name']} can write to {mount['mountPath']}"


def the_admin_port_is_closed(objects: list[Object]) -> Iterator[str]:
    """Nothing opens the port of administration; who needs it forwards one of their own."""
    for container in containers(objects):
        named = [*(entry["name"] for entry in container.get("env", [])), *container.get("args", [])]
        opened = [name for name in named if name == "DRAGOMAN_ADMIN" or str(name).startswith("--admin")]
        opened += [port["name"] for port in container.get("ports", []) if "admin" in port.get("name", "")]
        yield from (f"{container['name']} opens the admin port: {name}" for name in opened)
    for entry in objects:
        if entry["kind"] == "ConfigMap" and any("admin" in text for text in entry.get("data", {}).values()):
            yield f"{entry['metadata']['name']} speaks of admin"


EVERYWHERE: tuple[Policy, ...] = (
    the_admin_port_is_closed,
    images_are_pinned,
    resources_are_bounded,
    containers_are_confined,
    pods_run_as_nobody,
    pods_have_no_token,
    no_variables_of_services,
    namespaces_are_restricted,
    selectors_select_the_pods,
    traffic_is_named,
    replicas_are_spread,
    models_are_read_only,
)
