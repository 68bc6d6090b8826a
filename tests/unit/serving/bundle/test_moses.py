"""Words as Moses cuts them and parts of words, beside the libraries that models were trained with."""

from __future__ import annotations

import io
import json

import pytest
from sacremoses import MosesDetokenizer, MosesPunctNormalizer, MosesTokenizer
from subword_nmt.apply_bpe import BPE
from subword_nmt.learn_bpe import learn_bpe

from loadtests.service.sentences import BUNDLED, read_lines
from serving.bundle.tokenizer import SubwordTokenizer
from serving.errors import StartupError
from tests.unit.serving.engine.toy_engine import EOS, IDS

TEXTS = [
    *read_lines(BUNDLED)[:8],
    "\u201cIt\u2019s 5\u00a0% more,\u201d said Mr. Smith \u2014 of course\u2026 [sic] & so on | 10\u00a0000 <b>",
    'He said "no".  Twice,\tdidn\'t he?',
    "L'\u00e9t\u00e9, c\u2019est \u00ab\u00a0beau\u00a0\u00bb\u00a0!",
    "",
]


def codes() -> str:
    found = io.StringIO()
    learn_bpe(io.StringIO("\n".join(TEXTS)), found, 60, min_frequency=1)
    return found.getvalue()


def cut(text: str, language: str) -> list[str]:
    """What Argos Translate makes of a text."""
    words = MosesTokenizer(language).tokenize(MosesPunctNormalizer(language).normalize(text))
    segmented: list[str] = BPE(io.StringIO(codes())).segment_tokens(" ".join(words).strip("\r\n ").split(" "))
    return segmented


def model(language: str, tokens: list[str]) -> bytes:
    content = {"language": language, "codes": codes(), "tokens": tokens, "unknown": 0}
    return json.dumps(content).encode()


def tokenizer(language: str) -> tuple[SubwordTokenizer, list[str]]:
    tokens = ["<unk>", *sorted({piece for text in TEXTS for piece in cut(text, language)})]
    return SubwordTokenizer(model(language, tokens), model(language, tokens), special_ids=IDS, kind="moses"), tokens


@pytest.mark.parametrize("language", ["en", "fr", "xx"])
def test_texts_are_cut_and_joined_as_the_libraries_do(language: str) -> None:
    own, tokens = tokenizer(language)
    for text in TEXTS:
        pieces = cut(text, language)
        encoded = own.encode(text)
        assert [tokens[number] for number in encoded.ids[:-1]] == pieces
        assert encoded.ids[-1] == EOS
        joined = MosesDetokenizer(language).detokenize(" ".join(pieces).replace("@@ ", "").split(" "))
        assert own.decode(encoded.ids[:-1].tolist()).text == joined


def test_tokens_have_spans_in_the_text_as_given() -> None:
    own, _ = tokenizer("en")
    for text in TEXTS:
        encoded = own.encode(text)
        told = own.decode(encoded.ids[:-1].tolist())
        for spelt, spans in ((text, encoded.spans[:-1].tolist()), (told.text, told.spans.tolist())):
            assert spans == sorted(spans)
            assert all(0 <= begin <= end <= len(spelt) for begin, end in spans)
    text = "\u201cIt\u2019s\u201d cats"
    spans = own.encode(text).spans[:-1].tolist()
    assert "".join(text[begin:end] for begin, end in spans) == text.replace(" ", "")
    assert [6, 7] not in spans
    assert spans[-1][1] == len(text)


def test_what_the_vocabulary_lacks_is_unknown() -> None:
    own, _ = tokenizer("en")
    assert own.unknown("a\u2603\u201c") == {"\u2603"}
    assert own.decode([]).text == ""
    last = own.encode_prefix("cats")
    assert own.decode(last[:1]).text  # a word that is not finished


@pytest.mark.parametrize("content", [b"{}", b"no", model("en", []), model("en", ["a"]).replace(b"#version: 0.2", b"x")])
def test_other_files_are_refused(content: bytes) -> None:
    with pytest.raises(StartupError, match="is not a vocabulary of byte pairs"):
        SubwordTokenizer(content, content, special_ids=IDS, kind="moses")
