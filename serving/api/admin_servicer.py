"""The RPCs of whoever operates the server."""

from __future__ import annotations

from typing import Any

from grpc import aio

from serving.api.admission import Admission
from serving.api.lifecycle import ModelLifecycle
from serving.bundle.manifest import Manifest
from serving.pb import admin_service_pb2 as pb
from serving.pb import admin_service_pb2_grpc as pb_grpc

Context = aio.ServicerContext[Any, Any]


class AdminServicer(pb_grpc.AdminServiceServicer):
    """Changes the models of a server that serves; raises the errors of :mod:`serving.errors`."""

    def __init__(self, lifecycle: ModelLifecycle, admission: Admission) -> None:
        """Change models while ``admission`` says that the server serves."""
        self._lifecycle, self._admission = lifecycle, admission

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


def _named(manifest: Manifest) -> pb.ModelVersion:
    return pb.ModelVersion(name=manifest.name, version=manifest.version)
