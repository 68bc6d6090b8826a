"""What the model attends to, told of the best hypothesis of a request that asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from serving.decoding.options import DecodingOptions
from serving.engine.attention import attentive, with_attention
from serving.engine.request import TranslationRequest
from serving.engine.submission import Decoded, Sentence
from serving.errors import EngineFailure
from serving.messages import AttentionMatrix, Options, Result
from tests.unit.serving.engine.toy_engine import EOS, MODEL, NAN_TOKEN, manifest, random_sentences, toy_engine
from tests.unit.serving.engine.toy_translator import LONG, TEXT, Served, served, violations


@pytest.fixture(scope="module")
def copy() -> Iterator[Served]:
    with served() as made:
        yield made


def rows(attention: AttentionMatrix) -> np.ndarray:
    """Shape (target piece, source piece)."""
    found = np.array(attention.weights).reshape(len(attention.target), len(attention.source))
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    return found


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("beam", [1, 4])
def test_each_piece_attends_to_the_one_it_copies(reverse: bool, beam: int) -> None:
    with served(reverse=reverse) as copy:
        (translation,) = copy.translate(TEXT, beam_size=beam, n_best=beam, attention=True, alignments=True)
    best, *others = translation.hypotheses
    assert not any(other.attention for other in others)
    (attention,) = best.attention
    assert [piece.text for piece in attention.target] == [token.text for token in best.tokens]
    assert "".join(TEXT[piece.start : piece.end] for piece in attention.target) == TEXT
    most = rows(attention).argmax(axis=1)
    for piece, place in zip(attention.target, most, strict=True):
        assert attention.source[place] == piece
    assert attention.source[-1].start == attention.source[-1].end == len(TEXT)


def test_nobody_gets_it_unasked(copy: Served) -> None:
    steps = len(copy.toy.runner.counts.steps)
    (translation,) = copy.translate(TEXT, beam_size=1)
    assert not translation.hypotheses[0].attention
    assert len(copy.toy.runner.counts.steps) - steps == len(translation.hypotheses[0].tokens) + 1


def test_each_part_has_its_own_and_places_are_those_of_the_whole_text(copy: Served) -> None:
    text = f" - {LONG} See https://a.example/b and {{name}}."
    (translation,) = copy.translate(text, attention=True)
    best = translation.hypotheses[0]
    assert len(best.attention) == translation.parts > 5
    for attention in best.attention:
        for piece, place in zip(attention.target, rows(attention).argmax(axis=1), strict=True):
            source = attention.source[place]
            assert text[source.start : source.end] == best.text[piece.start : piece.end]


def test_places_are_those_of_the_markup(copy: Served) -> None:
    text = "<p>The cat <b>sat on</b> the &eacute; mat.</p>"
    (translation,) = copy.translate(text, attention=True, mime_type="text/html")
    (attention,) = translation.hypotheses[0].attention
    spelt = [text[piece.start : piece.end] for piece in attention.source]
    assert "&eacute;" in [word.strip() for word in spelt]
    read = "".join(spelt).replace("<b>", "").replace("</b>", "")
    assert read == "The cat sat on the &eacute; mat."
    made = translation.hypotheses[0].text
    assert "é" in [made[piece.start : piece.end].strip() for piece in attention.target]


def test_a_text_without_language_attends_to_nothing(copy: Served) -> None:
    for translation in copy.translate("12", " ", attention=True):
        assert not translation.hypotheses[0].attention


async def test_a_stream_ends_with_it(copy: Served) -> None:
    request = TranslationRequest((TEXT,), Options(attention=True, beam_size=1))
    *_, result = [event async for event in copy.translator.stream(request)]
    assert isinstance(result, Result)
    assert result.translations[0].hypotheses[0].attention
    assert (await copy.translator.translate(request)).translations == result.translations


def test_a_model_that_does_not_tell_it() -> None:
    precision = manifest().precisions["fp32"]
    silent = precision.model_copy(update={"decoder": precision.decoder.model_copy(update={"outputs": ()})})
    with served(manifest().model_copy(update={"precisions": {"fp32": silent}})) as copy:
        told = "is set, but toy/1 does not tell its attention; leave it out, or export the model anew"
        assert violations(copy, TEXT, attention=True) == {"include_attention": told}


def test_it_does_not_depend_on_company() -> None:
    """Among searches, and among others that tell theirs, while slots are freed and moved."""
    sentences = random_sentences(60, seed=4)
    with toy_engine(MODEL) as toy:
        decoded = toy.engine.submit(sentences).future.result()
        again = attentive(sentences, decoded)
        assert len(again) > 50
        alone = [toy.engine.submit([sentence]).future.result()[0].attention for sentence in again.values()]
        company = [*again.values(), *random_sentences(40, seed=5)]
        together = toy.engine.submit(company).future.result()[: len(again)]
    told = with_attention(decoded, again, together)
    for index, expected in zip(again, alone, strict=True):
        found = told[index].attention
        assert expected is not None
        assert found is not None
        assert told[index].hypotheses == decoded[index].hypotheses
        assert found.shape == (len(decoded[index].hypotheses[0].tokens), len(sentences[index].source))
        assert np.array_equal(found, expected)


def test_tokens_that_precede_a_translation_are_not_told() -> None:
    source = np.array([7, 8, 9, EOS])
    given = DecodingOptions(max_length=2, prefix=(8, 9), start=(7,))
    with toy_engine(MODEL) as toy:
        (decoded,) = toy.engine.submit([Sentence(source, given, attention=True)]).future.result()
    assert decoded.attention is not None
    assert decoded.attention.argmax(axis=1).tolist() == [1, 2]


def test_a_model_that_fails_meanwhile_fails_the_request() -> None:
    source = np.array([7, NAN_TOKEN, EOS])
    with toy_engine(MODEL) as toy, pytest.raises(EngineFailure):
        toy.engine.submit(
            [Sentence(source, DecodingOptions(max_length=1, prefix=(7,)), attention=True)]
        ).future.result()


def test_an_empty_translation_is_not_decoded_again() -> None:
    with toy_engine(MODEL) as toy:
        (decoded,) = toy.engine.submit([Sentence(np.array([EOS]), DecodingOptions(max_length=5))]).future.result()
    assert not decoded.hypotheses[0].tokens
    assert isinstance(decoded, Decoded)
    assert not attentive([Sentence(np.array([EOS]), DecodingOptions(max_length=5))], [decoded])
