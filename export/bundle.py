"""From a checkpoint to a bundle on disk: graphs, weights, tokenizer, manifest. Nothing is left behind on failure."""

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
from export.verify import MAX_BLEU_LOSS, Evidence, Translations, translate_evidence, translate_in_torch, verify
from serving.bundle.bundle import MANIFEST_FILE, load_bundle, sha256
from serving.bundle.manifest import (
    FORMAT_VERSION,
    Architecture,
    DecodingDefaults,
    Limits,
    Manifest,
    Precision,
    SpecialIds,
    Tokenizer,
    VerificationRecord,
)
from serving.bundle.shortlist import Shortlist
from serving.runtime.onnx_runner import OnnxRunner
from training.checkpoint import LoadedCheckpoint
from training.data.tokenizer import load_tokenizer
from training.data.words import Words
from training.models.rnn import Rnn

_TEACHER_PAIRS = 400  # that decide on the alignment head and on the ranges of int8


@dataclass(frozen=True)
class BundleOptions:
    """Options of a bundle, which the checkpoint does not hold.

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


def write_bundle(checkpoint: LoadedCheckpoint, root: Path, options: BundleOptions, evidence: Evidence) -> Path:
    """Export, verify and write ``root/NAME/VERSION/``; round the checkpoint's model if its weights are to be int8.

    Raises:
        ExportError: The bundle exists, the model cannot take the limits, or the export is wrong.
        VerificationError: The export does not do what the model does.
    """
    target = root / options.name / str(options.version)
    if target.exists():
        raise ExportError(f"{target} exists: give another version, or delete it")
    checkpoint.config.model.check_lengths(options.max_source_tokens, options.max_target_tokens)
    sources, targets = _teacher_pairs(checkpoint, evidence)
    alignment = _alignment(checkpoint, sources, targets)
    inputs: Inputs = {}
    if "int8" in options.precisions:
        inputs = calibrate(checkpoint.model, sources, targets, reverse=checkpoint.config.data.reverse_source)
    original = translate_evidence(checkpoint, evidence)
    int8 = int8_weights(checkpoint.model)
    if options.weights == "int8":
        round_weights(checkpoint.model, int8)
    head = int(alignment["layer"]), int(alignment["head"])
    exports = [(export_graphs(checkpoint.model, alignment=head), options.precisions)]
    if options.shortlist is not None:
        restricted = [SHORTLISTED[name] for name in options.precisions if name in SHORTLISTED]
        if not restricted:
            raise ExportError(f"a shortlist needs a precision for CPUs: add one of {', '.join(SHORTLISTED)}")
        exports.append((export_graphs(checkpoint.model, alignment=head, shortlist=True), restricted))
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{options.version}."))
    try:
        stored = int8 if options.weights == "int8" else {}
        graphs: dict[str, ir.Model] = {}
        for exported, names in exports:
            graphs |= precision_graphs(exported, names, stored, int8, inputs)
        _write_files(checkpoint, graphs, options.shortlist, work)
        precisions: dict[str, Precision] = {
            name: declared(exported, name) for exported, names in exports for name in names
        }
        draft = _manifest(checkpoint, precisions, options, alignment, work)
        _write_manifest(draft, work)
        records = _verify(work, checkpoint, evidence, original, options.max_bleu_loss)
        _write_manifest(_with_records(draft, records), work)
        work.chmod(0o755)
        work.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def verify_bundle(
    directory: Path, checkpoint: LoadedCheckpoint, evidence: Evidence, max_bleu_loss: float = MAX_BLEU_LOSS
) -> dict[str, VerificationRecord]:
    """Repeats the verification of a bundle against its checkpoint, whose model is rounded as the bundle's.

    Returns:
        The records by precision.

    Raises:
        StartupError: The bundle is damaged.
        VerificationError: The export does not do what the model does.
    """
    sizes = load_bundle(directory).manifest.architecture.sizes
    original = translate_evidence(checkpoint, evidence)
    if sizes.get("weights") == "int8":
        round_weights(checkpoint.model, int8_weights(checkpoint.model))
    return _verify(directory, checkpoint, evidence, original, max_bleu_loss)


def _verify(
    directory: Path, checkpoint: LoadedCheckpoint, evidence: Evidence, original: Translations, max_bleu_loss: float
) -> dict[str, VerificationRecord]:
    """Verify every precision, those of the GPU on the CPU too.

    The original translations are those of the checkpoint before rounding.
    """
    bundle = load_bundle(directory)
    rounded = bundle.manifest.architecture.sizes.get("weights") == "int8"
    records: dict[str, VerificationRecord] = {}
    for name in bundle.manifest.precisions:
        precision = cast("PrecisionName", name)
        exact = precision == "fp32"
        expected = translate_evidence(checkpoint, evidence) if exact and rounded else original
        runner = OnnxRunner.open(bundle.on("cpu"), precision=precision, device="cpu")
        record = verify(checkpoint, runner, evidence, expected, max_bleu_loss=None if exact else max_bleu_loss)
        records[precision] = record.model_copy(update={"reference_bleu": original.bleu})
    return records


def _teacher_pairs(checkpoint: LoadedCheckpoint, evidence: Evidence) -> tuple[list[list[int]], list[list[int]]]:
    """Token ids of real sources, and of their references or else the model's own translations."""
    sources = load_tokenizer(checkpoint.source_tokenizer_bytes).encode(evidence.sources[:_TEACHER_PAIRS])
    if evidence.references:
        targets = load_tokenizer(checkpoint.target_tokenizer_bytes).encode(evidence.references[:_TEACHER_PAIRS])
    else:
        targets = translate_in_torch(checkpoint, sources, 1, evidence.max_length)
    return sources, targets


