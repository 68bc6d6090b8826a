"""Client of the translation service: one class for blocking code, one for asyncio.

    from serving.client import Options, TranslationClient

    with TranslationClient("127.0.0.1:50051") as client:
        result = client.translate(["I drink milk."], Options(beam_size=4))
        print(result.translations[0].text)

It needs grpc and the generated messages, and nothing of the server: neither numpy nor ONNX Runtime.
"""

from serving.client.client import AsyncTranslationClient, TranslationClient
from serving.client.errors import (
    AccessDenied,
    CallCancelled,
    CallError,
    DeadlinePassed,
    FieldViolation,
    InvalidRequest,
    ModelNotFound,
    ServerFault,
    ServerOverloaded,
    ServerUnavailable,
)
from serving.messages import (
    AlignmentLink,
    AttentionMatrix,
    EarlyStopping,
    FinishReason,
    GlossaryEntry,
    Hypothesis,
    LongInput,
    MimeType,
    Options,
    Piece,
    QualityFlag,
    Result,
    Sampling,
    Segmentation,
    TermUse,
    TextDelta,
    Token,
    Translation,
)
from serving.model_messages import Model, ModelDefaults, ModelLimits, Verification
from serving.score_messages import PairScore, ScorePair, ScoreResult

__all__ = [
    "AccessDenied",
    "AlignmentLink",
    "AsyncTranslationClient",
    "AttentionMatrix",
    "CallCancelled",
    "CallError",
    "DeadlinePassed",
    "EarlyStopping",
    "FieldViolation",
    "FinishReason",
    "GlossaryEntry",
    "Hypothesis",
    "InvalidRequest",
    "LongInput",
    "MimeType",
    "Model",
    "ModelDefaults",
    "ModelLimits",
    "ModelNotFound",
    "Options",
    "PairScore",
    "Piece",
    "QualityFlag",
    "Result",
    "Sampling",
    "ScorePair",
    "ScoreResult",
    "Segmentation",
    "ServerFault",
    "ServerOverloaded",
    "ServerUnavailable",
    "TermUse",
    "TextDelta",
    "Token",
    "Translation",
    "TranslationClient",
    "Verification",
]
