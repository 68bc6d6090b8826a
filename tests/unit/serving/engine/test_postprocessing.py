"""Decoded sentences become translations."""

from __future__ import annotations

from sentencepiece import SentencePieceProcessor

from serving.bundle.manifest import LanguagePair
from serving.decoding.hypothesis import FinishedHypothesis
from serving.engine.postprocessing import assemble
from serving.engine.preprocessing import Prepared, PreparedText
from serving.engine.request import TranslationRequest
from serving.engine.submission import Decoded
from serving.messages import FinishReason, Options, Translation
from serving.text.reading import Reading
from tests.unit.serving.engine.toy_engine import manifest, subword_model, tokenizer

WHOLE = tokenizer().encode_prefix("The cat")
LETTERS = tuple(SentencePieceProcessor(model_proto=subword_model()).piece_to_id(list("▁The▁cat")))  # the same text
OTHER = tokenizer().encode_prefix("The dog")


def translation(*found: tuple[int, ...], n_best: int) -> Translation:
    text = "Le chat"
    reading = Reading(text, tokenizer().unknown)
    part = reading.part(0, len(text))
    prepared = Prepared(
        LanguagePair("en", "fr"), (PreparedText(reading, (part,), (tokenizer().encode(text),), len(text)),), ()
    )
    hypotheses = tuple(
        FinishedHypothesis(tokens, (-0.5,) * (len(tokens) + 1), (0,) * len(tokens), -float(rank), FinishReason.EOS)
        for rank, tokens in enumerate(found)
    )
    request = TranslationRequest((text,), Options(n_best=n_best))
    result = assemble(request, prepared, [Decoded(hypotheses, 0.0, 0.0, 0.0)], manifest(), tokenizer())
    return result.translations[0]


def test_the_hypotheses_of_an_answer_differ_in_text() -> None:
    assert WHOLE != LETTERS
    assert tokenizer().decode(WHOLE).text == tokenizer().decode(LETTERS).text
    found = translation(WHOLE, LETTERS, OTHER, WHOLE, n_best=2).hypotheses
    assert [(hypothesis.text, hypothesis.score) for hypothesis in found] == [("The cat", 0.0), ("The dog", -2.0)]


def test_there_are_fewer_hypotheses_only_if_no_other_text_was_found() -> None:
    assert [hypothesis.text for hypothesis in translation(WHOLE, LETTERS, n_best=2).hypotheses] == ["The cat"]
