"""The grid for devices, run where there is none: on the CPU, through the same calls of ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from serving.bundle.bundle import load_bundle
from serving.decoding.hypothesis import FinishedHypothesis
from serving.decoding.options import DecodingOptions
from serving.engine.submission import Sentence
from serving.opening import offline_engine
from serving.runtime.device_buffers import DeviceBuffers
from serving.runtime.device_grid import DeviceGrid
from serving.runtime.onnx_runner import OnnxRunner
from tests.unit.serving.bundle.test_bundle import GOLDEN

RNG = np.random.default_rng(5)
EOS = 3


class DeviceRunner(OnnxRunner):
    """Steps as on a GPU."""

    def grid(self, beam: int, slots: int) -> DeviceGrid:
        return DeviceGrid(self.model, beam, slots)


@pytest.fixture(scope="module")
def host() -> OnnxRunner:
    return OnnxRunner.open(load_bundle(GOLDEN), precision="fp32", device="cpu", threads=1)


@pytest.fixture(scope="module")
def device() -> OnnxRunner:
    return DeviceRunner.open(load_bundle(GOLDEN), precision="fp32", device="cpu", threads=1)


def translated(runner: OnnxRunner, jobs: Sequence[Sentence]) -> list[FinishedHypothesis]:
    with offline_engine(runner) as engine:
        return [hypothesis for decoded in engine.submit(jobs).future.result() for hypothesis in decoded.hypotheses]


def jobs(runner: OnnxRunner, count: int, longest: int) -> list[Sentence]:
    """Sentences of many lengths, with options of their own."""
    sources = [
        RNG.integers(4, runner.manifest.vocabulary_size, size=size) for size in RNG.integers(1, longest, size=count)
    ]
    return [
        Sentence(
            np.append(source, EOS),
            DecodingOptions(
                max_length=int(RNG.integers(4, longest)),
                beam_size=int(RNG.choice([1, 2, 4])),
                min_length=int(RNG.integers(0, 3)),
                no_repeat_ngram_size=int(RNG.choice([0, 2])),
            ),
        )
        for source in sources
    ]


def test_answers_are_those_of_the_host_to_the_bit(host: OnnxRunner, device: OnnxRunner) -> None:
    """Joining, leaving, windows that grow and shrink, slots beyond the first block."""
    work = jobs(host, 70, 24)
    assert translated(device, work) == translated(host, work)


def test_a_grid_starts_small_and_grows_in_powers_of_two(device: OnnxRunner) -> None:
    grid = device.grid(2, 100)
    small = grid.nbytes
    grid.admit([np.array([5, EOS])] * 3)
    assert grid.nbytes == small
    grid.admit([np.array([5, EOS])] * 9)
    assert grid.nbytes == 2 * small


def test_what_a_broken_predecessor_left_is_gone(host: OnnxRunner, device: OnnxRunner) -> None:
    work = jobs(host, 1, 8)
    expected = translated(host, work)
    grid = DeviceGrid(device.model, work[0].options.beam_size, 4)
    grid.admit([work[0].source])
    assert isinstance(grid._buffers, DeviceBuffers)
    for block in grid._buffers._blocks.values():
        assert block._value is not None
        block._value.update_inplace(np.full(block._size, np.nan, dtype=np.float32))
    grid.keep(np.zeros(0, dtype=np.int64))
    one_grid = DeviceRunner.open(load_bundle(GOLDEN), precision="fp32", device="cpu", threads=1)
    one_grid.grid = lambda beam, slots: grid  # type: ignore[method-assign]
    assert translated(one_grid, work) == expected
