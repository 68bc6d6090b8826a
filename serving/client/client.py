"""The two clients: the same methods, blocking and for asyncio."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, cast

import grpc
import grpc.aio

from serving.client.channel import channel_options
from serving.client.credentials import authorization
from serving.client.errors import FailedCall, from_failed_call
from serving.conversion import to_model, to_request, to_result, to_score_request, to_score_result, to_stream_event
from serving.messages import Options, Result, TextDelta
from serving.model_messages import Model
from serving.pb import translation_service_pb2 as pb
from serving.pb.translation_service_pb2_grpc import TranslationServiceStub
from serving.score_messages import ScorePair, ScoreResult

if TYPE_CHECKING:
    from serving.pb.translation_service_pb2_grpc import TranslationServiceAsyncStub

DEFAULT_DEADLINE = 30.0  # seconds

_REQUEST_ID = "x-request-id"
_DEFAULTS = Options()

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class _Client:
    _grpc: ClassVar[Any]  # the module that opens channels: grpc, or grpc.aio for asyncio

    def __init__(
        self,
        server: str,
        *,
        balance: bool = False,
        deadline: float = DEFAULT_DEADLINE,
        credentials: grpc.ChannelCredentials | None = None,
        token: str | None = None,
        token_in_clear: bool = False,
    ) -> None:
        """Prepare the connection, which the first call makes.

        Args:
            server: ``HOST:PORT`` of a server or of a proxy before several.
            balance: The host's addresses are replicas, not a proxy: calls take turns over those that are healthy.
            deadline: Seconds a call may take, retries included, unless it says otherwise.
            credentials: For TLS; without them the connection is in the clear.
            token: Bearer token that every call carries.
            token_in_clear: Send the token to another machine even without TLS, where others may read it.

        Raises:
            ValueError: The token would cross a network in the clear, or cannot be one.
        """
        encrypted = credentials is not None
        self._authorization = authorization(token, server, encrypted=encrypted, in_clear=token_in_clear)
        self._deadline = deadline
        self._server = server
        options = channel_options(server, balance=balance)
        if credentials is None:
            self._channel = self._grpc.insecure_channel(server, options=options)
        else:
            self._channel = self._grpc.secure_channel(server, credentials, options=options)
        self._stub = TranslationServiceStub(self._channel)

    def _metadata(self, request_id: str) -> tuple[tuple[str, str], ...]:
        return ((_REQUEST_ID, request_id), *self._authorization)


class TranslationClient(_Client):
    """A blocking client; threads may share one.

    An UNAVAILABLE call is tried up to five times within its deadline; every other failure is raised at once.
    """

    _grpc: ClassVar[Any] = grpc
    _channel: grpc.Channel
    _stub: TranslationServiceStub

    def translate(
        self,
        texts: Sequence[str],
        options: Options = _DEFAULTS,
        *,
        model: str = "",
        version: int = 0,
        source_language: str = "",
        target_language: str = "",
        deadline: float | None = None,
        request_id: str | None = None,
    ) -> Result:
        """Translate texts; either all of them are answered or the call fails.

        Args:
            texts: In the model's source language; a blank one gets a blank translation.
            options: How to translate.
            model: Name of the model; empty means the one for the languages, or the server's default.
            version: Version of the model; 0 means the newest.
            source_language: BCP-47 tag; may be empty where the model reads one language.
            target_language: BCP-47 tag; may be empty where the model writes one language.
            deadline: Seconds the call may take.
            request_id: Name of the call in the server's log; without it the client makes one.

        Raises:
            CallError: The call failed; its class says how.
        """
        request = to_request(_checked(texts), options, model, version, source_language, target_language)
        request_id = request_id or new_request_id()
        return to_result(self._call(self._stub.Translate, request, deadline, request_id), request_id)

    def translate_stream(
        self,
        texts: Sequence[str],
        options: Options = _DEFAULTS,
        *,
        model: str = "",
        version: int = 0,
        source_language: str = "",
        target_language: str = "",
        deadline: float | None = None,
        request_id: str | None = None,
    ) -> Generator[TextDelta | Result]:
        """Translate texts and yield what is certain of the translations as they grow, then the result.

        The deltas of one text, put together, are the text of its best hypothesis. Closing the iterator cancels the
        call. The arguments are those of :meth:`translate`.

        Raises:
            CallError: The call failed, maybe after some deltas; its class says how.
        """
        request = to_request(_checked(texts), options, model, version, source_language, target_language)
        return self._stream(pb.TranslateStreamRequest(translate=request), deadline, request_id or new_request_id())

    def _stream(
        self, request: pb.TranslateStreamRequest, deadline: float | None, request_id: str
    ) -> Generator[TextDelta | Result]:
        timeout = _timeout(deadline, self._deadline)
        call = self._stub.TranslateStream(request, timeout=timeout, metadata=self._metadata(request_id))
        try:
            for response in call:
                yield to_stream_event(response, request_id)
        except grpc.RpcError as failure:
            raise from_failed_call(cast(FailedCall, failure), request_id, self._server) from failure
        finally:
            call.cancel()  # type: ignore[no-untyped-call] # absent from the stubs

    def score(
        self,
        pairs: Sequence[ScorePair],
        *,
        beam_size: int | None = None,
        length_penalty: float | None = None,
        tokens: bool = False,
        protect_spans: bool = True,
        adapt_case: bool = True,
        priority: int = 0,
        model: str = "",
        version: int = 0,
        deadline: float | None = None,
        request_id: str | None = None,
    ) -> ScoreResult:
        """Return how probable the model finds given translations; either all are scored or the call fails.

        Args:
            pairs: Texts and their translations.
            beam_size: Of the search that is to have found the translations; None is the model's default.
            length_penalty: alpha in score = sum of log p / length ** alpha; None is the model's.
            tokens: Return the tokens with their log-probabilities.
            protect_spans: As in ``Options``.
            adapt_case: As in ``Options``.
            priority: As in ``Options``.
            model: Name of the model; empty means the server's default.
            version: Version of the model; 0 means the newest.
            deadline: Seconds the call may take.
            request_id: Name of the call in the server's log; without it the client makes one.

        Raises:
            CallError: The call failed; its class says how.
        """
        options = Options(
            beam_size=beam_size,
            length_penalty=length_penalty,
            tokens=tokens,
            protect_spans=protect_spans,
            adapt_case=adapt_case,
            priority=priority,
        )
        request, request_id = (
            to_score_request(pairs, options, model=model, version=version),
            request_id or new_request_id(),
        )
        return to_score_result(self._call(self._stub.Score, request, deadline, request_id), request_id)

    def list_models(self, *, deadline: float | None = None) -> tuple[Model, ...]:
        """Return the models that are served, by name, the newest version first.

        Raises:
            CallError: The call failed; its class says how.
        """
        response = self._call(self._stub.ListModels, pb.ListModelsRequest(), deadline)
        return tuple(to_model(model) for model in response.models)

    def get_model(self, name: str = "", version: int = 0, *, deadline: float | None = None) -> Model:
        """Return one model; without a name the default one, without a version the newest.

        Raises:
            CallError: The call failed; its class says how.
        """
        request = pb.GetModelRequest(name=name, version=version)
        return to_model(self._call(self._stub.GetModel, request, deadline).model)

    def close(self) -> None:
        """Close the connection; calls in flight end with CallCancelled."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _call(
        self,
        method: Callable[..., _Response],
        request: object,
        deadline: float | None,
        request_id: str | None = None,
    ) -> _Response:
        request_id = request_id or new_request_id()
        try:
            return method(request, timeout=_timeout(deadline, self._deadline), metadata=self._metadata(request_id))
        except grpc.RpcError as failure:
            raise from_failed_call(cast(FailedCall, failure), request_id, self._server) from failure


