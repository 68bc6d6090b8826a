"""The RPCs of the proto, answered by batches of CTranslate2."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from grpc import aio

from loadtests.peer.batcher import DynamicBatcher, Full, Timed
from loadtests.peer.model import PeerModel, Search, Translated
from serving.pb import translation_service_pb2 as pb
from serving.pb.translation_service_pb2_grpc import TranslationServiceServicer

Batcher = DynamicBatcher[Search, str, Translated]
Context = aio.ServicerContext[Any, Any]

_BLANK = pb.Translation(hypotheses=[pb.Hypothesis(finish_reason=pb.FINISH_REASON_EOS)])


class PeerServicer(TranslationServiceServicer):
    """Servicer with the options beam_size, n_best and length_penalty; others are refused."""

    def __init__(self, model: PeerModel, batcher: Batcher) -> None:
        """Answer with a model through a batcher."""
        self._manifest = model.manifest
        self._batcher = batcher
        self._described = pb.Model(
            name=self._manifest.name,
            version=self._manifest.version,
            is_default=True,
            source_language=self._manifest.source_language,
            target_language=self._manifest.target_language,
            precision=model.compute_type,
            device="cpu",
        )

    async def Translate(self, request: pb.TranslateRequest, context: Context) -> pb.TranslateResponse:
        """Translate texts; each joins a batch of its own."""
        options, defaults = request.options, self._manifest.defaults
        if unknown := {field.name for field, _ in options.ListFields()} - {"beam_size", "n_best", "length_penalty"}:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"the peer has no {', '.join(sorted(unknown))}")
        search = Search(
            beam_size=options.beam_size if options.HasField("beam_size") else defaults.beam_size,
            n_best=options.n_best or 1,
            length_penalty=options.length_penalty if options.HasField("length_penalty") else defaults.length_penalty,
        )
        try:
            answers = await asyncio.gather(*(self._answer(search, text) for text in request.contents))
        except Full as error:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
        there = [timed for timed in answers if timed]
        return pb.TranslateResponse(
            model=self._manifest.name,
            version=self._manifest.version,
            translations=[timed.answer.translation if timed else _BLANK for timed in answers],
            source_tokens=sum(timed.answer.source_tokens for timed in there),
            target_tokens=sum(timed.answer.target_tokens for timed in there),
            queue_time=_duration(max((timed.queue for timed in there), default=0.0)),
            compute_time=_duration(max((timed.compute for timed in there), default=0.0)),
        )

    async def TranslateStream(
        self, request: pb.TranslateStreamRequest, context: Context
    ) -> AsyncIterator[pb.TranslateStreamResponse]:
        """Translate texts; the answer is the only message."""
        yield pb.TranslateStreamResponse(answer=await self.Translate(request.translate, context))

    async def Score(self, request: pb.ScoreRequest, context: Context) -> pb.ScoreResponse:
        """Refuse; the comparison needs no scores."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "the peer does not score")
        raise AssertionError("abort returns never")

    async def _answer(self, search: Search, text: str) -> Timed[Translated] | None:
        """Translate a text; None if it is blank."""
        return await self._batcher.submit(search, text, len(text)) if text.strip() else None

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        """Return the only model."""
        return pb.ListModelsResponse(models=[self._described])

    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.GetModelResponse:
        """Return the only model, whatever the name."""
        return pb.GetModelResponse(model=self._described)


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration
