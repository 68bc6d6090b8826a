"""From a trained model to a bundle on disk: graphs, weights, tokenizer, manifest. Nothing is left behind on failure."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import onnx_ir as ir
from torch import nn

from export.alignment import best_alignment_head
from export.calibration import Inputs, calibrate
from export.errors import ExportError
from export.graphs import export_graphs
from export.passes.shortlist import SHORTLIST_FILE
from export.passes.weights import int8_weights, round_weights, store_shared
from export.precisions import DEFAULT_PRECISIONS, SHORTLISTED, PrecisionName, declared, precision_graphs
from export.trained_model import TrainedModel
from export.verify import MAX_BLEU_LOSS, Evidence, Translations, translate_evidence, verify
from serving.bundle.bundle import MANIFEST_FILE, load_bundle, sha256
from serving.bundle.manifest import (
    FORMAT_VERSION,
    Architecture,
    Limits,
    Manifest,
    Precision,
    VerificationRecord,
)
from serving.bundle.shortlist import Shortlist
from serving.runtime.onnx_runner import OnnxRunner
from training.models.rnn import Rnn

_TEACHER_PAIRS = 400  # that decide on the alignment head and on the ranges of int8


@dataclass(frozen=True)
class BundleOptions:
    """Options of a bundle, which the model does not hold.

    Attributes:
        name: Of the bundle.
        version: From 1.
        weights: ``fp32``, or ``int8`` for storage as int8, rounded per output channel and multiplied out at load.
        precisions: What the bundle can be served in.
        max_source_tokens: Longest source; longer ones are the caller's to split.
        max_target_tokens: Longest target.
        max_bleu_loss: BLEU that int8, fp16 and a shortlist may lose; infinite accepts any.
        shortlist: If given, fp32 and int8 are there once more, as fp32-shortlist and int8-shortlist.
    """

    name: str
    version: int
    weights: str = "fp32"
    precisions: Sequence[PrecisionName] = DEFAULT_PRECISIONS
    max_source_tokens: int = 128
    max_target_tokens: int = 256
    max_bleu_loss: float = MAX_BLEU_LOSS
    shortlist: Shortlist | None = None


def write_bundle(trained: TrainedModel, root: Path, options: BundleOptions, evidence: Evidence) -> Path:
    """Export, verify and write ``root/NAME/VERSION/``; rounds the model if its weights are to be int8.

    Raises:
        ExportError: The bundle exists, the model cannot take the limits, or the export is wrong.
        VerificationError: The export does not do what the model does.
    """
    target = root / options.name / str(options.version)
    if target.exists():
        raise ExportError(f"{target} exists: give another version, or delete it")
    before_source, before_target = trained.languages.longest
    trained.settings.check_lengths(options.max_source_tokens + before_source, options.max_target_tokens + before_target)
    original = translate_evidence(trained, evidence)
    sources, targets = _teacher_pairs(trained, evidence, original)
    alignment = _alignment(trained, sources, targets)
    inputs: Inputs = {}
    if "int8" in options.precisions:
        inputs = calibrate(trained.model, sources, targets, reverse=trained.reverse_source)
    int8 = int8_weights(trained.model)
    if options.weights == "int8":
        round_weights(trained.model, int8)
    head = int(alignment["layer"]), int(alignment["head"])
    renormalize = trained.search.renormalize
    exports = [(export_graphs(trained.model, alignment=head, renormalize=renormalize), options.precisions)]
    if options.shortlist is not None:
        restricted = [SHORTLISTED[name] for name in options.precisions if name in SHORTLISTED]
        if not restricted:
            raise ExportError(f"a shortlist needs a precision for CPUs: add one of {', '.join(SHORTLISTED)}")
        own = export_graphs(trained.model, alignment=head, shortlist=True, renormalize=renormalize)
        exports.append((own, restricted))
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{options.version}."))
    try:
        stored = int8 if options.weights == "int8" else {}
        graphs: dict[str, ir.Model] = {}
        for exported, names in exports:
            graphs |= precision_graphs(exported, names, stored, int8, inputs)
        _write_files(trained, graphs, options.shortlist, work)
        precisions: dict[str, Precision] = {
            name: declared(exported, name) for exported, names in exports for name in names
        }
        draft = _manifest(trained, precisions, options, alignment, work)
        _write_manifest(draft, work)
        records = _verify(work, trained, evidence, original, options.max_bleu_loss)
        _write_manifest(_with_records(draft, records), work)
        work.chmod(0o755)
        work.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def verify_bundle(
    directory: Path, trained: TrainedModel, evidence: Evidence, max_bleu_loss: float = MAX_BLEU_LOSS
) -> dict[str, VerificationRecord]:
    """Repeat the verification of a bundle against its model, which is rounded as the bundle's.

    Returns:
        The records by precision.

    Raises:
        StartupError: The bundle is damaged.
        VerificationError: The export does not do what the model does.
    """
    sizes = load_bundle(directory).manifest.architecture.sizes
    original = translate_evidence(trained, evidence)
    if sizes.get("weights") == "int8":
        round_weights(trained.model, int8_weights(trained.model))
    return _verify(directory, trained, evidence, original, max_bleu_loss)


def _verify(
    directory: Path, trained: TrainedModel, evidence: Evidence, original: Translations, max_bleu_loss: float
) -> dict[str, VerificationRecord]:
    """Verify every precision, those of the GPU on the CPU too.

    The original translations are those of the model before rounding.
    """
    bundle = load_bundle(directory)
    rounded = bundle.manifest.architecture.sizes.get("weights") == "int8"
    records: dict[str, VerificationRecord] = {}
    for name in bundle.manifest.precisions:
        precision = cast("PrecisionName", name)
        exact = precision == "fp32"
        expected = translate_evidence(trained, evidence) if exact and rounded else original
        runner = OnnxRunner.open(bundle.on("cpu"), precision=precision, device="cpu")
        record = verify(trained, runner, evidence, expected, max_bleu_loss=None if exact else max_bleu_loss)
        records[precision] = record.model_copy(update={"reference_bleu": original.bleu})
    return records


def _teacher_pairs(
    trained: TrainedModel, evidence: Evidence, original: Translations
) -> tuple[list[list[int]], list[list[int]]]:
    """Token ids of real sources, and of their references or else the model's own translations."""
    targets = trained.encode_targets(evidence.references) if evidence.references else original.tokens[1]
    sources, starts = evidence.source_ids(trained)[:_TEACHER_PAIRS], evidence.starts
    return sources, [[*start, *target] for _, start, target in zip(sources, starts, targets, strict=False)]


