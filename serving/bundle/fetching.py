"""Bundles from an object store: ``python -m serving.bundle.fetching s3://bucket/en-fr/4 models``.

Needs the extra ``remote``, and for ``s3://``, ``gs://`` and ``abfs://`` the package of fsspec for each.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from serving.bundle.bundle import MANIFEST_FILE, load_bundle, sha256
from serving.bundle.manifest import Manifest
from serving.errors import StartupError


def fetch_bundle(url: str, models: Path, *, manifest_sha256: str = "") -> Path:
    """Copy a bundle to ``NAME/VERSION`` in a directory of models; it is checked first and moved there as a whole.

    Args:
        url: Of the directory that holds the manifest.
        models: Where bundles are.
        manifest_sha256: Hex digest that the manifest must have, which vouches for every other file; empty for any.

    Returns:
        The bundle's directory.

    Raises:
        StartupError: It cannot be read, is not as its manifest or the digest says, or is there already.
    """
    try:
        import fsspec
    except ImportError as error:
        raise StartupError("fetching bundles needs dragoman[remote]: install it") from error
    models.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".fetching-", dir=models))  # hidden: nobody serves it
    try:
        try:
            files, root = fsspec.core.url_to_fs(url.rstrip("/"))
            files.get_file(f"{root}/{MANIFEST_FILE}", str(partial / MANIFEST_FILE))
            _check_digest(partial / MANIFEST_FILE, manifest_sha256)
            manifest = Manifest.model_validate_json((partial / MANIFEST_FILE).read_bytes())  # names no path
            for name in manifest.files:
                files.get_file(f"{root}/{name}", str(partial / name))
        except (OSError, ValueError, ImportError) as error:
            raise StartupError(f"cannot fetch a bundle from {url}: {error}") from error
        place = models / manifest.name / str(load_bundle(partial).manifest.version)
        place.parent.mkdir(exist_ok=True)
        if place.exists():
            raise StartupError(f"{place} is there already; remove it first, or give the new bundle another version")
        partial.chmod(0o755)
        os.rename(partial, place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return place


def _check_digest(manifest: Path, expected: str) -> None:
    if expected and (found := sha256(manifest)) != expected.lower():
        raise StartupError(f"the manifest has sha256 {found}, not {expected}: this is another bundle")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 1 if the bundle cannot be fetched."""
    parser = argparse.ArgumentParser(prog="python -m serving.bundle.fetching", description="Fetch and check a bundle.")
    parser.add_argument("url", help="of the directory that holds the manifest, such as s3://bucket/en-fr/4")
    parser.add_argument("models", type=Path, help="directory of bundles")
    parser.add_argument("--manifest-sha256", default="", metavar="HEX", help="digest that the manifest must have")
    arguments = parser.parse_args(argv)
    try:
        print(fetch_bundle(arguments.url, arguments.models, manifest_sha256=arguments.manifest_sha256))
    except StartupError as error:
        print(f"serving.bundle.fetching: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
