"""Graphs of a model: an encoder over sources, and one decoder step over slots x beams, both ONNX."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import onnx_ir as ir
import torch
from torch import nn

from export.errors import ExportError
from export.modules.candidates import CandidateDecoder
from export.modules.contract import FamilyDecoder, FamilyEncoder, StepInputs
from export.modules.decoder_only import DecoderOnlyPrefix, DecoderOnlyStep
from export.modules.rnn import RnnEncoder, RnnStep
from export.modules.transformer import TransformerDecoder, TransformerEncoder
from export.passes.fusion import fuse_products
from export.passes.initializers import name_parameters
from export.passes.shortlist import COLUMNS_INPUT, ShortlistDecoder, ShortlistEncoder, projection_of
from serving.bundle.manifest import ATTENTION, Axis, StateSpec, TensorSpec
from training.models.contract import TranslationModel
from training.models.decoder_only import DecoderOnly
from training.models.rnn import Rnn
from training.models.transformer import Transformer

ONNX_OPSET = 24

# Sizes of the example inputs: all different, none below 2, since 0 and 1 would be taken for constants.
_EXAMPLE = {
    Axis.SLOT: 3,
    Axis.SOURCE: 3,
    Axis.BEAM: 4,
    Axis.SRC: 5,
    Axis.ENTRY: 7,
    Axis.EDIT: 2,
    Axis.CANDIDATE: 8,
    Axis.SHORTLIST: 11,
    Axis.COLUMN: 13,
}

SOURCE_LENGTHS = TensorSpec(name="source_lengths", dtype="int64", axes=(Axis.SLOT,))
_ENCODER_INPUTS = (
    TensorSpec(name="source", dtype="int64", axes=(Axis.SOURCE, Axis.SRC)),
    TensorSpec(name="source_lengths", dtype="int64", axes=(Axis.SOURCE,)),
)
_STEP_AXES: dict[str, tuple[Axis | int, ...]] = {
    "tokens": (Axis.SLOT, Axis.BEAM),
    "parents": (Axis.SLOT, Axis.BEAM),
    "positions": (Axis.SLOT,),
    "places": (Axis.SLOT, Axis.BEAM, 2),
    "mask": (Axis.SLOT, 1, Axis.BEAM, Axis.ENTRY),
    "scores": (Axis.SLOT, Axis.BEAM),
    "targets": (Axis.SLOT, Axis.BEAM),
    "edit_tokens": (Axis.SLOT, Axis.BEAM, Axis.EDIT),
    "edit_factors": (Axis.SLOT, Axis.BEAM, Axis.EDIT),
    "edit_biases": (Axis.SLOT, Axis.BEAM, Axis.EDIT),
    "ranks": (Axis.CANDIDATE,),
}
_FLOAT_INPUTS = {"mask", "scores", "edit_factors", "edit_biases"}
_STEP_INPUTS = tuple(
    TensorSpec(
        name=field.name, dtype="float32" if field.name in _FLOAT_INPUTS else "int64", axes=_STEP_AXES[field.name]
    )
    for field in fields(StepInputs)
)
_STEP_OUTPUTS = (
    TensorSpec(name="candidate_scores", dtype="float32", axes=(Axis.SLOT, Axis.CANDIDATE)),
    TensorSpec(name="candidate_tokens", dtype="int64", axes=(Axis.SLOT, Axis.CANDIDATE)),
    TensorSpec(name="candidate_parents", dtype="int64", axes=(Axis.SLOT, Axis.CANDIDATE)),
    TensorSpec(name="target_log_probs", dtype="float32", axes=(Axis.SLOT, Axis.BEAM)),
    TensorSpec(name="alignment", dtype="int64", axes=(Axis.SLOT, Axis.BEAM)),
)
_ATTENTION = TensorSpec(name=ATTENTION, dtype="float32", axes=(Axis.SLOT, Axis.BEAM, Axis.SRC))


@dataclass(frozen=True)
class ExportedGraph:
    """An ONNX graph and what it declares; state and memory excepted for the decoder."""

    model: ir.Model
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class ExportedModel:
    """Both graphs of a model."""

    encoder: ExportedGraph
    decoder: ExportedGraph
    memory: tuple[TensorSpec, ...]
    state: tuple[StateSpec, ...]
    columns: tuple[TensorSpec, ...] = ()


def family_modules(model: TranslationModel[Any], alignment: tuple[int, int]) -> tuple[FamilyEncoder, FamilyDecoder]:
    """Return the encoder and decoder modules of a model's family.

    Raises:
        ExportError: No family of ours.
    """
    if isinstance(model, Transformer):
        return TransformerEncoder(model), TransformerDecoder(model, *alignment)
    if isinstance(model, DecoderOnly):
        return DecoderOnlyPrefix(model), DecoderOnlyStep(model, *alignment)
    if isinstance(model, Rnn):
        return RnnEncoder(model), RnnStep(model)
    raise ExportError(f"{type(model).__name__} has no graphs: add its encoder and decoder to export/graphs.py")


def export_graphs(
    model: TranslationModel[Any],
    *,
    alignment: tuple[int, int] = (-1, 0),
    shortlist: bool = False,
    renormalize: bool = False,
) -> ExportedModel:
    """Export both graphs of a model, and check that names, types and axes are the declared ones.

    Args:
        model: In eval mode.
        alignment: Decoder layer and head whose attention is the word alignment; models of one attention ignore it.
        shortlist: Each sentence has its own vocabulary: see ``export.passes.shortlist``.
        renormalize: Tokens that are ruled out leave the others more likely.

    Raises:
        ExportError: The family is unknown, or a graph is not what was declared; names every difference.
    """
    encoder, decoder = family_modules(model, alignment)
    suppressed = model.vocabulary.suppressed
    if shortlist:
        with projection_of(model) as projection:
            lister = ShortlistEncoder(encoder, projection)
            step = ShortlistDecoder(decoder, projection, suppressed, renormalize=renormalize)
            exported = _export_both(lister, step, (*_ENCODER_INPUTS, COLUMNS_INPUT))
    else:
        plain = CandidateDecoder(decoder, suppressed, renormalize=renormalize)
        exported = _export_both(encoder, plain, _ENCODER_INPUTS)
    for graph in (exported.encoder.model, exported.decoder.model):
        name_parameters(graph.graph, model)
        fuse_products(graph)
    return exported


def _export_both(
    encoder: FamilyEncoder | ShortlistEncoder, decoder: CandidateDecoder, encoder_inputs: tuple[TensorSpec, ...]
) -> ExportedModel:
    memory, state, columns = decoder.memory, decoder.state, decoder.columns
    encoder_graph = _export(encoder, (), encoder_inputs, encoder.outputs)
    past = [spec.model_copy(update={"name": spec.past}) for spec in state]
    present = [spec.model_copy(update={"name": spec.present}) for spec in state]
    inputs = (*_STEP_INPUTS, SOURCE_LENGTHS, *memory, *columns, *past)
    groups = (len(_STEP_INPUTS), 1, len(memory) + len(columns), len(past))
    outputs = (*_STEP_OUTPUTS, _ATTENTION) if decoder.has_attention else _STEP_OUTPUTS
    decoder_graph = _export(decoder, groups, inputs, (*outputs, *present))
    carried = {spec.name for spec in (*memory, *columns, *past, *present)}
    return ExportedModel(
        ExportedGraph(encoder_graph, encoder_inputs, encoder.outputs),
        ExportedGraph(
            decoder_graph,
            tuple(
                s for s in inputs if s.name not in carried and s.name in {i.name for i in decoder_graph.graph.inputs}
            ),
            outputs,
        ),
        memory,
        state,
        columns,
    )


def _export(
    module: nn.Module, groups: tuple[int, ...], inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> ir.Model:
    """Export a module whose arguments are ``inputs``, gathered in lists of sizes ``groups`` if it wants lists."""
    example: list[Any] = [torch.zeros(spec.shape(_EXAMPLE), dtype=getattr(torch, spec.dtype)) for spec in inputs]
    dynamic: list[Any] = [
        {i: torch.export.Dim.DYNAMIC for i, axis in enumerate(spec.axes) if isinstance(axis, Axis)} for spec in inputs
    ]
    for number, spec in enumerate(inputs):
        if spec.name == "source_lengths":
            example[number] += _EXAMPLE[Axis.SRC]
    if groups:
        example, dynamic = _grouped(example, groups), _grouped(dynamic, groups)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of packages and of itself, never of the model
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            module.eval(),
            tuple(example),
            dynamo=True,
            opset_version=ONNX_OPSET,
            dynamic_shapes=tuple(dynamic),
            verbose=False,
        )
    if program is None:
        raise ExportError(f"torch.onnx.export gave no program for {type(module).__name__}")
    model = program.model
    _name_values(model.graph, inputs, outputs)
    _strip_traces(model)
    return model


def _strip_traces(model: ir.Model) -> None:
    """Remove the exporter's notes: stack traces with this machine's paths, larger than the graph itself."""
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    for node in model.graph:
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()


def _grouped(values: list[Any], sizes: Sequence[int]) -> list[list[Any]]:
    rest = iter(values)
    return [[next(rest) for _ in range(size)] for size in sizes]


def _name_values(graph: ir.Graph, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
    """Give inputs and outputs their declared names and axes; drop inputs that nothing reads."""
    problems: list[str] = []
    for values, specs in ((graph.inputs, inputs), (graph.outputs, outputs)):
        if len(values) != len(specs):
            raise ExportError(f"the graph has {len(values)} inputs or outputs where {len(specs)} were declared")
        for value, spec in zip(values, specs, strict=True):
            problems += _differences(value, spec)
            value.name = spec.name
    if problems:
        raise ExportError("the graph is not what was declared: " + "; ".join(problems))
    for value in [value for value in graph.inputs if not value.uses()]:
        graph.inputs.remove(value)


def _differences(value: ir.Value, spec: TensorSpec) -> list[str]:
    dtype = value.dtype.numpy().name if value.dtype is not None else None
    found = tuple(value.shape) if value.shape is not None else ()
    problems = [] if dtype == spec.dtype else [f"{spec.name} is {dtype}, declared {spec.dtype}"]
    if len(found) != len(spec.axes):
        return [*problems, f"{spec.name} has {len(found)} axes, declared {len(spec.axes)}"]
    for size, axis in zip(found, spec.axes, strict=True):
        if isinstance(axis, Axis) and isinstance(size, int):
            problems.append(f"axis {axis.value} of {spec.name} is frozen at {size}")
        elif isinstance(size, int) and size != axis:  # a symbolic size is one the exporter could not work out
            problems.append(f"an axis of {spec.name} is {size}, declared {axis}")
    value.shape = ir.Shape([axis.value if isinstance(axis, Axis) else axis for axis in spec.axes])
    return problems
