"""Checkpoints that stand alone: weights, their running average, the configuration and the tokenizers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import Tensor

from training.config import TrainingConfig
from training.data.tokenizer import Tokenizer, load_tokenizer
from training.errors import CheckpointError
from training.models.build import build_model
from training.models.contract import LanguageModel, TranslationModel, Vocabulary

KEY = "dragoman"
FORMAT = 1
MODEL_PREFIX = "model."


@dataclass(frozen=True)
class Checkpoint:
    """A trained model, and all that its use needs.

    Attributes:
        model: Averaged weights, eval mode, CPU, float32.
        config: Of the run that trained it.
        source_tokenizer_bytes: Serialised SentencePiece model or word vocabulary.
        target_tokenizer_bytes: The same bytes if the vocabulary is shared.
        step: Optimizer steps taken.
        scores: The latest validation scores, such as ``bleu`` and ``chrf``.
    """

    model: LanguageModel
    config: TrainingConfig
    source_tokenizer_bytes: bytes
    target_tokenizer_bytes: bytes
    step: int
    scores: dict[str, float]

    @property
    def vocabulary(self) -> Vocabulary:
        """Sizes and special ids."""
        return self.model.vocabulary


@dataclass(frozen=True)
class LoadedCheckpoint(Checkpoint):
    """A trained model that translates."""

    model: TranslationModel[Any]


def pack_bytes(data: bytes) -> Tensor:
    """Wrap bytes as a tensor, shape (byte,), uint8, the one form that PyTorch's safe loader takes everywhere."""
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def unpack_bytes(data: Tensor) -> bytes:
    """Undo ``pack_bytes``: shape (byte,), uint8, to bytes."""
    return data.numpy().tobytes()


def vocabulary_of(source: Tokenizer, target: Tokenizer) -> Vocabulary:
    """Vocabulary of a model trained on these subwords; shared if both are one and the same model."""
    return Vocabulary(source.size, target.size, shared=source.model == target.model)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint file without building anything; no code in it is ever run.

    Raises:
        CheckpointError: If it is missing, damaged, or of another program or format.
    """
    try:
        raw: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint {path}; check the path") from error
    except Exception as error:
        raise CheckpointError(f"the checkpoint {path} cannot be read: {_damage(path, error)}") from error
    found = raw.get(KEY, {}).get("format") if isinstance(raw, dict) else None
    if found != FORMAT:
        raise CheckpointError(f"{path} is not a Dragoman checkpoint of format {FORMAT} (found {found})")
    return raw


def _damage(path: Path, error: Exception) -> str:
    """Say what is wrong with a file that cannot be read as a checkpoint, and what to do."""
    best = path.with_name("best.ckpt")
    remedy = (
        f"{best.name} beside it may be intact: use it instead, or copy it over {path.name} to resume from it"
        if best.is_file() and best != path
        else "copy it again, or delete it to start over"
    )
    if path.is_file() and path.stat().st_size == 0:
        return f"it is empty; {remedy}"
    return f"it is cut off or damaged ({str(error) or type(error).__name__}); {remedy}"


def load(path: Path | str) -> LoadedCheckpoint:
    """Load a trained model, ready to translate.

    Raises:
        CheckpointError: If the file is missing, damaged, not a Dragoman checkpoint, or of a model without a decoder.
    """
    found = load_any(path)
    if not isinstance(found.model, TranslationModel):
        raise CheckpointError(
            f"{path} is a masked language model, which does not translate; name it as init_from of a translation model"
        )
    return LoadedCheckpoint(**vars(found))


def load_any(path: Path | str) -> Checkpoint:
    """Load a trained model of any family.

    Raises:
        CheckpointError: If the file is missing, damaged, or not a Dragoman checkpoint.
    """
    raw = read_checkpoint(Path(path))
    own = raw[KEY]
    config = TrainingConfig.model_validate_json(own["config"])
    source, target = (unpack_bytes(own[f"{side}_tokenizer"]) for side in ("source", "target"))
    model = build_model(config.model, vocabulary_of(load_tokenizer(source), load_tokenizer(target)))
    weights = {k.removeprefix(MODEL_PREFIX): v for k, v in raw["state_dict"].items() if k.startswith(MODEL_PREFIX)}
    # The average holds parameters only; buffers, if any, come from the live weights.
    model.load_state_dict(weights)
    parameters = dict(model.named_parameters(remove_duplicate=False))  # a tied one may be averaged under any name
    with torch.no_grad():
        for name in own["average"].keys() & parameters.keys():
            parameters[name].copy_(own["average"][name])
    return Checkpoint(model.eval(), config, source, target, int(raw["global_step"]), own["scores"])


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place, flushes it to disk, then renames it: a crash never leaves half a file."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write ``checkpoint`` to ``path``; ``storage_options`` is part of Lightning's interface and unused.

        Raises:
            CheckpointError: If it cannot be written; nothing is left of it, and an older one stays.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        try:
            with partial.open("wb") as handle:
                torch.save(checkpoint, handle)
                handle.flush()
                os.fsync(handle.fileno())
            partial.replace(path)
        except (OSError, RuntimeError) as error:  # torch reports a failed write as a RuntimeError of its own
            partial.unlink(missing_ok=True)
            causes = (error, error.__context__)
            reason = next((e.strerror for e in causes if isinstance(e, OSError) and e.strerror), str(error))
            kept = "the one before is kept" if path.is_file() else "there is none yet"
            raise CheckpointError(
                f"the checkpoint {path} cannot be written ({reason}), {kept}; make room and start again"
            ) from error
