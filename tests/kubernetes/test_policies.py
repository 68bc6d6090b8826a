"""The manifests keep to the policies, and every policy notices a manifest that does not."""

from collections.abc import Callable

import pytest

from tests.kubernetes import policies
from tests.kubernetes.rendered import ALL, Object, one, pods, render


@pytest.mark.parametrize("policy", policies.EVERYWHERE, ids=lambda policy: policy.__name__)
@pytest.mark.parametrize("folder", ALL)
def test_the_manifests_keep_to(folder: str, policy: policies.Policy) -> None:
    assert list(policy(render(folder))) == []


def pod(objects: list[Object]) -> Object:
    found: Object = pods(objects)[0]["spec"]
    return found


def server(objects: list[Object]) -> Object:
    found: Object = pod(objects)["containers"][0]
    return found


def image_of(reference: str) -> Callable[[list[Object]], None]:
    return lambda objects: server(objects).update(image=reference)


def without(part: Callable[[list[Object]], Object], key: str) -> Callable[[list[Object]], None]:
    def remove(objects: list[Object]) -> None:
        del part(objects)[key]

    return remove


def setting(part: Callable[[list[Object]], Object], key: str, value: object) -> Callable[[list[Object]], None]:
    def change(objects: list[Object]) -> None:
        part(objects)[key] = value

    return change


def part(kind: str, *keys: str) -> Callable[[list[Object]], Object]:
    def find(objects: list[Object]) -> Object:
        found = one(objects, kind)
        for key in keys:
            found = found[key]
        return found

    return find


def remove_object(kind: str) -> Callable[[list[Object]], None]:
    return lambda objects: objects.remove(one(objects, kind))


def admin_by_variable(objects: list[Object]) -> None:
    server(objects).setdefault("env", []).append({"name": "DRAGOMAN_ADMIN", "value": "0.0.0.0:50052"})


def admin_by_flag(objects: list[Object]) -> None:
    server(objects).setdefault("args", []).append("--admin=0.0.0.0:50052")


BAD: list[tuple[policies.Policy, Callable[[list[Object]], None]]] = [
    (policies.the_admin_port_is_closed, admin_by_variable),
    (policies.the_admin_port_is_closed, admin_by_flag),
    (policies.images_are_pinned, image_of("registry.example.com/dragoman:latest")),
    (policies.images_are_pinned, image_of("registry.example.com:5000/dragoman")),
    (
        policies.images_are_pinned,
        lambda objects: pod(objects)["volumes"].append({"name": "more", "image": {"reference": "models:latest"}}),
    ),
    (policies.resources_are_bounded, without(server, "resources")),
    (policies.resources_are_bounded, without(lambda objects: server(objects)["resources"]["limits"], "memory")),
    (policies.containers_are_confined, without(server, "securityContext")),
    (
        policies.containers_are_confined,
        setting(lambda objects: server(objects)["securityContext"], "readOnlyRootFilesystem", False),
    ),
    (
        policies.containers_are_confined,
        setting(lambda objects: server(objects)["securityContext"], "capabilities", {"drop": ["ALL"], "add": ["X"]}),
    ),
    (policies.containers_are_confined, setting(lambda o: server(o)["securityContext"], "privileged", True)),
    (policies.pods_run_as_nobody, setting(lambda objects: pod(objects)["securityContext"], "runAsNonRoot", False)),
    (policies.pods_run_as_nobody, without(lambda objects: pod(objects)["securityContext"], "seccompProfile")),
    (policies.pods_run_as_nobody, setting(pod, "hostNetwork", True)),
    (policies.pods_run_as_nobody, setting(pod, "volumes", [{"name": "models", "hostPath": {"path": "/models"}}])),
    (policies.pods_have_no_token, without(pod, "automountServiceAccountToken")),
    (policies.pods_have_no_token, setting(pod, "serviceAccountName", "default")),
    (policies.pods_have_no_token, without(part("ServiceAccount"), "automountServiceAccountToken")),
    (policies.no_variables_of_services, without(pod, "enableServiceLinks")),
    (policies.namespaces_are_restricted, without(part("Namespace", "metadata"), "labels")),
    (policies.namespaces_are_restricted, setting(part("Service", "metadata"), "namespace", "default")),
    (policies.selectors_select_the_pods, setting(part("PodDisruptionBudget", "spec"), "selector", {})),
    (policies.selectors_select_the_pods, setting(part("Service", "spec", "selector"), "app", "another")),
    (policies.selectors_select_the_pods, setting(part("NetworkPolicy", "spec"), "podSelector", {})),
    (policies.traffic_is_named, remove_object("NetworkPolicy")),
    (policies.traffic_is_named, setting(part("NetworkPolicy", "spec"), "policyTypes", ["Ingress"])),
    (policies.traffic_is_named, lambda objects: part("NetworkPolicy", "spec")(objects)["ingress"][0].pop("from")),
    (policies.traffic_is_named, setting(part("NetworkPolicy", "spec"), "egress", [{}])),
    (policies.replicas_are_spread, without(pod, "topologySpreadConstraints")),
    (
        policies.replicas_are_spread,
        setting(lambda objects: pod(objects)["topologySpreadConstraints"][0], "labelSelector", {}),
    ),
    (policies.models_are_read_only, without(lambda objects: server(objects)["volumeMounts"][0], "readOnly")),
]


@pytest.mark.parametrize(
    ("policy", "spoil"), [pytest.param(*bad, id=f"{bad[0].__name__}-{number}") for number, bad in enumerate(BAD)]
)
def test_a_bad_manifest_is_noticed(policy: policies.Policy, spoil: Callable[[list[Object]], None]) -> None:
    objects = render("overlays/cpu")
    spoil(objects)
    assert list(policy(objects))


def test_every_policy_is_shown_to_fail() -> None:
    assert {policy for policy, _ in BAD} == set(policies.EVERYWHERE)
