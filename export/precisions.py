"""One exported model in several precisions: each its own two graphs, over the same stored weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import onnx_ir as ir

from export.calibration import Inputs
from export.graphs import ExportedModel
from export.quantization import quantize
from export.weights import Int8Weights, store_int8
from serving.bundle.manifest import Graph, Precision, Verification

PrecisionName = Literal["fp32", "int8"]
PRECISIONS: tuple[PrecisionName, ...] = get_args(PrecisionName)
_DEVICES: dict[PrecisionName, tuple[Literal["cpu", "cuda"], ...]] = {"fp32": ("cpu", "cuda"), "int8": ("cpu",)}
_NOTHING_YET = Verification(
    created="", versions={}, shapes_checked=0, max_abs_log_prob_difference=0, sentences=0,
    greedy_equal_ratio=0, beam_equal_ratio=0, beam_size=1,
)  # fmt: skip


def precision_graphs(
    exported: ExportedModel, precisions: Sequence[PrecisionName], stored: Int8Weights, int8: Int8Weights, inputs: Inputs
) -> dict[str, ir.Model]:
    """The graphs of all precisions by their file names.

    Args:
        exported: What each is made of; left as it is.
        precisions: Which to make.
        stored: The matrices that fp32 graphs hold as int8 too: all or none.
        int8: The matrices of int8 products.
        inputs: What those are multiplied with.

    Raises:
        ExportError: The input of an int8 product was not calibrated.
    """
    graphs: dict[str, ir.Model] = {}
    for precision in precisions:
        for part, source in (("encoder", exported.encoder), ("decoder", exported.decoder)):
            graph = graphs[_file(part, precision)] = source.model.clone()
            if precision == "int8":
                quantize(graph, int8, inputs)
            store_int8(graph, int8 if precision == "int8" else stored)
    return graphs


def declared(exported: ExportedModel, precision: PrecisionName) -> Precision:
    """What the manifest says of a precision before it is verified."""
    encoder, decoder = exported.encoder, exported.decoder
    return Precision(
        devices=_DEVICES[precision],
        encoder=Graph(file=_file("encoder", precision), inputs=encoder.inputs, outputs=encoder.outputs),
        decoder=Graph(file=_file("decoder", precision), inputs=decoder.inputs, outputs=decoder.outputs),
        memory=exported.memory,
        state=exported.state,
        verification=_NOTHING_YET,
    )


def _file(part: str, precision: PrecisionName) -> str:
    return f"{part}.onnx" if precision == "fp32" else f"{part}.{precision}.onnx"
