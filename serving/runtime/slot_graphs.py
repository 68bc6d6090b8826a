"""Tiny graphs that fill, fit and keep slot-major tensors where they lie, on any device ONNX Runtime has.

``graphs/KIND.DTYPE.onnx`` makes ``y_00`` of one tensor ``x_00`` and of int64 tensors, on the host but for ``order``:

- ``fill``: x repeated to ``shape``.
- ``fit``: x cut off at ``ends``, then followed by as many zeros as ``pads`` says. x and y may lie in one place.
- ``keep``: slots ``order`` (kept slot,) of x. x and y may lie in one place if no slot is read that another one is
  written to. (CUDA's ScatterND, which would write only what moves, copies each slot with a single thread.)

A run costs more than a small kernel, so one graph treats many tensors: the files one after the other, each with its own
number in its names. Protobuf merges messages whose encodings follow one another, and all numbers are equally long.
The files come from ``scripts/slot_graphs.py``, with the onnx package, which serving does not install.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

import onnxruntime as ort

from serving.errors import StartupError
from serving.runtime.session import open_session

Kind = Literal["fill", "fit", "keep"]

_FILES = Path(__file__).with_name("graphs")
_DTYPES = ("float32", "float16")
_MOST = 100  # tensors: their numbers have two digits


def slot_graph(kind: Kind, dtypes: tuple[str, ...]) -> bytes:
    """Return the graph for tensors of these types, in ONNX's encoding.

    Raises:
        StartupError: There is no graph for a type, or for that many tensors.
    """
    if len(dtypes) > _MOST or not set(dtypes) <= set(_DTYPES):
        held = f"{len(dtypes)} tensors of {', '.join(sorted(set(dtypes)))}"
        limit = f"up to {_MOST} of {' or '.join(_DTYPES)}"
        raise StartupError(f"memory and state are {held}, a GPU takes {limit}: use device cpu")
    one = {dtype: (_FILES / f"{kind}.{dtype}.onnx").read_bytes() for dtype in set(dtypes)}
    return b"".join(one[dtype].replace(b"_00", b"_%02d" % number) for number, dtype in enumerate(dtypes))


@cache
def slot_session(kind: Kind, dtypes: tuple[str, ...], device: str) -> ort.InferenceSession:
    """Return the session of a slot graph; all grids share it."""
    return open_session(slot_graph(kind, dtypes), device=device, threads=1)
