"""A real gRPC server whose answers a test scripts, for what the real service cannot be made to do on demand."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from google.rpc import status_pb2

from serving.pb import translation_service_pb2 as pb
from serving.pb.translation_service_pb2_grpc import TranslationServiceServicer, add_TranslationServiceServicer_to_server

Answer = Callable[[pb.TranslateRequest, grpc.ServicerContext], pb.TranslateResponse]


def upper(request: pb.TranslateRequest, context: grpc.ServicerContext) -> pb.TranslateResponse:
    """The text in capitals, n-best times, with everything that was asked for."""
    del context
    return pb.TranslateResponse(
        model=request.model or "en-fr",
        version=request.version or 1,
        translations=[
            pb.Translation(
                hypotheses=[
                    pb.Hypothesis(
                        text=text.upper() + "'" * rank,
                        score=-0.5 - rank,
                        mean_log_prob=-0.25,
                        tokens=[pb.Token(text="T", log_prob=-0.125)] if request.include_tokens else [],
                        alignment=(
                            [pb.AlignmentLink(source_start=0, source_end=1, target_start=0, target_end=2)]
                            if request.include_alignments
                            else []
                        ),
                        finish_reason=pb.FINISH_REASON_EOS,
                    )
                    for rank in range((request.options.n_best or 1) if text.strip() else 1)
                ],
                parts=1 if text.strip() else 0,
            )
            for text in request.contents
        ],
        source_tokens=3,
        target_tokens=2,
    )


def fail(
    context: grpc.ServicerContext,
    code: grpc.StatusCode,
    message: str,
    *details: Message,
    pushback_ms: int | None = None,
) -> pb.TranslateResponse:
    """Ends a call with a rich status."""
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in details:
        packed = Any()
        packed.Pack(detail)
        status.details.append(packed)
    metadata: list[tuple[str, str | bytes]] = [("grpc-status-details-bin", status.SerializeToString())]
    if pushback_ms is not None:
        metadata.append(("grpc-retry-pushback-ms", str(pushback_ms)))
    context.set_trailing_metadata(tuple(metadata))
    context.abort(code, message)
    raise AssertionError("abort returns never")


@dataclass
class ScriptedService(TranslationServiceServicer):
    """Answers with ``answer`` and remembers every call."""

    answer: Answer = upper
    address: str = ""
    requests: list[pb.TranslateRequest] = field(default_factory=list)
    request_ids: list[str] = field(default_factory=list)
    most_at_once: int = 0
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def Translate(self, request: pb.TranslateRequest, context: grpc.ServicerContext) -> pb.TranslateResponse:
        with self._lock:
            self.requests.append(request)
            self.request_ids.append(str(dict(context.invocation_metadata()).get("x-request-id")))
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            return self.answer(request, context)
        finally:
            with self._lock:
                self._now -= 1

    def TranslateStream(
        self, request: pb.TranslateStreamRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.TranslateStreamResponse]:
        answer = self.Translate(request.translate, context)
        for index, translation in enumerate(answer.translations):
            for word in re.findall(r"\s*\S+", translation.hypotheses[0].text):
                yield pb.TranslateStreamResponse(delta=pb.TextDelta(index=index, text=word))
        yield pb.TranslateStreamResponse(answer=answer)

    def Score(self, request: pb.ScoreRequest, context: grpc.ServicerContext) -> pb.ScoreResponse:
        return pb.ScoreResponse(
            model="en-fr", version=1, scores=[pb.Score(score=-len(p.target)) for p in request.pairs]
        )

    def ListModels(self, request: pb.ListModelsRequest, context: grpc.ServicerContext) -> pb.ListModelsResponse:
        return pb.ListModelsResponse(models=[MODEL])

    def GetModel(self, request: pb.GetModelRequest, context: grpc.ServicerContext) -> pb.GetModelResponse:
        if request.name not in ("", MODEL.name):
            context.abort(grpc.StatusCode.NOT_FOUND, f"no model {request.name!r}; served: en-fr/1")
        return pb.GetModelResponse(model=MODEL)


MODEL = pb.Model(
    name="en-fr",
    version=1,
    is_default=True,
    source_language="en",
    target_language="fr",
    architecture=pb.Architecture(family="transformer", sizes={"layers": "6"}),
    limits=pb.ModelLimits(max_source_tokens=256, max_target_tokens=250, max_beam_size=8, max_contents=64),
    defaults=pb.ModelDefaults(beam_size=4, length_penalty=1.0),
    precision="fp32",
    device="cpu",
    verification=pb.Verification(created="2026-11-23", sentences=500, beam_size=4, export_bleu=40.5),
)


@contextmanager
def running(service: ScriptedService) -> Iterator[ScriptedService]:
    """The service on a free port."""
    server = grpc.server(ThreadPoolExecutor(64))
    add_TranslationServiceServicer_to_server(service, server)
    service.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield service
    finally:
        server.stop(None).wait()
