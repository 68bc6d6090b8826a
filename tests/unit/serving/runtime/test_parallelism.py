"""A small model gets a worker for each core, a large one a single worker."""

from __future__ import annotations

import os

import pytest

from serving.runtime.parallelism import suitable_workers


@pytest.mark.parametrize(("megabytes", "cores", "workers"), [(9, 2, 2), (9, 1, 1), (9, 64, 8), (240, 64, 1)])
def test_workers_by_size_and_cores(megabytes: int, cores: int, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)))
    assert suitable_workers(megabytes << 20) == workers
