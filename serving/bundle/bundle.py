"""Bundles read from disk and checked against their manifests."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from serving.bundle.manifest import FORMAT_VERSION, Manifest
from serving.errors import StartupError

MANIFEST_FILE = "manifest.json"


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files match their hashes."""

    directory: Path
    manifest: Manifest

    def path(self, file: str) -> Path:
        """Return the path of a file named in the manifest."""
        return self.directory / file

    def on(self, device: Literal["cpu", "cuda"]) -> Bundle:
        """Return the bundle with every precision allowed on a device, for checks: slow where a kernel is missing."""
        precisions = {
            name: precision.model_copy(update={"devices": tuple(sorted({*precision.devices, device}))})
            for name, precision in self.manifest.precisions.items()
        }
        return replace(self, manifest=self.manifest.model_copy(update={"precisions": precisions}))


def load_bundle(directory: Path) -> Bundle:
    """Load and check the bundle in ``directory``.

    Raises:
        StartupError: The manifest is missing, invalid or of another format version, or files are missing or changed;
            lists every problem.
    """
    path = directory / MANIFEST_FILE
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise StartupError(
            f"cannot read {MANIFEST_FILE} in {directory} ({error.strerror}); give the directory of a bundle"
        ) from error
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'manifest'}: {e['msg']}" for e in error.errors())
        raise StartupError(
            f"{path} is not a manifest of format version {FORMAT_VERSION} ({found}); export the bundle again"
        ) from error
    if problems := [problem for file, sha in manifest.files.items() if (problem := _problem(directory / file, sha))]:
        raise StartupError(f"bundle {directory}: {'; '.join(problems)}; export or copy it again")
    return Bundle(directory, manifest)


def sha256(path: Path) -> str:
    """Return the hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _problem(path: Path, expected: str) -> str | None:
    if not path.is_file():
        return f"{path.name} is missing"
    if (found := sha256(path)) != expected:
        return f"{path.name} has sha256 {found[:12]}…, but the manifest says {expected[:12]}…"
    return None
