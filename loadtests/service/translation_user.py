"""A Locust user that calls Translate over gRPC and reports the outcome of each call to Locust's events."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, ClassVar

import gevent
import grpc
import grpc.experimental.gevent
from gevent.event import Event
from locust import User

from loadtests.service.calls import ABANDONED, Call
from loadtests.service.traffic import Ask
from serving.client.channel import channel_options
from serving.client.errors import from_failed_call
from serving.pb import translation_service_pb2 as pb

_METHOD = "/dragoman.v1.TranslationService/Translate"

# Locust has patched the standard library by now; gRPC's own threads must follow before the first channel is made.
grpc.experimental.gevent.init_gevent()


class CallFailed(Exception):
    """A failure, as Locust's table of failures shows it."""


class TranslationUser(User):
    """A caller with the shipped channel options: retries, reconnection and sizes are those of ``serving.client``.

    The users of a process share one channel, as the threads of an application do.
    """

    abstract = True
    host = "127.0.0.1:50051"
    _channels: ClassVar[dict[str, grpc.Channel]] = {}

    def __init__(self, environment: Any) -> None:
        """Create the channel of the process, which connects at the first call."""
        super().__init__(environment)
        address = self.host or ""
        if address not in self._channels:
            self._channels[address] = grpc.insecure_channel(address, options=channel_options(address))
        self._translate = self._channels[address].unary_unary(_METHOD, None, None)  # bytes to bytes
        self._deadline: float = environment.parsed_options.deadline
        self._retry: bool = environment.parsed_options.retry

    def send(self, ask: Ask, *, start: float, due: float) -> Event:
        """Send a call now and return at once; Locust's ``request`` event follows when the call ends.

        With ``--retry`` a call that the server refuses with a delay is sent again after it, as the same call.

        Args:
            ask: The call.
            start: When the run began, a ``time.perf_counter()`` value.
            due: When the call was to begin, seconds from the start of the run.

        Returns:
            An event that is set when the call has ended.
        """
        ended = Event()
        self._send(ask, start, due, time.perf_counter() - start - due, ended)
        return ended

    def _send(self, ask: Ask, start: float, due: float, late: float, ended: Event) -> None:
        # The deadline too counts from the due time: a late sender gives the server no longer than a punctual one.
        passed = time.perf_counter() - start - due
        future: Any = self._translate.future(ask.request, timeout=max(self._deadline - passed, 1e-3))
        future.add_done_callback(self._reporter(ask, start, due, late, ended))
        if ask.abandon_after is not None:
            gevent.spawn_later(max(ask.abandon_after - passed, 0.0), future.cancel)

    def _reporter(self, ask: Ask, start: float, due: float, late: float, ended: Event) -> Callable[[Any], None]:
        def report(future: Any) -> None:
            latency = time.perf_counter() - start - due
            code: grpc.StatusCode = future.code()
            delay = None if code is grpc.StatusCode.OK else from_failed_call(future, "", self.host or "").retry_delay
            if self._retry and delay is not None and latency + delay < self._deadline:
                gevent.spawn_later(delay, self._send, ask, start, due, late, ended)
                return
            call = Call(due, late, latency, code.name, ask.beam, retry_after=delay or 0.0)
            length, failure = 0, None
            if code is grpc.StatusCode.OK:
                length = len(future.result())
                response = pb.TranslateResponse.FromString(future.result())
                times = (response.queue_time, response.compute_time)
                queue, compute = (duration.ToNanoseconds() / 1e9 for duration in times)
                tokens = response.source_tokens, response.target_tokens
                call = Call(due, late, latency, code.name, ask.beam, queue, compute, *tokens)
            elif code is grpc.StatusCode.CANCELLED and ask.abandon_after is not None:
                call = call._replace(status=ABANDONED)
            else:
                failure = CallFailed(f"{code.name}: {future.details()}")
            self.environment.events.request.fire(
                request_type="gRPC",
                name="Translate" if call.status != ABANDONED else "Translate, abandoned",
                response_time=latency * 1e3,
                response_length=length,
                exception=failure,
                context={"call": call},
            )
            ended.set()

        return report