class AsyncTranslationClient(_Client):
    """A client for asyncio; make it inside a running event loop. Cancelling a task cancels its call on the server.

    An UNAVAILABLE call is tried up to five times within its deadline; every other failure is raised at once.
    """

    _grpc: ClassVar[Any] = grpc.aio
    _channel: grpc.aio.Channel
    _stub: TranslationServiceAsyncStub

    async def translate(
        self,
        texts: Sequence[str],
        options: Options = _DEFAULTS,
        *,
        model: str = "",
        version: int = 0,
        source_language: str = "",
        target_language: str = "",
        deadline: float | None = None,
        request_id: str | None = None,
    ) -> Result:
        """Translate texts; see :meth:`TranslationClient.translate`.

        Raises:
            CallError: The call failed; its class says how.
        """
        request = to_request(_checked(texts), options, model, version, source_language, target_language)
        request_id = request_id or new_request_id()
        return to_result(await self._call(self._stub.Translate, request, deadline, request_id), request_id)

    async def translate_stream(
        self,
        texts: Sequence[str],
        options: Options = _DEFAULTS,
        *,
        model: str = "",
        version: int = 0,
        source_language: str = "",
        target_language: str = "",
        deadline: float | None = None,
        request_id: str | None = None,
    ) -> AsyncGenerator[TextDelta | Result]:
        """Translate texts and yield what is certain as it grows; see :meth:`TranslationClient.translate_stream`.

        Raises:
            CallError: The call failed, maybe after some deltas; its class says how.
        """
        request = to_request(_checked(texts), options, model, version, source_language, target_language)
        asked, request_id = pb.TranslateStreamRequest(translate=request), request_id or new_request_id()
        timeout = _timeout(deadline, self._deadline)
        call = self._stub.TranslateStream(asked, timeout=timeout, metadata=self._metadata(request_id))
        try:
            async for response in call:
                yield to_stream_event(response, request_id)
        except grpc.aio.AioRpcError as failure:
            raise from_failed_call(cast(FailedCall, failure), request_id, self._server) from failure
        finally:
            call.cancel()

    async def score(
        self,
        pairs: Sequence[ScorePair],
        *,
        beam_size: int | None = None,
        length_penalty: float | None = None,
        tokens: bool = False,
        protect_spans: bool = True,
        adapt_case: bool = True,
        priority: int = 0,
        model: str = "",
        version: int = 0,
        deadline: float | None = None,
        request_id: str | None = None,
    ) -> ScoreResult:
        """Return how probable the model finds given translations; see :meth:`TranslationClient.score`.

        Raises:
            CallError: The call failed; its class says how.
        """
        options = Options(
            beam_size=beam_size,
            length_penalty=length_penalty,
            tokens=tokens,
            protect_spans=protect_spans,
            adapt_case=adapt_case,
            priority=priority,
        )
        request, request_id = (
            to_score_request(pairs, options, model=model, version=version),
            request_id or new_request_id(),
        )
        return to_score_result(await self._call(self._stub.Score, request, deadline, request_id), request_id)

    async def list_models(self, *, deadline: float | None = None) -> tuple[Model, ...]:
        """Return the models that are served, by name, the newest version first.

        Raises:
            CallError: The call failed; its class says how.
        """
        response = await self._call(self._stub.ListModels, pb.ListModelsRequest(), deadline)
        return tuple(to_model(model) for model in response.models)

    async def get_model(self, name: str = "", version: int = 0, *, deadline: float | None = None) -> Model:
        """Return one model; without a name the default one, without a version the newest.

        Raises:
            CallError: The call failed; its class says how.
        """
        request = pb.GetModelRequest(name=name, version=version)
        return to_model((await self._call(self._stub.GetModel, request, deadline)).model)

    async def close(self) -> None:
        """Close the connection; calls in flight are cancelled."""
        await self._channel.close(grace=None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[_Request, _Response],
        request: _Request,
        deadline: float | None,
        request_id: str | None = None,
    ) -> _Response:
        request_id = request_id or new_request_id()
        timeout = _timeout(deadline, self._deadline)
        try:
            return await method(request, timeout=timeout, metadata=self._metadata(request_id))
        except grpc.aio.AioRpcError as failure:
            raise from_failed_call(cast(FailedCall, failure), request_id, self._server) from failure


def new_request_id() -> str:
    """Return an id that no other call has."""
    return uuid.uuid4().hex


def _timeout(deadline: float | None, default: float) -> float:
    return default if deadline is None else deadline


def _checked(texts: Sequence[str]) -> Sequence[str]:
    if isinstance(texts, str):  # a str is a sequence of str: each character would be translated alone
        raise TypeError("texts is a single str; pass a list, even of one text")
    return texts
