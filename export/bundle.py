"""From a checkpoint to a bundle on disk: graphs, weights, tokenizer, manifest. Nothing is left behind on failure."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx_ir as ir
from torch import nn

from export.alignment import best_alignment_head
from export.errors import ExportError
from export.graphs import ExportedModel, export_graphs
from export.verify import BEAM, Evidence, bleu, translate_in_torch, verify
from export.weights import RoundedWeights, round_weights, store_int8, store_shared
from serving.bundle.bundle import MANIFEST_FILE, load_bundle, sha256
from serving.bundle.manifest import (
    FORMAT_VERSION,
    Architecture,
    DecodingDefaults,
    Graph,
    Limits,
    Manifest,
    Precision,
    SpecialIds,
    Tokenizer,
    Verification,
)
from serving.runtime.onnx_runner import OnnxRunner
from training.checkpoint import LoadedCheckpoint
from training.data.tokenizer import load_tokenizer
from training.data.words import Words
from training.models.rnn import Rnn

_ALIGNMENT_PAIRS = 300  # sentences that decide on the alignment head


@dataclass(frozen=True)
class BundleOptions:
    """What the checkpoint does not say.

    Attributes:
        name: Of the bundle.
        version: From 1.
        weights: ``fp32``, or ``int8`` for storage as int8, rounded per output channel and multiplied out at load.
        max_source_tokens: Longest source; longer ones are the caller's to split.
        max_target_tokens: Longest target.
    """

    name: str
    version: int
    weights: str = "fp32"
    max_source_tokens: int = 128
    max_target_tokens: int = 256


def write_bundle(checkpoint: LoadedCheckpoint, root: Path, options: BundleOptions, evidence: Evidence) -> Path:
    """Exports, verifies and writes ``root/NAME/VERSION/``.

    Raises:
        ExportError: The bundle exists, the model cannot take the limits, or the export is wrong.
        VerificationError: The export does not do what the model does.
    """
    target = root / options.name / str(options.version)
    if target.exists():
        raise ExportError(f"{target} exists: give another version, or delete it")
    checkpoint.config.model.check_lengths(options.max_source_tokens, options.max_target_tokens)
    reference_bleu = None
    rounded: RoundedWeights = {}
    alignment = _alignment(checkpoint, evidence)
    if options.weights == "int8":
        reference_bleu = _checkpoint_bleu(checkpoint, evidence)
        rounded = round_weights(checkpoint.model)
    exported = export_graphs(checkpoint.model, alignment=(int(alignment["layer"]), int(alignment["head"])))
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{options.version}."))
    try:
        _write_files(checkpoint, exported, rounded, work)
        draft = _manifest(checkpoint, exported, options, alignment, work)
        _write_manifest(draft, work)
        record = verify(checkpoint, OnnxRunner.open(load_bundle(work), device="cpu"), evidence)
        if reference_bleu is not None:
            record = record.model_copy(update={"reference_bleu": reference_bleu})
        _write_manifest(_with_record(draft, record), work)
        work.chmod(0o755)
        work.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def verify_bundle(directory: Path, checkpoint: LoadedCheckpoint, evidence: Evidence) -> Verification:
    """Repeats the verification of a bundle against its checkpoint; writes nothing.

    Raises:
        StartupError: The bundle is damaged.
        VerificationError: The export does not do what the model does.
    """
    bundle = load_bundle(directory)
    if bundle.manifest.architecture.sizes.get("weights") == "int8":
        round_weights(checkpoint.model)
    return verify(checkpoint, OnnxRunner.open(bundle, device="cpu"), evidence)


def _alignment(checkpoint: LoadedCheckpoint, evidence: Evidence) -> dict[str, float]:
    model = checkpoint.model
    if isinstance(model, Rnn) or not checkpoint.vocabulary.shared:  # one head, or no copied tokens to judge by
        return {"layer": -1, "head": 0}
    sources = load_tokenizer(checkpoint.source_tokenizer_bytes).encode(evidence.sources[:_ALIGNMENT_PAIRS])
    if evidence.references:
        targets = load_tokenizer(checkpoint.target_tokenizer_bytes).encode(evidence.references[:_ALIGNMENT_PAIRS])
    else:
        targets = translate_in_torch(checkpoint, sources, 1, evidence.max_length)
    layer, head, accuracy = best_alignment_head(model, sources, targets)
    return {"layer": layer, "head": head, "copy_accuracy": round(accuracy, 4)}


def _checkpoint_bleu(checkpoint: LoadedCheckpoint, evidence: Evidence) -> float | None:
    if not evidence.references:
        return None
    ids = load_tokenizer(checkpoint.source_tokenizer_bytes).encode(evidence.sources)
    return bleu(checkpoint, translate_in_torch(checkpoint, ids, BEAM, evidence.max_length), evidence.references)[0]


def _write_files(checkpoint: LoadedCheckpoint, exported: ExportedModel, rounded: RoundedWeights, work: Path) -> None:
    graphs = {"encoder.onnx": exported.encoder.model, "decoder.onnx": exported.decoder.model}
    for graph in graphs.values():
        store_int8(graph, rounded)
    store_shared(list(graphs.values()), work)
    for file, graph in graphs.items():
        ir.save(graph, work / file)
    tokenizer = _tokenizer(checkpoint)
    (work / tokenizer.source).write_bytes(checkpoint.source_tokenizer_bytes)
    (work / tokenizer.target).write_bytes(checkpoint.target_tokenizer_bytes)


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
    exported: ExportedModel,
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
    nothing_yet = Verification(
        created="", versions={}, shapes_checked=0, max_abs_log_prob_difference=0, sentences=0,
        greedy_equal_ratio=0, beam_equal_ratio=0, beam_size=BEAM,
    )  # fmt: skip
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
        precisions={
            "fp32": Precision(
                devices=("cpu", "cuda"),
                encoder=Graph(file="encoder.onnx", inputs=exported.encoder.inputs, outputs=exported.encoder.outputs),
                decoder=Graph(file="decoder.onnx", inputs=exported.decoder.inputs, outputs=exported.decoder.outputs),
                memory=exported.memory,
                state=exported.state,
                verification=nothing_yet,
            )
        },
        files={path.name: sha256(path) for path in sorted(work.iterdir())},
    )


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _with_record(manifest: Manifest, record: Verification) -> Manifest:
    precision = manifest.precisions["fp32"].model_copy(update={"verification": record})
    return manifest.model_copy(update={"precisions": {"fp32": precision}})


def _write_manifest(manifest: Manifest, directory: Path) -> None:
    (directory / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
