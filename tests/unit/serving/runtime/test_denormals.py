"""Denormal numbers are 0 where models run, and nowhere else."""

from __future__ import annotations

import threading

import numpy as np
import onnxruntime as ort
import pytest

from serving.runtime import denormals
from serving.runtime.denormals import denormals_are_zero
from serving.runtime.session import open_session
from serving.runtime.slot_graphs import slot_graph

_DENORMAL = np.full(64, 1e-39, dtype=np.float32)

pytestmark = pytest.mark.skipif(not denormals.SUPPORTED, reason="denormal numbers cost nothing here")


def _doubled() -> float:
    return float((_DENORMAL + _DENORMAL)[0])


def test_only_within_the_block_and_on_its_thread() -> None:
    others: list[float] = []
    inside, outside = threading.Event(), threading.Event()

    def other() -> None:
        inside.wait()
        others.append(_doubled())
        outside.set()

    thread = threading.Thread(target=other)
    thread.start()
    with denormals_are_zero():
        assert _doubled() == 0
        inside.set()
        outside.wait()
    thread.join()
    assert others == [pytest.approx(2e-39)]
    assert _doubled() == pytest.approx(2e-39)


def test_an_exception_passes_and_leaves_the_thread_as_it_was() -> None:
    with pytest.raises(ZeroDivisionError), denormals_are_zero():
        raise ZeroDivisionError
    assert _doubled() > 0


def test_opening_a_session_leaves_the_thread_as_it_was() -> None:
    session = open_session(slot_graph("keep", ("float32",)), device="cpu", threads=1)
    assert isinstance(session, ort.InferenceSession)
    assert _doubled() > 0