def _alignment(checkpoint: LoadedCheckpoint, sources: list[list[int]], targets: list[list[int]]) -> dict[str, float]:
    model = checkpoint.model
    if isinstance(model, Rnn) or not checkpoint.vocabulary.shared:  # one head, or no copied tokens to judge by
        return {"layer": -1, "head": 0}
    layer, head, accuracy = best_alignment_head(model, sources, targets)
    return {"layer": layer, "head": head, "copy_accuracy": round(accuracy, 4)}


def _write_files(
    checkpoint: LoadedCheckpoint, graphs: dict[str, ir.Model], shortlist: Shortlist | None, work: Path
) -> None:
    store_shared(list(graphs.values()), work)
    for file, graph in graphs.items():
        ir.save(graph, work / file)
    tokenizer = _tokenizer(checkpoint)
    (work / tokenizer.source).write_bytes(checkpoint.source_tokenizer_bytes)
    (work / tokenizer.target).write_bytes(checkpoint.target_tokenizer_bytes)
    if shortlist is not None:
        shortlist.save(work / SHORTLIST_FILE)


def _tokenizer(checkpoint: LoadedCheckpoint) -> Tokenizer:
    words = isinstance(load_tokenizer(checkpoint.source_tokenizer_bytes), Words)
    suffix = "words.json" if words else "spm"
    shared = checkpoint.source_tokenizer_bytes == checkpoint.target_tokenizer_bytes
    return Tokenizer(
        kind="words" if words else "sentencepiece",
        source=f"source.{suffix}",
        target=f"source.{suffix}" if shared else f"target.{suffix}",
    )


def _manifest(
    checkpoint: LoadedCheckpoint,
    precisions: Mapping[str, Precision],
    options: BundleOptions,
    alignment: dict[str, float],
    work: Path,
) -> Manifest:
    vocabulary, config = checkpoint.vocabulary, checkpoint.config
    bos = vocabulary.bos if vocabulary.bos is not None else vocabulary.decoder_start
    sizes = {
        **asdict(config.model),
        **{f"alignment_{k}": v for k, v in alignment.items()},
        "weights": options.weights,
        "parameters": _parameters(checkpoint.model),
    }
    return Manifest(
        format_version=FORMAT_VERSION,
        name=options.name,
        version=options.version,
        source_language=config.languages[0],
        target_language=config.languages[1],
        architecture=Architecture(family=str(sizes.pop("family")), sizes=sizes),
        vocabulary_size=vocabulary.target_size,
        special_ids=SpecialIds(
            pad=vocabulary.pad,
            unk=vocabulary.unk if vocabulary.unk is not None else vocabulary.pad,
            bos=bos,
            eos=vocabulary.eos,
            decoder_start=vocabulary.decoder_start,
        ),
        limits=Limits(max_source_tokens=options.max_source_tokens, max_target_tokens=options.max_target_tokens),
        reverse_source=config.data.reverse_source,
        tokenizer=_tokenizer(checkpoint),
        defaults=DecodingDefaults(),
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
