"""Options are declared once: what the proto names is a field of the same name, and survives the wire."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from serving.conversion import from_model, to_model, to_options, to_request, to_response, to_result
from serving.messages import (
    AlignmentLink,
    AttentionMatrix,
    Bounds,
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
    Token,
    Translation,
)
from serving.model_messages import Model, ModelDefaults, ModelLimits, Verification
from serving.pb import translation_service_pb2 as pb

EVERY_OPTION = Options(
    beam_size=4,
    n_best=2,
    length_penalty=0.0,
    early_stopping=EarlyStopping.NEVER,
    diversity_penalty=0.5,
    min_length=3,
    max_length=9,
    no_repeat_ngram_size=2,
    repetition_penalty=1.5,
    target_prefixes=("Je", ""),
    sampling=Sampling(temperature=0.5, top_k=7, top_p=0.75, seed=0),
    segmentation=Segmentation.NONE,
    long_input=LongInput.SPLIT,
    protect_spans=False,
    adapt_case=False,
    mime_type=MimeType.XML,
    protected_terms=("Blue Bottle",),
    retry_repetition=False,
    priority=-1,
    glossary=(GlossaryEntry("a term", "un terme"),),
    tokens=True,
    alignments=True,
    attention=True,
)

OUTSIDE = {  # of DecodingOptions
    *("segmentation", "long_input", "protect_spans", "adapt_case", "priority", "tokens", "alignments"),
    *("mime_type", "protected_terms", "retry_repetition", "glossary", "attention"),
}


@pytest.mark.parametrize(
    ("message", "record", "elsewhere"),
    [
        (pb.DecodingOptions, Options, OUTSIDE),
        (pb.SamplingOptions, Sampling, set()),
        (pb.ModelLimits, ModelLimits, set()),
        (pb.ModelDefaults, ModelDefaults, set()),
        (pb.Verification, Verification, set()),
    ],
)
def test_a_message_and_its_record_name_the_same_fields(message: Any, record: Any, elsewhere: set[str]) -> None:
    assert {field.name for field in fields(record)} - elsewhere == set(message.DESCRIPTOR.fields_by_name)


@pytest.mark.parametrize("record", [Options, Sampling])
def test_every_number_has_bounds(record: Any) -> None:
    numbers = [field for field in fields(record) if str(field.type).split(" | ")[0] in {"int", "float"}]
    assert len(numbers) > 3
    assert all(isinstance(field.metadata["bounds"], Bounds) for field in numbers)


def test_every_option_differs_from_its_default_here() -> None:
    assert not [f.name for f in fields(Options) if getattr(EVERY_OPTION, f.name) == getattr(Options(), f.name)]


@pytest.mark.parametrize("options", [Options(), EVERY_OPTION, Options(sampling=Sampling())])
def test_options_survive_the_wire(options: Options) -> None:
    sent = to_request(["a"], options, model="m", version=3).SerializeToString()
    assert to_options(pb.TranslateRequest.FromString(sent)) == options


def test_an_empty_message_means_the_defaults() -> None:
    assert to_options(pb.TranslateRequest()) == Options()
    drawn = pb.TranslateRequest(options=pb.DecodingOptions(sampling=pb.SamplingOptions()))
    assert to_options(drawn) == Options(sampling=Sampling())


def test_an_answer_survives_the_wire() -> None:
    attention = AttentionMatrix((Piece("b", 0, 1), Piece("</s>", 1, 1)), (Piece("a", 0, 1),), (0.75, 0.25))
    links, reason = (AlignmentLink(0, 1, 2, 3),), FinishReason.LENGTH
    best = Hypothesis("a", -1.5, -0.25, (Token("a", -0.5),), links, reason, (attention,))
    answer = Result(
        (Translation((best,), True, 2, (QualityFlag.REPETITION,), (TermUse(0, 2, 1),)),), "m", 3, 4, 5, 0.25, 1.5, "id"
    )
    assert to_result(pb.TranslateResponse.FromString(to_response(answer).SerializeToString()), "id") == answer


def test_a_reason_and_a_flag_from_a_newer_server_are_unknown() -> None:
    newer = pb.Hypothesis(finish_reason=9)  # type: ignore[arg-type]
    flagged = pb.Translation(hypotheses=[newer], flags=[99])  # type: ignore[list-item]
    answer = to_result(pb.TranslateResponse(translations=[flagged]), "id")
    assert answer.translations[0].flags == (QualityFlag.UNKNOWN,)
    assert answer.translations[0].hypotheses[0].finish_reason is FinishReason.UNKNOWN


@pytest.mark.parametrize("bleu", [None, 0.0, 41.5])
def test_a_model_survives_the_wire(bleu: float | None) -> None:
    record = Verification("2026-01-02", 1e-5, 500, 1.0, 0.5, 4, reference_bleu=bleu, bleu_signature="v2")
    limits, defaults = ModelLimits(60, 80, 8, 16, 1000), ModelDefaults(2, 0.0, EarlyStopping.HEURISTIC, 1, 3)
    model = Model("m", 3, True, "en", "fr", "toy", {"layers": "2"}, limits, defaults, "fp32", "cpu", record)
    assert to_model(pb.Model.FromString(from_model(model).SerializeToString())) == model
