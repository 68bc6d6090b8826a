"""The RPCs of whoever operates the server."""

from __future__ import annotations

from typing import Any

from grpc import aio
from prometheus_client import CollectorRegistry

from serving.api.admission import Admission
from serving.api.lifecycle import ModelLifecycle
from serving.api.models import ModelRegistry, ServedModel
from serving.bundle.manifest import Manifest
from serving.observability.model_statistics import ModelCounters, counters_of
from serving.pb import admin_service_pb2 as pb
from serving.pb import admin_service_pb2_grpc as pb_grpc

Context = aio.ServicerContext[Any, Any]


class AdminServicer(pb_grpc.AdminServiceServicer):
    """Changes the models of a server that serves; raises the errors of :mod:`serving.errors`."""

    def __init__(
        self, lifecycle: ModelLifecycle, models: ModelRegistry, admission: Admission, registry: CollectorRegistry
    ) -> None:
        """Change ``models`` while ``admission`` says that the server serves, and read the metrics of ``registry``."""
        self._lifecycle, self._models, self._admission, self._registry = lifecycle, models, admission, registry

    async def LoadModel(self, request: pb.LoadModelRequest, context: Context) -> pb.LoadModelResponse:
        """Serve a bundle."""
        self._admission.check_phase()
        manifest = await self._lifecycle.load(request.model.name, request.model.version)
        return pb.LoadModelResponse(model=_named(manifest))

    async def UnloadModel(self, request: pb.UnloadModelRequest, context: Context) -> pb.UnloadModelResponse:
        """Stop serving a version."""
        self._admission.check_phase()
        manifest = await self._lifecycle.unload(request.model.name, request.model.version)
        return pb.UnloadModelResponse(model=_named(manifest))

    async def ReloadModel(self, request: pb.ReloadModelRequest, context: Context) -> pb.ReloadModelResponse:
        """Read a bundle again."""
        self._admission.check_phase()
        manifest = await self._lifecycle.reload(request.model.name, request.model.version)
        return pb.ReloadModelResponse(model=_named(manifest))

    async def SetDefaultModel(self, request: pb.SetDefaultModelRequest, context: Context) -> pb.SetDefaultModelResponse:
        """Choose the default model."""
        self._admission.check_phase()
        manifest = await self._lifecycle.set_default(request.name)
        return pb.SetDefaultModelResponse(model=_named(manifest))

    async def GetStatistics(self, request: pb.GetStatisticsRequest, context: Context) -> pb.GetStatisticsResponse:
        """Tell what each model has done."""
        models = [_statistics(model, counters_of(self._registry, model.label)) for model in self._models.models()]
        return pb.GetStatisticsResponse(models=models, calls_in_flight=self._admission.in_flight)


def _statistics(model: ServedModel, counters: ModelCounters) -> pb.ModelStatistics:
    now = model.snapshot()
    return pb.ModelStatistics(
        model=_named(model.manifest),
        healthy=now.healthy,
        queue_depth=now.queue_depth,
        running=now.running_slots,
        sentences=counters.sentences,
        rejections=counters.rejections,
        source_tokens=counters.source_tokens,
        target_tokens=counters.target_tokens,
        phases={name: pb.PhaseStatistics(count=n, seconds=s) for name, (n, s) in counters.phases.items()},
    )


def _named(manifest: Manifest) -> pb.ModelVersion:
    return pb.ModelVersion(name=manifest.name, version=manifest.version)
