"""Models that come and go while the server serves."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from serving.api.loading import bundle_directories, load_model
from serving.api.models import ModelRegistry, ServedModel
from serving.bundle.manifest import Manifest
from serving.config import ServerConfig
from serving.errors import FieldViolation, InvalidRequest, NotFound, StartupError
from serving.observability.metrics import Metrics
from serving.runtime.memory import release_memory

_LOG = logging.getLogger(__name__)

Changed = TypeVar("Changed")


class ModelLifecycle:
    """Changes of what is served: one after the other, each as a whole or not at all, also if its caller goes away."""

    def __init__(self, config: ServerConfig, registry: ModelRegistry, metrics: Metrics) -> None:
        """Change the models of ``registry``."""
        self._config, self._registry, self._metrics = config, registry, metrics
        self._changing = asyncio.Lock()
        self._tasks = set[asyncio.Task[Any]]()

    @property
    def busy(self) -> bool:
        """Whether a model is being loaded, or one that was taken out still runs."""
        return bool(self._tasks)

    async def load(self, name: str, version: int) -> Manifest:
        """Serve a bundle of the directory of models, in place of the same version if that is served.

        Raises:
            NotFound: There is no such bundle.
            InvalidRequest: It cannot be served; what was served still is.
        """
        return await self._whole(self._load(name, version))

    async def reload(self, name: str, version: int) -> Manifest:
        """Replace a version that is served by what its bundle is now.

        Raises:
            NotFound: It is not served, or its bundle is gone.
            InvalidRequest: The bundle cannot be served; what was served still is.
        """
        manifest = self._registry.resolve(name, version).manifest
        return await self._whole(self._load(manifest.name, manifest.version))

    async def unload(self, name: str, version: int) -> Manifest:
        """Take a model out; its memory is given back when its last call has ended.

        Raises:
            NotFound: It is not served.
            InvalidRequest: It is the only version of the default model.
        """
        async with self._changing:
            model = self._registry.resolve(name, version)
            self._registry.remove(model)
            self._retire(model)
            return model.manifest

    async def set_default(self, name: str) -> Manifest:
        """Make a model the one for requests that name none.

        Raises:
            InvalidRequest: The name is empty.
            NotFound: It is not served.
        """
        async with self._changing:
            return self._registry.set_default(name).manifest

    async def stop(self) -> None:
        """Wait for changes in progress; models that were taken out end, and so do those that are served."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        for model in self._registry.models():
            await asyncio.to_thread(model.close)

    async def _load(self, name: str, version: int) -> Manifest:
        async with self._changing:
            started = time.monotonic()
            directory = await asyncio.to_thread(_found, self._config.models, name, version)
            try:
                model = await asyncio.to_thread(load_model, directory, self._config, self._metrics)
            except StartupError as error:
                self._metrics.model_loads.labels("refused").inc()
                raise InvalidRequest([FieldViolation("model", str(error))]) from error
            if replaced := self._registry.add(model):
                self._retire(replaced)
                del replaced
            self._metrics.model_loads.labels("loaded").inc()
            seconds = round(time.monotonic() - started, 3)
            _LOG.info("loaded", extra={"model": model.label, "device": model.device, "seconds": seconds})
            return model.manifest

    def _retire(self, model: ServedModel) -> None:
        self._started(asyncio.create_task(self._ended(model)))

    async def _ended(self, model: ServedModel) -> None:
        label = model.label
        await model.calls.idle()
        await asyncio.to_thread(model.close)
        del model  # the last reference: what follows gives back its memory
        await asyncio.to_thread(release_memory)
        _LOG.info("unloaded", extra={"model": label})

    def _started(self, task: asyncio.Task[Any]) -> None:
        def ended(task: asyncio.Task[Any]) -> None:
            self._tasks.discard(task)
            if (
                not task.cancelled()
                and (error := task.exception())
                and not isinstance(error, InvalidRequest | NotFound)
            ):
                _LOG.error("model_change_failed", exc_info=error)

        self._tasks.add(task)
        task.add_done_callback(ended)

    async def _whole(self, change: Coroutine[Any, Any, Changed]) -> Changed:
        task = asyncio.create_task(change)
        self._started(task)
        return await asyncio.shield(task)


def _found(models: Path, name: str, version: int) -> Path:
    """Return the directory of a bundle, one of those that are there: what a caller names is no path."""
    try:
        directories = bundle_directories(models)
    except StartupError as error:
        raise NotFound(str(error)) from error
    found = [path for path in directories if path.parent.name == name and path.name.isdecimal()]
    found = [path for path in found if version in {0, int(path.name)}]
    if not found:
        asked = f"{name}/{version}" if version else name
        on_disk = ", ".join(f"{path.parent.name}/{path.name}" for path in directories)
        raise NotFound(f"there is no bundle {asked!r} in the directory of models; there are {on_disk}")
    return max(found, key=lambda path: int(path.name))
