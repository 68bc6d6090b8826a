"""Models by their names on the Hugging Face hub, such as ``Helsinki-NLP/opus-mt-en-de``."""

from __future__ import annotations

import re
from pathlib import Path

from export.errors import ExportError

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_CONFIGURATION = ["*.json", "*.spm", "*.model", "*.txt"]
# Weights of other frameworks are left where they are; pickled ones are fetched where there are no others.
_WEIGHTS = (["model*.safetensors", "model.bin"], ["pytorch_model*.bin"])


def is_name(source: str) -> bool:
    """Return whether this can be the name of a model on the hub, and is no path that exists."""
    return _NAME.fullmatch(source) is not None and not Path(source).exists()


def fetch(name: str) -> Path:
    """Bring a model's files into the hub's own cache, where they stay, and return their directory.

    Where there is no network, or the environment variable ``HF_HUB_OFFLINE`` says so, what is in the cache is taken.

    Raises:
        ExportError: ``huggingface_hub`` is not installed, the hub has no such model, or it cannot be reached.
    """
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ImportError as error:
        raise ExportError(
            f"there is no {name} here, and to fetch it from the hub needs huggingface_hub: install the extra hub"
        ) from error
    try:
        for weights in _WEIGHTS:
            folder = Path(snapshot_download(name, allow_patterns=[*_CONFIGURATION, *weights]))
            if any(any(folder.glob(pattern)) for pattern in weights):
                break
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise ExportError(
            f"there is no {name} here, and it cannot be fetched from the hub ({reason}): give a directory, or a name"
        ) from error
    return folder
