"""One exported model in several precisions: each its own two graphs, over the same stored weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar, get_args

import onnx_ir as ir

from export.calibration import Inputs
from export.graphs import ExportedModel
from export.passes.float16 import make_half
from export.passes.quantization import quantize
from export.passes.shortlist import SHORTLIST_FILE, quantize_shortlist, quantized_specs
from export.passes.weights import Int8Weights, store_int8
from serving.bundle.manifest import Axis, Graph, Precision, TensorSpec, VerificationRecord

ShortlistName = Literal["fp32-shortlist", "int8-shortlist"]
WholeName = Literal["fp32", "int8", "fp16"]
PrecisionName = Literal[WholeName, ShortlistName]
PRECISIONS: tuple[WholeName, ...] = get_args(WholeName)
SHORTLISTED: dict[PrecisionName, ShortlistName] = {"fp32": "fp32-shortlist", "int8": "int8-shortlist"}
DEFAULT_PRECISIONS: tuple[PrecisionName, ...] = ("fp32", "int8")  # fp16 runs on GPUs only
_DEVICES: dict[PrecisionName, tuple[Literal["cpu", "cuda"], ...]] = {
    "fp32": ("cpu", "cuda"),
    "int8": ("cpu",),
    "fp16": ("cuda",),
    "fp32-shortlist": ("cpu",),
    "int8-shortlist": ("cpu",),
}
_INT8 = ("int8", "int8-shortlist")
Spec = TypeVar("Spec", bound=TensorSpec)
_NOTHING_YET = VerificationRecord(
    created="", versions={}, shapes_checked=0, max_abs_log_prob_difference=0, sentences=0,
    greedy_equal_ratio=0, beam_equal_ratio=0, beam_size=1,
)  # fmt: skip


def precision_graphs(
    exported: ExportedModel, precisions: Sequence[PrecisionName], stored: Int8Weights, int8: Int8Weights, inputs: Inputs
) -> dict[str, ir.Model]:
    """Return the graphs of all precisions by their file names.

    Args:
        exported: What each is made of; left as it is.
        precisions: Which to make: those with a shortlist, if the model was exported for one, else the others.
        stored: The matrices that fp32 graphs hold as int8 too: all or none.
        int8: The matrices of int8 products.
        inputs: What those are multiplied with.

    Raises:
        ExportError: The input of an int8 product was not calibrated, or a weight is too large for float16.
    """
    carried = _half_values(exported)
    graphs: dict[str, ir.Model] = {}
    for precision in precisions:
        encoder, decoder = exported.encoder.model.clone(), exported.decoder.model.clone()
        if precision == "int8-shortlist":
            quantize_shortlist(encoder, decoder, int8, inputs)
        for part, graph in (("encoder", encoder), ("decoder", decoder)):
            if precision in _INT8:
                quantize(graph, int8, inputs)
            if precision == "fp16":
                make_half(graph, carried)
            store_int8(graph, int8 if precision in _INT8 else stored)
            graphs[_file(part, precision)] = graph
    return graphs


def declared(exported: ExportedModel, precision: PrecisionName) -> Precision:
    """Declare a precision as in the manifest before it is verified."""
    encoder, decoder = exported.encoder, exported.decoder
    half = _half_values(exported) if precision == "fp16" else set()
    outputs, memory, columns = _halved(encoder.outputs, half), _halved(exported.memory, half), exported.columns
    if precision == "int8-shortlist":
        outputs, columns = quantized_specs(outputs), quantized_specs(columns)
    return Precision(
        devices=_DEVICES[precision],
        encoder=Graph(file=_file("encoder", precision), inputs=encoder.inputs, outputs=outputs),
        decoder=Graph(file=_file("decoder", precision), inputs=decoder.inputs, outputs=decoder.outputs),
        memory=memory,
        state=_halved(exported.state, half),
        verification=_NOTHING_YET,
        shortlist=SHORTLIST_FILE if precision in SHORTLISTED.values() else None,
        columns=columns,
        seven_bits=precision in _INT8,
    )


def _half_values(exported: ExportedModel) -> set[str]:
    """Return inputs and outputs that are float16 in fp16 graphs: memory and caches, not the small recurrent state."""
    caches = [spec for spec in exported.state if Axis.ENTRY in spec.axes]
    memory = [spec for spec in exported.memory if spec.dtype == "float32"]
    return {spec.name for spec in (*memory, *caches)} | {name for spec in caches for name in (spec.past, spec.present)}


def _halved(specs: tuple[Spec, ...], half: set[str]) -> tuple[Spec, ...]:
    return tuple(spec.model_copy(update={"dtype": "float16"}) if spec.name in half else spec for spec in specs)


def _file(part: str, precision: PrecisionName) -> str:
    return f"{part}.onnx" if precision == "fp32" else f"{part}.{precision}.onnx"
