"""Reading a bundle from disk, and refusing one that is not what its manifest says."""

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
        """Where a file named in the manifest is."""
        return self.directory / file

    def on(self, device: Literal["cpu", "cuda"]) -> Bundle:
        """The bundle as if every precision ran on a device, for checks: what has no kernel there is cast, slowly."""
        precisions = {
            name: precision.model_copy(update={"devices": tuple(sorted({*precision.devices, device}))})
            for name, precision in self.manifest.precisions.items()
        }
        return replace(self, manifest=self.manifest.model_copy(update={"precisions": precisions}))


def load_bundle(directory: Path) -> Bundle:
    """Reads and checks the bundle in ``directory``.

    Raises:
        StartupError: No or bad manifest, another format version, missing or changed files; names every problem.
    """
    path = directory / MANIFEST_FILE
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise StartupError(f"no readable {MANIFEST_FILE} in {directory} ({error.strerror}): name a bundle") from error
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'manifest'}: {e['msg']}" for e in error.errors())
        raise StartupError(
            f"{path} is not a manifest of format version {FORMAT_VERSION} ({found}): export the bundle again"
        ) from error
    if problems := [problem for file, sha in manifest.files.items() if (problem := _problem(directory / file, sha))]:
        raise StartupError(f"bundle {directory}: {'; '.join(problems)}; export or copy it again")
    return Bundle(directory, manifest)


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _problem(path: Path, expected: str) -> str | None:
    if not path.is_file():
        return f"{path.name} is missing"
    if (found := sha256(path)) != expected:
        return f"{path.name} has sha256 {found[:12]}… where the manifest says {expected[:12]}…"
    return None
