"""Weights of a bundle by the names of their parameters, read from its ONNX graphs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from serving.bundle.bundle import Bundle

Weights = Mapping[str, NDArray[np.float32]]


def read_weights(bundle: Bundle, precision: str = "fp32") -> Weights:
    """Read the parameters that the encoder and the decoder of a precision hold; see ``export/passes/initializers.py``.

    Matrices stored as int8 are multiplied out.

    Returns:
        Initializers by name, parameters by their dotted names in ``training.models``; matrices are (output, input).
    """
    graphs = bundle.manifest.precisions[precision]
    held = {
        tensor.name: numpy_helper.to_array(tensor)
        for file in (graphs.encoder.file, graphs.decoder.file)
        for tensor in onnx.load(bundle.path(file)).graph.initializer
    }
    for name in [name for name in held if name.endswith(".int8")]:
        parameter = name.removesuffix(".int8")
        held[parameter] = held.pop(name).astype(np.float32) * held.pop(f"{parameter}.scales")
    return held
