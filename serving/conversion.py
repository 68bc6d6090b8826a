"""Conversion between plain messages and those on the wire, in both directions.

Options, limits and figures bear the same names on either side, so they are converted by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from serving import messages, model_messages
from serving.messages import EarlyStopping, FinishReason, LongInput, MimeType, Options, QualityFlag, Segmentation
from serving.pb import translation_service_pb2 as pb
from serving.score_messages import PairScore, ScorePair, ScoreResult

_LONG_INPUT = {
    None: pb.LONG_INPUT_POLICY_UNSPECIFIED,
    LongInput.REJECT: pb.LONG_INPUT_POLICY_REJECT,
    LongInput.SPLIT: pb.LONG_INPUT_POLICY_SPLIT,
    LongInput.TRUNCATE: pb.LONG_INPUT_POLICY_TRUNCATE,
}
_SEGMENTATION = {
    None: pb.SEGMENTATION_UNSPECIFIED,
    Segmentation.SENTENCES: pb.SEGMENTATION_SENTENCES,
    Segmentation.NONE: pb.SEGMENTATION_NONE,
}
_EARLY_STOPPING = {
    None: pb.EARLY_STOPPING_UNSPECIFIED,
    EarlyStopping.ON: pb.EARLY_STOPPING_ON,
    EarlyStopping.BEST: pb.EARLY_STOPPING_BEST,
    EarlyStopping.HEURISTIC: pb.EARLY_STOPPING_HEURISTIC,
    EarlyStopping.NEVER: pb.EARLY_STOPPING_NEVER,
}
_QUALITY_FLAG = {
    QualityFlag.SPAN_APPENDED: pb.QUALITY_FLAG_SPAN_APPENDED,
    QualityFlag.NUMBERS_DIFFER: pb.QUALITY_FLAG_NUMBERS_DIFFER,
    QualityFlag.REPETITION: pb.QUALITY_FLAG_REPETITION,
    QualityFlag.COPIED_SOURCE: pb.QUALITY_FLAG_COPIED_SOURCE,
    QualityFlag.LENGTH_RATIO: pb.QUALITY_FLAG_LENGTH_RATIO,
    QualityFlag.RETRIED: pb.QUALITY_FLAG_RETRIED,
}
_FINISH_REASON = {
    FinishReason.EOS: pb.FINISH_REASON_EOS,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
}
_TO_MIME_TYPE = {mime_type.value: mime_type for mime_type in MimeType}
_TO_LONG_INPUT = {wire: policy for policy, wire in _LONG_INPUT.items()}
_TO_SEGMENTATION = {wire: segmentation for segmentation, wire in _SEGMENTATION.items()}
_TO_EARLY_STOPPING = {wire: rule for rule, wire in _EARLY_STOPPING.items()}
_TO_QUALITY_FLAG = {wire: flag for flag, wire in _QUALITY_FLAG.items()}
_TO_FINISH_REASON = {wire: reason for reason, wire in _FINISH_REASON.items()}


def to_request(
    texts: Sequence[str],
    options: Options,
    model: str,
    version: int,
    source_language: str = "",
    target_language: str = "",
) -> pb.TranslateRequest:
    """Build the request for some texts."""
    chosen = {name: getattr(options, name) for name in pb.DecodingOptions.DESCRIPTOR.fields_by_name}
    chosen["early_stopping"] = _EARLY_STOPPING[options.early_stopping]
    if options.sampling is not None:
        chosen["sampling"] = pb.SamplingOptions(**vars(options.sampling))
    return pb.TranslateRequest(
        model=model,
        version=version,
        source_language=source_language,
        target_language=target_language,
        contents=texts,
        options=pb.DecodingOptions(**chosen),
        segmentation=_SEGMENTATION[options.segmentation],
        long_input_policy=_LONG_INPUT[options.long_input],
        protect_spans=options.protect_spans,
        adapt_case=options.adapt_case,
        mime_type=options.mime_type,
        protected_terms=options.protected_terms,
        retry_repetition=options.retry_repetition,
        priority=options.priority,
        glossary=[pb.GlossaryEntry(source=entry.source, target=entry.target) for entry in options.glossary],
        include_tokens=options.tokens,
        include_alignments=options.alignments,
        include_attention=options.attention,
    )


def to_options(request: pb.TranslateRequest) -> Options:
    """Read the options of a request; an enum value or MIME type that is not known counts as unspecified."""
    chosen = _given(request.options)
    chosen["early_stopping"] = _TO_EARLY_STOPPING.get(request.options.early_stopping)
    if "sampling" in chosen:
        chosen["sampling"] = messages.Sampling(**_given(chosen["sampling"]))
    return Options(
        **chosen,
        segmentation=_TO_SEGMENTATION.get(request.segmentation),
        long_input=_TO_LONG_INPUT.get(request.long_input_policy),
        protect_spans=request.protect_spans if request.HasField("protect_spans") else True,
        adapt_case=request.adapt_case if request.HasField("adapt_case") else True,
        mime_type=_TO_MIME_TYPE.get(request.mime_type, MimeType.PLAIN),
        protected_terms=tuple(request.protected_terms),
        retry_repetition=request.retry_repetition if request.HasField("retry_repetition") else True,
        priority=request.priority,
        glossary=tuple(messages.GlossaryEntry(entry.source, entry.target) for entry in request.glossary),
        tokens=request.include_tokens,
        alignments=request.include_alignments,
        attention=request.include_attention,
    )


def to_response(result: messages.Result) -> pb.TranslateResponse:
    """Build the response that holds a result."""
    return pb.TranslateResponse(
        model=result.model,
        version=result.version,
        translations=[
            pb.Translation(
                hypotheses=[_from_hypothesis(hypothesis) for hypothesis in translation.hypotheses],
                source_truncated=translation.source_truncated,
                parts=translation.parts,
                flags=[_QUALITY_FLAG[flag] for flag in translation.flags],
                terms=[pb.TermUse(entry=term.entry, wanted=term.wanted, used=term.used) for term in translation.terms],
            )
            for translation in result.translations
        ],
        source_tokens=result.source_tokens,
        target_tokens=result.target_tokens,
        queue_time=_duration(result.queue_seconds),
        compute_time=_duration(result.compute_seconds),
    )


def to_stream_response(event: messages.TextDelta | messages.Result) -> pb.TranslateStreamResponse:
    """Build one message of a stream."""
    if isinstance(event, messages.Result):
        return pb.TranslateStreamResponse(answer=to_response(event))
    return pb.TranslateStreamResponse(delta=pb.TextDelta(index=event.index, text=event.text))


def to_stream_event(response: pb.TranslateStreamResponse, request_id: str) -> messages.TextDelta | messages.Result:
    """Read one message of a stream."""
    if response.HasField("answer"):
        return to_result(response.answer, request_id)
    return messages.TextDelta(response.delta.index, response.delta.text)


def to_result(response: pb.TranslateResponse, request_id: str) -> messages.Result:
    """Read the answer to a call."""
    return messages.Result(
        translations=tuple(
            messages.Translation(
                hypotheses=tuple(_to_hypothesis(hypothesis) for hypothesis in translation.hypotheses),
                source_truncated=translation.source_truncated,
                parts=translation.parts,
                flags=tuple(_TO_QUALITY_FLAG.get(flag, QualityFlag.UNKNOWN) for flag in translation.flags),
                terms=tuple(messages.TermUse(term.entry, term.wanted, term.used) for term in translation.terms),
            )
            for translation in response.translations
        ),
        model=response.model,
        version=response.version,
        source_tokens=response.source_tokens,
        target_tokens=response.target_tokens,
        queue_seconds=response.queue_time.ToNanoseconds() / 1e9,
        compute_seconds=response.compute_time.ToNanoseconds() / 1e9,
        request_id=request_id,
    )


def to_score_request(pairs: Sequence[ScorePair], options: Options, *, model: str, version: int) -> pb.ScoreRequest:
    """Build the request for the scores of some translations."""
    return pb.ScoreRequest(
        model=model,
        version=version,
        pairs=[
            pb.ScorePair(source=pair.source, target=pair.target, target_tokens=pair.tokens, unfinished=pair.unfinished)
            for pair in pairs
        ],
        beam_size=options.beam_size,
        length_penalty=options.length_penalty,
        include_tokens=options.tokens,
        protect_spans=options.protect_spans,
        adapt_case=options.adapt_case,
        priority=options.priority,
    )


def to_pairs(request: pb.ScoreRequest) -> tuple[ScorePair, ...]:
    """Read what is to be scored."""
    return tuple(
        ScorePair(pair.source, pair.target, tuple(pair.target_tokens), pair.unfinished) for pair in request.pairs
    )


def to_score_options(request: pb.ScoreRequest) -> Options:
    """Read the options of a request for scores."""
    return Options(
        beam_size=request.beam_size if request.HasField("beam_size") else None,
        length_penalty=request.length_penalty if request.HasField("length_penalty") else None,
        protect_spans=request.protect_spans if request.HasField("protect_spans") else True,
        adapt_case=request.adapt_case if request.HasField("adapt_case") else True,
        priority=request.priority,
        tokens=request.include_tokens,
    )


def to_score_response(result: ScoreResult) -> pb.ScoreResponse:
    """Build the response that holds scores."""
    return pb.ScoreResponse(
        model=result.model,
        version=result.version,
        scores=[
            pb.Score(
                score=score.score,
                mean_log_prob=score.mean_log_prob,
                tokens=[pb.Token(text=token.text, log_prob=token.log_prob) for token in score.tokens],
            )
            for score in result.scores
        ],
        source_tokens=result.source_tokens,
        target_tokens=result.target_tokens,
        queue_time=_duration(result.queue_seconds),
        compute_time=_duration(result.compute_seconds),
    )


def to_score_result(response: pb.ScoreResponse, request_id: str) -> ScoreResult:
    """Read the answer to a call for scores."""
    return ScoreResult(
        scores=tuple(
            PairScore(
                score.score,
                score.mean_log_prob,
                tuple(messages.Token(token.text, token.log_prob) for token in score.tokens),
            )
            for score in response.scores
        ),
        model=response.model,
        version=response.version,
        source_tokens=response.source_tokens,
        target_tokens=response.target_tokens,
        queue_seconds=response.queue_time.ToNanoseconds() / 1e9,
        compute_seconds=response.compute_time.ToNanoseconds() / 1e9,
        request_id=request_id,
    )


def from_model(model: model_messages.Model) -> pb.Model:
    """Build the description of a model."""
    values = asdict(model)
    values["defaults"]["early_stopping"] = _EARLY_STOPPING[model.defaults.early_stopping]
    architecture = pb.Architecture(family=values.pop("family"), sizes=values.pop("sizes"))
    return pb.Model(architecture=architecture, **values)


def to_model(message: pb.Model) -> model_messages.Model:
    """Read the description of a model."""
    values = _values(message)
    architecture, defaults = values.pop("architecture"), _values(message.defaults)
    # A server that does not say it, or says what is newer than this client, is taken to have the ordinary rule.
    defaults["early_stopping"] = _TO_EARLY_STOPPING.get(message.defaults.early_stopping) or EarlyStopping.ON
    return model_messages.Model(
        **values
        | {
            "family": architecture.family,
            "sizes": dict(architecture.sizes),
            "source_languages": tuple(message.source_languages),
            "target_languages": tuple(message.target_languages),
            "limits": model_messages.ModelLimits(**_values(message.limits)),
            "defaults": model_messages.ModelDefaults(**defaults),
            "verification": model_messages.Verification(**_values(message.verification)),
        }
    )


def _from_hypothesis(hypothesis: messages.Hypothesis) -> pb.Hypothesis:
    return pb.Hypothesis(
        text=hypothesis.text,
        score=hypothesis.score,
        mean_log_prob=hypothesis.mean_log_prob,
        tokens=[pb.Token(text=token.text, log_prob=token.log_prob) for token in hypothesis.tokens],
        alignment=[pb.AlignmentLink(**vars(link)) for link in hypothesis.alignment],
        finish_reason=_FINISH_REASON[hypothesis.finish_reason],
        attention=[
            pb.AttentionMatrix(source=_from_pieces(one.source), target=_from_pieces(one.target), weights=one.weights)
            for one in hypothesis.attention
        ],
    )


def _from_pieces(pieces: Sequence[messages.Piece]) -> list[pb.Piece]:
    return [pb.Piece(text=piece.text, start=piece.start, end=piece.end) for piece in pieces]


def _to_hypothesis(message: pb.Hypothesis) -> messages.Hypothesis:
    return messages.Hypothesis(
        text=message.text,
        score=message.score,
        mean_log_prob=message.mean_log_prob,
        tokens=tuple(messages.Token(token.text, token.log_prob) for token in message.tokens),
        alignment=tuple(
            messages.AlignmentLink(link.source_start, link.source_end, link.target_start, link.target_end)
            for link in message.alignment
        ),
        finish_reason=_TO_FINISH_REASON.get(message.finish_reason, FinishReason.UNKNOWN),
        attention=tuple(
            messages.AttentionMatrix(_to_pieces(one.source), _to_pieces(one.target), tuple(one.weights))
            for one in message.attention
        ),
    )


def _to_pieces(pieces: Sequence[pb.Piece]) -> tuple[messages.Piece, ...]:
    return tuple(messages.Piece(piece.text, piece.start, piece.end) for piece in pieces)


def _given(message: Message) -> dict[str, Any]:
    """Return the fields that were given, by name; 0 in a field without presence is the same as leaving it out."""
    return {
        descriptor.name: tuple(value) if descriptor.is_repeated else value for descriptor, value in message.ListFields()
    }


def _values(message: Message) -> dict[str, Any]:
    """Return all fields by name, except optional ones that are unset."""
    return {
        descriptor.name: getattr(message, descriptor.name)
        for descriptor in message.DESCRIPTOR.fields
        if not descriptor.has_presence or message.HasField(descriptor.name)
    }


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration
