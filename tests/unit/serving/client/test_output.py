"""What the command writes for an answer and for a failure."""

import json
from dataclasses import replace

import grpc
import pytest

from serving.client.errors import DeadlinePassed, FieldViolation, InvalidRequest, ServerFault, ServerUnavailable
from serving.client.output import Style, caveats, sentence
from serving.messages import AlignmentLink, AttentionMatrix, FinishReason, Hypothesis, Piece, Translation

BEST = Hypothesis(
    text="Je bois du lait.",
    score=-0.5,
    mean_log_prob=-0.25,
    tokens=(),
    alignment=(AlignmentLink(0, 1, 0, 2), AlignmentLink(2, 7, 3, 7)),
    finish_reason=FinishReason.EOS,
)
SECOND = replace(BEST, text="Je bois le lait.", score=-0.75, alignment=())
ANSWER = Translation(hypotheses=(BEST, SECOND), source_truncated=False, parts=1)
BLANK = Translation(
    hypotheses=(replace(BEST, text="", score=0.0, alignment=()),),
    source_truncated=False,
    parts=0,
)
OVERLOAD = ServerFault("boom", code=grpc.StatusCode.INTERNAL, request_id="r1")


@pytest.mark.parametrize(
    ("style", "lines"),
    [
        (Style(), "Je bois du lait."),
        (Style(scores=True), "-0.5000\tJe bois du lait."),
        (Style(alignments=True), "Je bois du lait.\t0-1:0-2 2-7:3-7"),
        (Style(n_best=2), "Je bois du lait.\nJe bois le lait."),
        (
            Style(n_best=2, scores=True, alignments=True),
            "-0.5000\tJe bois du lait.\t0-1:0-2 2-7:3-7\n-0.7500\tJe bois le lait.\t",
        ),
        (Style(n_best=3), "Je bois du lait.\nJe bois le lait.\n"),
    ],
)
def test_columns_and_lines(style: Style, lines: str) -> None:
    assert style.answer("I drink milk.", ANSWER) == lines


@pytest.mark.parametrize("n_best", [1, 4])
def test_blank_texts_and_failures_take_as_many_lines_as_answers(n_best: int) -> None:
    style = Style(n_best=n_best)
    assert style.answer("", BLANK).split("\n") == [""] * n_best
    assert style.failure("text", OVERLOAD).split("\n") == [""] * n_best


def test_json_with_attention_has_a_row_for_each_target_token() -> None:
    source, target = (Piece("▁a", 0, 1), Piece("</s>", 1, 1)), (Piece("▁b", 0, 1), Piece("c", 1, 2))
    best = replace(BEST, attention=(AttentionMatrix(source, target, (0.75, 0.25, 0.123456, 0.876544)),))
    answer = replace(ANSWER, hypotheses=(best, SECOND))
    first, second = json.loads(Style(n_best=2, attention=True, as_json=True).answer("a", answer))["hypotheses"]
    weights = [[0.75, 0.25], [0.1235, 0.8765]]
    assert first["attention"] == [{"source": ["▁a", "</s>"], "target": ["▁b", "c"], "weights": weights}]
    assert "attention" not in second


def test_json_is_one_line_with_everything() -> None:
    written = Style(n_best=2, alignments=True, as_json=True).answer("I drink milk. é", ANSWER)
    assert "\n" not in written
    assert "é" in written
    assert json.loads(written) == {
        "source": "I drink milk. é",
        "hypotheses": [
            {
                "text": "Je bois du lait.",
                "score": -0.5,
                "mean_log_prob": -0.25,
                "finish_reason": "eos",
                "alignment": [{"source": [0, 1], "target": [0, 2]}, {"source": [2, 7], "target": [3, 7]}],
            },
            {
                "text": "Je bois le lait.",
                "score": -0.75,
                "mean_log_prob": -0.25,
                "finish_reason": "eos",
                "alignment": [],
            },
        ],
        "parts": 1,
        "source_truncated": False,
        "flags": [],
    }


def test_json_says_why_there_is_no_answer() -> None:
    style = Style(as_json=True)
    assert json.loads(style.failure("text", OVERLOAD)) == {
        "source": "text",
        "error": {"code": "INTERNAL", "message": "boom", "request_id": "r1"},
    }
    assert json.loads(style.failure(None, "not valid UTF-8")) == {
        "source": None,
        "error": {"message": "not valid UTF-8"},
    }


def test_what_the_text_does_not_show_is_said() -> None:
    assert caveats(ANSWER) == []
    cut = replace(ANSWER, source_truncated=True, hypotheses=(replace(BEST, finish_reason=FinishReason.LENGTH),))
    first, second = caveats(cut)
    assert "cut to the model's limit" in first
    assert "length limit" in second


def test_sentences_name_the_option_but_not_the_place_of_the_text() -> None:
    error = InvalidRequest(
        "bad",
        code=grpc.StatusCode.INVALID_ARGUMENT,
        violations=(FieldViolation("contents[0]", "300 tokens"), FieldViolation("options.beam_size", "99 is above 8")),
    )
    assert sentence(error, server="h:1", deadline=30, retry_for=300) == "300 tokens; options.beam_size: 99 is above 8"


def test_sentences_say_where_and_how_long() -> None:
    gone = ServerUnavailable("refused", code=grpc.StatusCode.UNAVAILABLE)
    late = DeadlinePassed("Deadline Exceeded", code=grpc.StatusCode.DEADLINE_EXCEEDED)
    assert sentence(gone, server="h:1", deadline=30, retry_for=300) == "the server at h:1 does not answer (refused)"
    assert sentence(late, server="h:1", deadline=0.5, retry_for=300).startswith(
        "no answer within 0.5 s; raise --deadline"
    )
    assert sentence(OVERLOAD, server="h:1", deadline=30, retry_for=300) == "boom (INTERNAL, request r1)"