def _alignment(trained: TrainedModel, sources: list[list[int]], targets: list[list[int]]) -> dict[str, float]:
    model = trained.model
    if trained.alignment is not None:
        return {"layer": trained.alignment[0], "head": trained.alignment[1]}
    if isinstance(model, Rnn) or not trained.vocabulary.shared:  # one head, or no copied tokens to judge by
        return {"layer": -1, "head": 0}
    layer, head, accuracy = best_alignment_head(model, sources, targets)
    return {"layer": layer, "head": head, "copy_accuracy": round(accuracy, 4)}


def _write_files(trained: TrainedModel, graphs: dict[str, ir.Model], shortlist: Shortlist | None, work: Path) -> None:
    store_shared(list(graphs.values()), work)
    for file, graph in graphs.items():
        ir.save(graph, work / file)
    for file, content in trained.files.items():
        (work / file).write_bytes(content)
    if shortlist is not None:
        shortlist.save(work / SHORTLIST_FILE)


def _manifest(
    trained: TrainedModel,
    precisions: Mapping[str, Precision],
    options: BundleOptions,
    alignment: dict[str, float],
    work: Path,
) -> Manifest:
    sizes = {
        **asdict(trained.settings),
        **{f"alignment_{k}": v for k, v in alignment.items()},
        "weights": options.weights,
        "parameters": _parameters(trained.model),
    }
    return Manifest(
        format_version=FORMAT_VERSION,
        name=options.name,
        version=options.version,
        languages=trained.languages,
        architecture=Architecture(family=str(sizes.pop("family")), sizes=sizes),
        vocabulary_size=trained.vocabulary.target_size,
        special_ids=trained.special_ids,
        limits=Limits(max_source_tokens=options.max_source_tokens, max_target_tokens=options.max_target_tokens),
        reverse_source=trained.reverse_source,
        tokenizer=trained.tokenizer,
        defaults=trained.defaults,
        search=trained.search,
        precisions=dict(precisions),
        files={path.name: sha256(path) for path in sorted(work.iterdir())},
    )


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _with_records(manifest: Manifest, records: dict[str, VerificationRecord]) -> Manifest:
    precisions = {
        name: precision.model_copy(update={"verification": records[name]})
        for name, precision in manifest.precisions.items()
    }
    return manifest.model_copy(update={"precisions": precisions})


def _write_manifest(manifest: Manifest, directory: Path) -> None:
    (directory / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
