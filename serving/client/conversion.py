"""Between the caller's dataclasses and the messages on the wire."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.duration_pb2 import Duration

from serving.client.messages import (
    AlignmentLink,
    FinishReason,
    Hypothesis,
    LongInput,
    Model,
    ModelDefaults,
    ModelLimits,
    Options,
    Result,
    Sampling,
    Token,
    Translation,
    Verification,
)
from serving.pb import translation_service_pb2 as pb

_LONG_INPUT = {
    LongInput.REJECT: pb.LONG_INPUT_POLICY_REJECT,
    LongInput.SPLIT: pb.LONG_INPUT_POLICY_SPLIT,
    LongInput.TRUNCATE: pb.LONG_INPUT_POLICY_TRUNCATE,
}
_FINISH_REASON = {
    pb.FINISH_REASON_EOS: FinishReason.EOS,
    pb.FINISH_REASON_LENGTH: FinishReason.LENGTH,
}


def to_request(texts: Sequence[str], options: Options, *, model: str, version: int) -> pb.TranslateRequest:
    """The request for some texts."""
    return pb.TranslateRequest(
        model=model,
        version=version,
        contents=texts,
        options=pb.DecodingOptions(
            beam_size=options.beam_size,
            n_best=options.n_best,
            length_penalty=options.length_penalty,
            min_length=options.min_length,
            max_length=options.max_length,
            no_repeat_ngram_size=options.no_repeat_ngram_size,
            repetition_penalty=options.repetition_penalty,
            target_prefixes=options.target_prefixes,
            sampling=_to_sampling(options.sampling),
        ),
        long_input_policy=_LONG_INPUT[options.long_input],
        include_tokens=options.tokens,
        include_alignments=options.alignments,
    )


def _to_sampling(sampling: Sampling | None) -> pb.SamplingOptions | None:
    if sampling is None:
        return None
    return pb.SamplingOptions(
        temperature=sampling.temperature, top_k=sampling.top_k, top_p=sampling.top_p, seed=sampling.seed
    )


def to_result(response: pb.TranslateResponse, request_id: str) -> Result:
    """The answer to a call."""
    return Result(
        translations=tuple(_to_translation(translation) for translation in response.translations),
        model=response.model,
        version=response.version,
        source_tokens=response.source_tokens,
        target_tokens=response.target_tokens,
        queue_seconds=_seconds(response.queue_time),
        compute_seconds=_seconds(response.compute_time),
        request_id=request_id,
    )


def _to_translation(message: pb.Translation) -> Translation:
    return Translation(
        hypotheses=tuple(_to_hypothesis(hypothesis) for hypothesis in message.hypotheses),
        source_truncated=message.source_truncated,
        parts=message.parts,
    )


def _to_hypothesis(message: pb.Hypothesis) -> Hypothesis:
    return Hypothesis(
        text=message.text,
        score=message.score,
        mean_log_prob=message.mean_log_prob,
        tokens=tuple(Token(token.text, token.log_prob) for token in message.tokens),
        alignment=tuple(
            AlignmentLink(link.source_start, link.source_end, link.target_start, link.target_end)
            for link in message.alignment
        ),
        finish_reason=_FINISH_REASON.get(message.finish_reason, FinishReason.UNKNOWN),
    )


def to_model(message: pb.Model) -> Model:
    """A model that is served."""
    limits, defaults = message.limits, message.defaults
    return Model(
        name=message.name,
        version=message.version,
        is_default=message.is_default,
        source_language=message.source_language,
        target_language=message.target_language,
        family=message.architecture.family,
        sizes=dict(message.architecture.sizes),
        limits=ModelLimits(
            max_source_tokens=limits.max_source_tokens,
            max_target_tokens=limits.max_target_tokens,
            max_beam_size=limits.max_beam_size,
            max_contents=limits.max_contents,
        ),
        defaults=ModelDefaults(beam_size=defaults.beam_size, length_penalty=defaults.length_penalty),
        precision=message.precision,
        device=message.device,
        verification=_to_verification(message.verification),
    )


def _to_verification(message: pb.Verification) -> Verification:
    return Verification(
        created=message.created,
        max_abs_log_prob_difference=message.max_abs_log_prob_difference,
        sentences=message.sentences,
        greedy_equal_ratio=message.greedy_equal_ratio,
        beam_equal_ratio=message.beam_equal_ratio,
        beam_size=message.beam_size,
        reference_bleu=message.reference_bleu if message.HasField("reference_bleu") else None,
        export_bleu=message.export_bleu if message.HasField("export_bleu") else None,
        bleu_signature=message.bleu_signature,
    )


def _seconds(duration: Duration) -> float:
    return duration.ToNanoseconds() / 1e9
