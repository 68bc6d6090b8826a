"""The ONNX runner: what it refuses to load, and what its buffers do."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from serving.bundle.bundle import Bundle, load_bundle
from serving.bundle.manifest import Axis, TensorSpec
from serving.decoding.beam import BeamSearch
from serving.decoding.options import DecodingOptions
from serving.errors import StartupError
from serving.runtime.host_buffers import HostBuffers
from serving.runtime.host_grid import HostGrid
from serving.runtime.onnx_runner import OnnxRunner
from serving.runtime.runner import Grid
from serving.runtime.size_buckets import bucket
from tests.unit.serving.bundle.test_bundle import GOLDEN


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle(GOLDEN)


@pytest.fixture(scope="module")
def runner(bundle: Bundle) -> OnnxRunner:
    return OnnxRunner.open(bundle, device="cpu", threads=1)


def changed(bundle: Bundle, **precision: object) -> Bundle:
    manifest = bundle.manifest
    fp32 = manifest.precisions["fp32"].model_copy(update=precision)
    return dataclasses.replace(bundle, manifest=manifest.model_copy(update={"precisions": {"fp32": fp32}}))


def test_auto_is_the_fastest_precision_for_the_device(bundle: Bundle) -> None:
    assert OnnxRunner.open(bundle, device="cpu", threads=1).precision_name == "int8"
    assert OnnxRunner.open(changed(bundle), device="cpu", threads=1).precision_name == "fp32"


def test_cuda_asked_for_and_absent_is_an_error(bundle: Bundle) -> None:
    with pytest.raises(StartupError, match="device is cuda, but"):
        OnnxRunner.open(bundle, device="cuda")


def test_auto_says_where_it_really_runs(bundle: Bundle) -> None:
    assert OnnxRunner.open(bundle, device="auto", threads=1).device == "cpu"


def test_a_precision_that_the_device_cannot_run(bundle: Bundle) -> None:
    with pytest.raises(StartupError, match="precision fp32 runs on cuda, not on cpu"):
        OnnxRunner.open(changed(bundle, devices=("cuda",)), device="cpu")


def test_graphs_that_are_not_what_the_manifest_declares(bundle: Bundle) -> None:
    precision = bundle.manifest.precisions["fp32"]
    swapped = changed(bundle, state=precision.state[1:], memory=precision.memory[:1])
    with pytest.raises(StartupError, match=r"decoder inputs differ in .*past_self_keys_0.*decoder outputs differ in"):
        OnnxRunner.open(swapped, device="cpu")


def test_a_file_that_is_no_graph(bundle: Bundle) -> None:
    precision = bundle.manifest.precisions["fp32"]
    broken = changed(bundle, encoder=precision.encoder.model_copy(update={"file": "source.spm"}))
    with pytest.raises(StartupError, match=r"cannot load .*source\.spm"):
        OnnxRunner.open(broken, device="cpu")


def test_buckets_are_a_quarter_apart() -> None:
    assert [bucket(size) for size in (1, 8, 9, 33, 64, 65, 129)] == [8, 8, 16, 48, 64, 96, 192]


MEMORY = TensorSpec(name="keys", dtype="float32", axes=(Axis.SLOT, Axis.SRC))


def host_buffers(values: list[list[int]]) -> HostBuffers:
    """Three slots of one tensor."""
    held = np.array(values, dtype=np.float32)
    buffers = HostBuffers([MEMORY], 1, {Axis.SLOT: 3, Axis.SRC: held.shape[1]})
    buffers.admit(0, len(values), {"keys": held})
    return buffers


def test_host_buffers_zero_what_they_are_not_given() -> None:
    buffers = host_buffers([[7, 7, 7, 7]] * 3)
    buffers.admit(1, 1, {"keys": np.ones((1, 2), dtype=np.float32)})
    np.testing.assert_array_equal(buffers.arrays["keys"], [[7, 7, 7, 7], [1, 1, 0, 0], [7, 7, 7, 7]])
    buffers.keep(np.array([0, 2]))
    np.testing.assert_array_equal(buffers.arrays["keys"][:2], [[7, 7, 7, 7], [7, 7, 7, 7]])


def test_host_buffers_keep_busy_slots_through_every_size_and_allocate_for_the_largest_only() -> None:
    buffers = host_buffers([[1, 2], [3, 4], [5, 6]])
    assert buffers.resize(Axis.SRC, {Axis.SLOT: 3, Axis.SRC: 4}, busy=2)
    np.testing.assert_array_equal(buffers.arrays["keys"][:2], [[1, 2, 0, 0], [3, 4, 0, 0]])
    held = buffers.nbytes
    assert not buffers.resize(Axis.SRC, {Axis.SLOT: 3, Axis.SRC: 2}, busy=2)
    assert not buffers.resize(Axis.SRC, {Axis.SLOT: 3, Axis.SRC: 3}, busy=2)
    np.testing.assert_array_equal(buffers.arrays["keys"][:2], [[1, 2, 0], [3, 4, 0]])
    assert buffers.nbytes == held


def decode(runner: OnnxRunner, grid: Grid, sources: list[list[int]], length: int) -> list[tuple[int, ...]]:
    ids = runner.special_ids
    search = BeamSearch(2, len(sources), special_ids=ids, vocabulary_size=runner.vocabulary_size)
    grid.admit([np.array([*source, ids.eos]) for source in sources])
    search.admit([DecodingOptions(max_length=length, min_length=length, beam_size=2)] * len(sources))
    while not search.advance(grid.step(search.plan())).size:
        pass
    found = [search.hypotheses(slot)[0].tokens for slot in range(len(sources))]
    grid.keep(np.empty(0, dtype=np.int64))
    return found


def test_windows_grow_and_shrink_without_a_trace_and_come_back_without_allocation(runner: OnnxRunner) -> None:
    grid = runner.grid(2, 2)
    short, long = [[260, 262], [265]], [[260 + number % 9 for number in range(50)], [263]]
    first = decode(runner, grid, short, 8)
    assert decode(runner, grid, long, 55) == decode(runner, runner.grid(2, 2), long, 55)
    held = grid.nbytes
    assert decode(runner, grid, short, 8) == first
    decode(runner, grid, long, 55)
    assert grid.nbytes == held


def test_state_is_counted_as_it_grows(runner: OnnxRunner) -> None:
    grid = runner.grid(2, 2)
    decode(runner, grid, [[260], [261]], 4)
    held = grid.nbytes
    decode(runner, grid, [[260] * 20, [261]], 40)
    assert grid.nbytes > held > 0


def test_a_slot_does_not_inherit_not_a_number(runner: OnnxRunner) -> None:
    """A sentence that broke leaves NaN in its caches; the next one in the slot must not attend to it."""
    clean = decode(runner, runner.grid(2, 1), [[260, 262]], 8)
    grid = runner.grid(2, 1)
    decode(runner, grid, [[265] * 10], 14)
    assert isinstance(grid, HostGrid)
    assert isinstance(grid._buffers, HostBuffers)
    for array in grid._buffers.arrays.values():
        array[:] = np.nan
    assert decode(runner, grid, [[260, 262]], 8) == clean
