"""Protobuf messages to what the engine understands, and back."""

from __future__ import annotations

import json
import secrets

from google.protobuf.duration_pb2 import Duration

from serving.api.models import ServedModel
from serving.bundle.manifest import Verification
from serving.decoding.hypothesis import FinishReason
from serving.decoding.options import Sampling
from serving.engine.translation import (
    LongInputPolicy,
    Translation,
    TranslationHypothesis,
    TranslationOptions,
    TranslationRequest,
    TranslationResult,
)
from serving.errors import FieldViolation
from serving.pb import translation_service_pb2 as pb

_LONG_INPUT = {
    pb.LONG_INPUT_POLICY_UNSPECIFIED: LongInputPolicy.REJECT,
    pb.LONG_INPUT_POLICY_REJECT: LongInputPolicy.REJECT,
    pb.LONG_INPUT_POLICY_SPLIT: LongInputPolicy.SPLIT,
    pb.LONG_INPUT_POLICY_TRUNCATE: LongInputPolicy.TRUNCATE,
}
_FINISH_REASON = {
    FinishReason.EOS: pb.FINISH_REASON_EOS,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
}


def request_violations(request: pb.TranslateRequest, model: ServedModel) -> list[FieldViolation]:
    """Checks what only the transport knows of; options and texts are the translator's to check."""
    violations = []
    count = len(request.contents)
    if not count:
        violations.append(FieldViolation("contents", "is empty; give at least one text"))
    elif count > model.max_contents:
        violations.append(
            FieldViolation(
                "contents", f"has {count} texts, at most {model.max_contents} are allowed; send several calls"
            )
        )
    if request.long_input_policy not in _LONG_INPUT:
        known = ", ".join(pb.LongInputPolicy.keys())
        violations.append(
            FieldViolation("long_input_policy", f"is {request.long_input_policy}, which is none of {known}")
        )
    return violations


def to_domain(request: pb.TranslateRequest, *, deadline: float | None, request_id: str) -> TranslationRequest:
    """Turns a request into the engine's; ``deadline`` is a ``time.monotonic()`` value."""
    options = request.options
    return TranslationRequest(
        texts=tuple(request.contents),
        options=TranslationOptions(
            beam_size=options.beam_size if options.HasField("beam_size") else None,
            n_best=options.n_best or 1,
            length_penalty=options.length_penalty if options.HasField("length_penalty") else None,
            min_length=options.min_length,
            max_length=options.max_length if options.HasField("max_length") else None,
            no_repeat_ngram_size=options.no_repeat_ngram_size,
            repetition_penalty=options.repetition_penalty if options.HasField("repetition_penalty") else 1.0,
            prefixes=tuple(options.target_prefixes),
            sampling=_sampling(options.sampling) if options.HasField("sampling") else None,
            long_input=_LONG_INPUT.get(request.long_input_policy, LongInputPolicy.REJECT),
            alignments=request.include_alignments,
        ),
        deadline=deadline,
        request_id=request_id,
    )


def to_response(result: TranslationResult, model: ServedModel, request: pb.TranslateRequest) -> pb.TranslateResponse:
    """Turns the engine's answer into a response, with as much detail as the request asks for."""
    return pb.TranslateResponse(
        model=model.manifest.name,
        version=model.manifest.version,
        translations=[_translation(translation, request) for translation in result.translations],
        source_tokens=result.source_tokens,
        target_tokens=result.target_tokens,
        queue_time=_duration(result.queue_seconds),
        compute_time=_duration(result.compute_seconds),
    )


def to_model(model: ServedModel, *, is_default: bool) -> pb.Model:
    """Describes a served model."""
    manifest = model.manifest
    sizes = {name: json.dumps(value) for name, value in manifest.architecture.sizes.items()}
    return pb.Model(
        name=manifest.name,
        version=manifest.version,
        is_default=is_default,
        source_language=manifest.source_language,
        target_language=manifest.target_language,
        architecture=pb.Architecture(family=manifest.architecture.family, sizes=sizes),
        limits=pb.ModelLimits(
            max_source_tokens=manifest.limits.max_source_tokens,
            max_target_tokens=manifest.limits.max_target_tokens,
            max_beam_size=model.limits.max_beam_size,
            max_contents=model.max_contents,
        ),
        defaults=pb.ModelDefaults(
            beam_size=manifest.defaults.beam_size, length_penalty=manifest.defaults.length_penalty
        ),
        precision=model.precision,
        device=model.device,
        verification=_verification(manifest.precisions[model.precision].verification),
    )


def _sampling(options: pb.SamplingOptions) -> Sampling:
    return Sampling(
        temperature=options.temperature if options.HasField("temperature") else 1.0,
        top_k=options.top_k,
        top_p=options.top_p if options.HasField("top_p") else 1.0,
        seed=options.seed if options.HasField("seed") else secrets.randbits(63),
    )


def _translation(translation: Translation, request: pb.TranslateRequest) -> pb.Translation:
    return pb.Translation(
        hypotheses=[_hypothesis(hypothesis, request) for hypothesis in translation.hypotheses],
        source_truncated=translation.source_truncated,
        parts=translation.parts,
    )


def _hypothesis(hypothesis: TranslationHypothesis, request: pb.TranslateRequest) -> pb.Hypothesis:
    message = pb.Hypothesis(
        text=hypothesis.text,
        score=hypothesis.score,
        mean_log_prob=hypothesis.mean_log_prob,
        finish_reason=_FINISH_REASON[hypothesis.finish_reason],
    )
    if request.include_tokens:
        message.tokens.extend(pb.Token(text=token.text, log_prob=token.log_prob) for token in hypothesis.tokens)
    if request.include_alignments:
        message.alignment.extend(
            pb.AlignmentLink(
                source_start=link.source_start,
                source_end=link.source_end,
                target_start=link.target_start,
                target_end=link.target_end,
            )
            for link in hypothesis.alignment
        )
    return message


def _verification(record: Verification) -> pb.Verification:
    return pb.Verification(
        created=record.created,
        max_abs_log_prob_difference=record.max_abs_log_prob_difference,
        sentences=record.sentences,
        greedy_equal_ratio=record.greedy_equal_ratio,
        beam_equal_ratio=record.beam_equal_ratio,
        beam_size=record.beam_size,
        reference_bleu=record.reference_bleu,
        export_bleu=record.export_bleu,
        bleu_signature=record.bleu_signature or "",
    )


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration
