"""Word vocabularies: serving cuts and joins text as training does, and copies what is unknown."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.bundle.tokenizer import SubwordTokenizer
from serving.bundle.words import WordProcessor
from serving.decoding.hypothesis import FinishedHypothesis
from serving.engine.postprocessing import assemble
from serving.engine.preprocessing import prepare
from serving.engine.request import TranslationRequest
from serving.engine.submission import Decoded
from serving.engine.validation import ServingLimits
from serving.errors import StartupError
from serving.messages import FinishReason, Options
from tests.unit.serving.engine.toy_engine import EOS, IDS, manifest
from training.data.words import Words, train_words

MODEL = train_words(["the cat 's milk ( 3.5 l ) .", "l'homme , ça va caf\u00e9"], 40)


@given(st.text(alphabet="the cat's l\u0301(3.5),ç\u0301é \ufb01\u2047", max_size=30))
@settings(deadline=None, max_examples=300)
def test_training_and_serving_agree(text: str) -> None:
    words, processor = Words(MODEL), WordProcessor(MODEL)
    (ids,) = words.encode([text])
    mapping = processor.encode(text, return_type="offset_mapping")
    assert processor.encode(text) == mapping["ids"] == ids
    assert processor.decode(ids)["text"] == words.decode([ids])[0]
    assert "".join(text[a:b] for a, b in mapping["offsets"]) == "".join(text.split())


def test_spans_and_texts() -> None:
    tokenizer = SubwordTokenizer(MODEL, MODEL, special_ids=IDS, kind="words")
    assert tokenizer.source_size == tokenizer.target_size == len(json.loads(MODEL)["tokens"])
    text = "the cafe\u0301 (okapi)."
    encoded = tokenizer.encode(text)
    assert [text[a:b] for a, b in encoded.spans.tolist()] == ["the", "cafe\u0301", "(", "okapi", ")", ".", ""]
    assert encoded.ids[-1] == EOS
    assert tokenizer.count(text) == 6
    decoded = tokenizer.decode(encoded.ids[:-1].tolist())
    assert decoded.text == "the caf\u00e9 (⁇⁇⁇"
    attended = ["the", "x", "", "okapi", "", "."]
    filled = tokenizer.decode(encoded.ids[:-1].tolist(), attended)
    assert filled.text == "the caf\u00e9 (okapi⁇."
    assert [filled.text[a:b] for a, b in filled.spans.tolist()] == ["the", "caf\u00e9", "(", "okapi", "⁇", "."]


def test_characters_that_no_word_has_are_unknown() -> None:
    tokenizer = SubwordTokenizer(MODEL, MODEL, special_ids=IDS, kind="words")
    assert tokenizer.unknown("the okapi, ça e\u0301 \ufb01 \u0141\u00f3d\u017a \u2026!") == set("\u0141\u00f3\u017a")


def test_a_translation_copies_the_words_its_unknown_ones_attend_to() -> None:
    tokenizer = SubwordTokenizer(MODEL, MODEL, special_ids=IDS, kind="words", reverse_source=True)
    request = TranslationRequest(("okapi zebra cat",), Options(alignments=True))
    prepared = prepare(request, manifest(), tokenizer, ServingLimits())
    (target,) = Words(MODEL).encode(["the okapi zebra'okapi?"])
    # Reversed, the source is: cat zebra okapi end.
    found = FinishedHypothesis(tuple(target), (0.0,) * 7, (0, 2, 1, 3, 2, 3), 0.0, FinishReason.EOS)
    result = assemble(request, prepared, [Decoded((found,), 0.0, 0.0, 0.0)], manifest(), tokenizer)
    best = result.translations[0].hypotheses[0]
    assert best.text == "the okapi zebra'okapi⁇"
    assert [(link.source_start, link.target_start) for link in best.alignment][:2] == [(12, 0), (0, 4)]


@pytest.mark.parametrize(
    "model", [b"\xff", b"[]", b"{}", b'{"pattern": "(", "tokens": []}', b'{"pattern": "x", "tokens": ["a"]}']
)
def test_something_else_is_no_vocabulary(model: bytes) -> None:
    with pytest.raises(StartupError, match="is not a word vocabulary; export the bundle again"):
        SubwordTokenizer(model, MODEL, special_ids=IDS, kind="words")
