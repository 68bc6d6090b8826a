"""``python -m serving.bundle DIRECTORY``: checks a bundle before a server starts on it, as an init container does."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from serving.bundle.bundle import MANIFEST_FILE, load_bundle, sha256
from serving.errors import StartupError


def main(argv: Sequence[str] | None = None) -> int:
    """Compares every file of a bundle with its manifest, and the manifest with what the caller expects.

    Returns:
        0 if all agree, 1 if not; a wrong command line exits with 2.
    """
    parser = argparse.ArgumentParser(
        prog="python -m serving.bundle", description="Checks that a bundle is whole, and the one that was meant."
    )
    parser.add_argument("bundle", type=Path, metavar="DIRECTORY", help=f"NAME/VERSION, with its {MANIFEST_FILE}")
    parser.add_argument("--manifest-sha256", metavar="HEX", help=f"what {MANIFEST_FILE} must hash to")
    arguments = parser.parse_args(argv)
    try:
        bundle = load_bundle(arguments.bundle)
    except StartupError as error:
        print(error, file=sys.stderr)
        return 1
    found = sha256(bundle.path(MANIFEST_FILE))
    if arguments.manifest_sha256 not in (None, found):
        print(
            f"{MANIFEST_FILE} of {bundle.directory} has sha256 {found} where {arguments.manifest_sha256} was expected; "
            "deliver the bundle that was meant, or correct the expectation",
            file=sys.stderr,
        )
        return 1
    print(f"{bundle.manifest.name}/{bundle.manifest.version}: {len(bundle.manifest.files)} files, manifest {found}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
