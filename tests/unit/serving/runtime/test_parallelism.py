"""A small model gets a worker for each core, a large one a single worker."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from serving.runtime import parallelism
from serving.runtime.parallelism import cores_of_quota, suitable_threads, suitable_workers


@pytest.mark.parametrize(
    ("megabytes", "cores", "quota", "workers"),
    [(9, 2, 0, 2), (9, 1, 0, 1), (9, 64, 0, 8), (240, 64, 0, 1), (9, 64, 2, 2), (9, 2, 4, 2)],
)
def test_workers_by_size_and_cores(
    megabytes: int, cores: int, quota: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)))
    monkeypatch.setattr(parallelism, "cores_of_quota", lambda: quota)
    assert suitable_workers(megabytes << 20) == workers


@pytest.mark.parametrize(
    ("workers", "cores", "quota", "threads"), [(1, 4, 0, 0), (1, 64, 4, 4), (1, 4, 8, 0), (2, 64, 4, 1)]
)
def test_threads_by_workers_and_limit(
    workers: int, cores: int, quota: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)))
    monkeypatch.setattr(parallelism, "cores_of_quota", lambda: quota)
    assert suitable_threads(workers) == threads


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "25000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, 0),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0),
        ({"cpu.max": "what is this\n"}, 0),
        ({}, 0),
    ],
)
def test_the_limit_of_a_container(files: dict[str, str], cores: int, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert cores_of_quota(tmp_path) == cores
