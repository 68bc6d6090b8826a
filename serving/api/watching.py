"""The directory of models, watched: what changes on disk is loaded, replaced and unloaded."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path

from serving.api.lifecycle import ModelLifecycle
from serving.api.loading import bundle_directories
from serving.errors import DragomanError, StartupError

_LOG = logging.getLogger(__name__)
_PERIOD = 2.0  # seconds

Stamp = tuple[object, ...]


class BundleWatch:
    """Follower of a directory of bundles.

    A bundle is read when it has stayed as it is from one look to the next, since a copy may be in progress. One that is
    refused is left alone until it changes again.
    """

    def __init__(self, models: Path, lifecycle: ModelLifecycle) -> None:
        """Take what is on disk now for what is served."""
        self._models, self._lifecycle = models, lifecycle
        self._seen = self._acted = _stamps(models)

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(_PERIOD)
            await self.look()

    async def look(self) -> None:
        """Act on what has changed, once it no longer does."""
        found = await asyncio.to_thread(_stamps, self._models)
        settled = {bundle for bundle, stamp in found.items() if self._seen.get(bundle) == stamp}
        gone = self._acted.keys() - found.keys() - self._seen.keys()
        changed = sorted(bundle for bundle in settled if self._acted.get(bundle) != found[bundle])
        self._acted = {bundle: stamp for bundle, stamp in self._acted.items() if bundle not in gone}
        self._acted |= {bundle: found[bundle] for bundle in changed}
        self._seen = found
        for bundle in changed:  # first, so that a model that moves to a new version stays the default
            await self._try(bundle, load=True)
        for bundle in sorted(gone):
            await self._try(bundle, load=False)

    async def _try(self, bundle: Path, *, load: bool) -> None:
        name, version = bundle.parent.name, bundle.name
        if not version.isdecimal():
            _LOG.error("bundle_refused", extra={"bundle": f"{name}/{version}", "error": "the version is not a number"})
            return
        try:
            await (self._lifecycle.load if load else self._lifecycle.unload)(name, int(version))
        except DragomanError as error:
            _LOG.error("bundle_refused", extra={"bundle": f"{name}/{version}", "error": str(error)})
        except Exception:
            _LOG.exception("bundle_failed", extra={"bundle": f"{name}/{version}"})


def _stamps(models: Path) -> Mapping[Path, Stamp]:
    """Return what tells of a change of each bundle: its files' names, sizes, times and inodes."""
    stamps = {}
    try:
        directories = bundle_directories(models)
    except StartupError:
        return {}
    for directory in directories:
        try:
            files = sorted((path.name, path.lstat()) for path in directory.iterdir())
        except OSError:  # it is being moved
            continue
        stamps[directory] = tuple((name, s.st_ino, s.st_size, s.st_mtime_ns) for name, s in files)
    return stamps
