"""The server: gRPC with health and reflection, metrics, the web port, and its life from loading to drained."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from serving.api.access import Access
from serving.api.admin_servicer import AdminServicer
from serving.api.admission import Admission, Phase
from serving.api.calls import Calls
from serving.api.clients import Clients
from serving.api.glossaries import GlossaryStore
from serving.api.google_servicer import GoogleServicer
from serving.api.interceptor import CallInterceptor
from serving.api.language_routing import LanguageRouter
from serving.api.lifecycle import ModelLifecycle
from serving.api.metrics_endpoint import MetricsEndpoint
from serving.api.models import ModelRegistry
from serving.api.servicer import TranslationServicer
from serving.api.tls import tls_of
from serving.api.watching import BundleWatch
from serving.config import ServerConfig, split_address
from serving.errors import StartupError
from serving.loopback import is_loopback_host
from serving.observability.gauges import ServerCollector, ServerState
from serving.observability.loop_lag import lag_histogram, watch_lag
from serving.observability.metrics import Metrics
from serving.observability.tracing import CallTracer
from serving.pb import admin_service_pb2 as admin_pb
from serving.pb import admin_service_pb2_grpc as admin_pb_grpc
from serving.pb import translation_service_pb2 as pb
from serving.pb import translation_service_pb2_grpc as pb_grpc
from serving.pb.google import translation_service_pb2 as google_pb
from serving.pb.google import translation_service_pb2_grpc as google_pb_grpc
from serving.runtime.memory import resident_bytes

if TYPE_CHECKING:
    from serving.api.web.server import WebServer

SERVICE = pb.DESCRIPTOR.services_by_name["TranslationService"].full_name
_SERVICES = frozenset({SERVICE, google_pb.DESCRIPTOR.services_by_name["TranslationService"].full_name})
ADMIN_SERVICE = admin_pb.DESCRIPTOR.services_by_name["AdminService"].full_name
_MOST_ADMIN_CALLS = 16
_HANDSHAKE_MS = 10_000  # for a client to say the first words of HTTP/2 and TLS
# Of a connection. What is beyond waits in the client, which tells nobody, until its deadline is nearly gone; so there
# is room for all that a caller may ask for in seconds, and yet a bound for answers that nobody reads.
_MOST_STREAMS = 8192
_HEALTH_PERIOD = 0.5  # seconds between checks of the engines' health
# Calls are accepted for so long after the server has said that it leaves, so that callers who watch its health, or poll
# it every half second, have stopped sending by then: none has to be refused and repeated, and none arrives while the
# ports close, when gRPC cancels a call, which is not retried.
_NOTICE_SECONDS = 1.5
_FLUSH_SECONDS = 1.0  # for responses in transit when the last call has ended; open health watches end here


class Server:
    """Server in one event loop: ``start``, fill ``models``, ``serve``, ``drain``, ``stop``."""

    def __init__(self, config: ServerConfig) -> None:
        """Prepare everything without listening yet."""
        self.metrics = Metrics()
        self.models = ModelRegistry(config.default_model)
        self.admission = Admission(
            config.max_calls, config.max_calls_per_second, config.max_memory_bytes, resident=self._resident_bytes
        )
        self.lifecycle = ModelLifecycle(config, self.models, self.metrics)
        self.port = self.admin_port = 0
        self._config = config
        self._tls = tls_of(config)
        access = Access(_SERVICES, ADMIN_SERVICE, config.tokens)
        self._told = set[str]()  # models whose health was ever told
        self._tracer = CallTracer(config.otlp_endpoint, config.trace_ratio) if config.otlp_endpoint else None
        clients = Clients(config.client_limits)
        calls = Calls(self.admission, self.metrics.calls, clients, self._tracer, config.max_log_lines)
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined] # absent from the stubs
        self._tasks = list[asyncio.Task[None]]()
        self._watch: BundleWatch | None = None
        self._grpc = aio.server(
            interceptors=[CallInterceptor(_SERVICES, access, calls, config.max_message_bytes)],
            options=_options(config),
        )
        servicer, router = TranslationServicer(self.models), LanguageRouter(self.models)
        pb_grpc.add_TranslationServiceServicer_to_server(servicer, self._grpc)
        google_pb_grpc.add_TranslationServiceServicer_to_server(GoogleServicer(router), self._grpc)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc)
        if config.reflection:
            named = (*_SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(named, self._grpc)
        self._admin = self._admin_server(access) if config.admin else None
        self.metrics.registry.register(ServerCollector(self._state))
        self.http = MetricsEndpoint(
            config.http,
            self.metrics.registry,
            is_alive=self._is_alive,
            is_ready=self._is_ready,
            access=access,
            tls=self._tls,
            # Without tokens, whoever reaches the port sees it: this machine, if even the models are open to it.
            profiles=access.needs_token or bool(config.admin and is_loopback_host(split_address(config.http)[0])),
            allowed_hosts=config.hosts_at(config.http),
        )
        self.web = self._web_server(config.web, servicer, router, access, calls) if config.web else None

    async def start(self) -> None:
        """Listen; calls are refused while the server loads.

        Raises:
            StartupError: The address is in use, or is not an address of this machine.
        """
        await self._tell_health()
        config = self._config
        if config.watch:
            self._watch = BundleWatch(config.models, self.lifecycle)
        self.port = self._add_port(self._grpc, "listen", config.listen)
        await self._grpc.start()
        if self._admin and config.admin:
            self.admin_port = self._add_port(self._admin, "admin", config.admin)
            await self._admin.start()
        self.http.start()
        if self.web:
            await self.web.start()

    async def serve(self) -> None:
        """Accept calls from now on, with the models in the registry.

        Raises:
            StartupError: The registry is empty, or lacks the default model.
        """
        self.models.check()
        self.admission.phase = Phase.SERVING
        await self._tell_health()
        self._tasks.append(asyncio.create_task(self._watch_health()))
        self._tasks.append(asyncio.create_task(watch_lag(lag_histogram(self.metrics.registry).observe)))
        if self._watch:
            self._tasks.append(asyncio.create_task(self._watch.run()))

    async def drain(self) -> bool:
        """Give notice, refuse new calls, wait for those in flight and return whether all of them ended in time."""
        self.admission.phase = Phase.LEAVING
        await self._tell_health()
        notice = min(_NOTICE_SECONDS, self._config.drain_timeout)
        await asyncio.sleep(notice)
        self.admission.phase = Phase.DRAINING
        return await self.admission.idle(self._config.drain_timeout - notice)

    async def stop(self) -> None:
        """Stop everything that still runs and free the ports."""
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        ports = (self._grpc, self._admin, self.web)
        await asyncio.gather(*(port.stop(_FLUSH_SECONDS) for port in ports if port))
        await asyncio.to_thread(self.http.stop)
        await self.lifecycle.stop()
        if self._tracer:
            await asyncio.to_thread(self._tracer.stop)

    def _resident_bytes(self) -> int:
        """Return the bytes of main memory of this process and of the workers' own."""
        return resident_bytes() + sum(model.snapshot().worker_bytes for model in self.models.models())

    def _web_server(
        self, address: str, servicer: TranslationServicer, router: LanguageRouter, access: Access, calls: Calls
    ) -> WebServer:
        # Imported here, since a server without the port need not wait for it.
        from serving.api.web.application import web_application
        from serving.api.web.endpoint import Endpoints
        from serving.api.web.server import WebServer

        application = web_application(
            Endpoints(access, calls, self._config.max_message_bytes),
            servicer,
            router,
            GlossaryStore(),
            needs_token=access.needs_token,
            is_ready=self._is_ready,
            allowed_hosts=self._config.hosts_at(address),
        )
        return WebServer(address, application, self._tls)

    def _admin_server(self, access: Access) -> aio.Server:
        """Make the server of administration, whose calls are neither limited nor held up by those of translation."""
        admission = Admission(_MOST_ADMIN_CALLS)
        admission.phase = Phase.SERVING
        limit = self._config.max_message_bytes
        server = aio.server(
            interceptors=[CallInterceptor({ADMIN_SERVICE}, access, Calls(admission, self.metrics.calls), limit)],
            options=_options(self._config),
        )
        servicer = AdminServicer(self.lifecycle, self.models, self.admission, self.metrics.registry)
        admin_pb_grpc.add_AdminServiceServicer_to_server(servicer, server)
        return server

    def _add_port(self, server: aio.Server, option: str, address: str) -> int:
        try:
            if self._tls is None:
                return server.add_insecure_port(address)
            return server.add_secure_port(address, self._tls.grpc_credentials())
        except RuntimeError as error:
            raise StartupError(f"cannot listen on {address}; give another --{option}") from error

    def _state(self) -> ServerState:
        models = self.models.models()
        return ServerState(
            calls_in_flight=self.admission.in_flight,
            is_serving=self.admission.phase is Phase.SERVING,
            is_draining=self.admission.phase in {Phase.LEAVING, Phase.DRAINING},
            devices=frozenset(model.device for model in models),
            engines={model.label: model.snapshot() for model in models},
        )

    def _is_alive(self) -> bool:
        return all(model.snapshot().healthy for model in self.models.models())

    def _is_ready(self) -> bool:
        return self.admission.phase is Phase.SERVING and self._is_alive()

    async def _watch_health(self) -> None:
        while True:
            await asyncio.sleep(_HEALTH_PERIOD)
            await self._tell_health()

    async def _tell_health(self) -> None:
        statuses = health_pb2.HealthCheckResponse
        status = statuses.SERVING if self._is_ready() else statuses.NOT_SERVING
        for service in ("", SERVICE):
            await self._health.set(service, status)
        await self._tell_health_of_models()

    async def _tell_health_of_models(self) -> None:
        """Tell the health of each model under its name and version, such as ``en-fr/4``, also when it is gone."""
        statuses = health_pb2.HealthCheckResponse
        serving = self.admission.phase is Phase.SERVING
        now = {model.label: serving and model.snapshot().healthy for model in self.models.models()}
        for label in self._told | now.keys():
            await self._health.set(label, statuses.SERVING if now.get(label) else statuses.NOT_SERVING)
        self._told |= now.keys()


def _options(config: ServerConfig) -> list[tuple[str, int]]:
    # A client notices nothing of these two: it is told to connect again, and its calls in flight end as they would.
    ages = {
        "grpc.max_connection_idle_ms": config.max_connection_idle,
        "grpc.max_connection_age_ms": config.max_connection_age,
    }
    return [
        ("grpc.max_receive_message_length", config.max_message_bytes),
        ("grpc.max_send_message_length", config.max_message_bytes),
        ("grpc.so_reuseport", 0),  # a second server on the same port is an error instead of taking half of the calls
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # A client that pings more often is disconnected, its calls with it; gRPC's default is five minutes. Common
        # clients ping every 10 s or less often.
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.max_concurrent_streams", _MOST_STREAMS),
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
        *((name, round(seconds * 1000)) for name, seconds in ages.items() if seconds),
    ]
