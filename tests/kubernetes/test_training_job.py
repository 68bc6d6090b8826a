"""The Job starts one run on all of its nodes, and the trainer takes its options."""

import pytest

from tests.kubernetes.rendered import ROOT, arguments, containers, environment, one, pods, render
from training.config import TrainingConfig, load_config


def test_the_training_job_is_one_run_on_its_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    objects = render("training")
    job = one(objects, "Job")["spec"]
    (container,) = containers(objects)
    index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    variables = environment(container, objects, {index: "1"})
    given = arguments(container, variables)
    nodes = job["completions"]
    assert job["completionMode"] == "Indexed"
    assert job["parallelism"] == nodes
    assert f"--nnodes={nodes}" in given
    assert "--node-rank=1" in given
    service = one(objects, "Service")["metadata"]["name"]
    assert f"--master-addr={one(objects, 'Job')['metadata']['name']}-0.{service}" in given
    assert pods(objects)[0]["spec"]["subdomain"] == service
    config = _configuration(given, variables, monkeypatch)
    assert config.trainer.nodes == nodes
    assert f"--nproc-per-node={config.trainer.devices}" in given
    assert container["resources"]["limits"]["nvidia.com/gpu"] == str(config.trainer.devices)
    mounts = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert str(config.run_dir.parent) in mounts


def _configuration(given: list[str], variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> TrainingConfig:
    """What ``python -m training`` makes of the arguments behind ``-m training``."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    file, *overrides = given[given.index("training") + 1 :]
    return load_config(ROOT / file, overrides)
