"""``dragoman-translate``: translation through a server or, with ``--ray`` first, of whole files on a Ray cluster."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one of the two; each loads only what it needs."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if arguments[:1] == ["--ray"]:
        from serving.bulk import cli as bulk

        return bulk.main(arguments[1:])
    from serving.client import cli as client

    return client.main(arguments)
