"""``python -m serving.bundle DIRECTORY``: a check of a bundle, for example in an init container."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from serving.bundle.bundle import MANIFEST_FILE, load_bundle, sha256
from serving.errors import StartupError


def main(argv: Sequence[str] | None = None) -> int:
    """Check every file of a bundle against its manifest, and the manifest against an expected hash.

    Returns:
        0 if all match, 1 if not; a wrong command line exits with 2.
    """
    parser = argparse.ArgumentParser(
        prog="python -m serving.bundle", description="Check that a bundle is complete and is the expected one."
    )
    parser.add_argument("bundle", type=Path, metavar="DIRECTORY", help=f"NAME/VERSION, with its {MANIFEST_FILE}")
    parser.add_argument("--manifest-sha256", metavar="HEX", help=f"expected sha256 of {MANIFEST_FILE}")
    arguments = parser.parse_args(argv)
    try:
        bundle = load_bundle(arguments.bundle)
    except StartupError as error:
        print(error, file=sys.stderr)
        return 1
    found = sha256(bundle.path(MANIFEST_FILE))
    if arguments.manifest_sha256 not in (None, found):
        print(
            f"{MANIFEST_FILE} of {bundle.directory} has sha256 {found}, expected {arguments.manifest_sha256}; "
            "deliver the expected bundle, or correct --manifest-sha256",
            file=sys.stderr,
        )
        return 1
    print(f"{bundle.manifest.name}/{bundle.manifest.version}: {len(bundle.manifest.files)} files, manifest {found}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
