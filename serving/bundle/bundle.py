"""Bundles read from disk and checked against their manifests."""

from __future__ import annotations

import errno
import hashlib
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from serving.bundle.manifest import READABLE, Manifest
from serving.bundle.onnx_model import model_problems
from serving.errors import StartupError

MANIFEST_FILE = "manifest.json"
_MAX_MANIFEST_BYTES = 1 << 20


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files match their hashes."""

    directory: Path
    manifest: Manifest

    def path(self, file: str) -> Path:
        """Return the path of a file named in the manifest."""
        return self.directory / file

    @property
    def nbytes(self) -> int:
        """Size of its files."""
        return sum(self.path(file).stat().st_size for file in self.manifest.files)

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
        manifest = Manifest.model_validate_json(_read_manifest(path))
    except OSError as error:
        raise StartupError(
            f"cannot read {MANIFEST_FILE} in {directory} ({error.strerror}); give the directory of a bundle"
        ) from error
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'manifest'}: {e['msg']}" for e in error.errors())
        versions = " or ".join(map(str, READABLE))
        raise StartupError(
            f"{path} is not a manifest of format version {versions} ({found}); export the bundle again"
        ) from error
    problems = [problem for file, sha in manifest.files.items() if (problem := _problem(directory / file, sha))]
    if not problems:
        sizes = {file: (directory / file).stat().st_size for file in manifest.files}
        problems = [problem for file in manifest.graph_files for problem in model_problems(directory / file, sizes)]
    if problems:
        raise StartupError(f"bundle {directory}: {'; '.join(problems)}; export or copy it again")
    return Bundle(directory, manifest)


def _read_manifest(path: Path) -> bytes:
    if not _is_plain_file(path):
        raise OSError(errno.ENOENT, "no such plain file")
    with path.open("rb") as file:
        content = file.read(_MAX_MANIFEST_BYTES + 1)
    if len(content) > _MAX_MANIFEST_BYTES:
        raise StartupError(f"{path} is larger than {_MAX_MANIFEST_BYTES >> 20} MiB; export the bundle again")
    return content


def sha256(path: Path) -> str:
    """Return the hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _problem(path: Path, expected: str) -> str | None:
    if not _is_plain_file(path):
        return f"{path.name} is a link or no file" if path.is_symlink() or path.exists() else f"{path.name} is missing"
    if (found := sha256(path)) != expected:
        return f"{path.name} has sha256 {found[:12]}…, but the manifest says {expected[:12]}…"
    return None


def _is_plain_file(path: Path) -> bool:
    """Return whether a file is where it seems to be: a link would lead out of the bundle, a pipe would never end."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False
