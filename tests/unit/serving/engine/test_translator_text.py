"""Real text through the engine over a model that copies: what comes back, in how many parts, and what is told of it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.messages import FinishReason, LongInput, MimeType, QualityFlag, Segmentation
from serving.text.characters import visible
from tests.unit.serving.engine.toy_engine import tokenizer
from tests.unit.serving.engine.toy_translator import LONG, TEXT, Served, served, violations


@pytest.fixture(scope="module")
def copy() -> Iterator[Served]:
    with served() as made:
        yield made


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (LONG, 12),
        ("\n  The cat sat.  Where is it?\r\n\r\n\tI drink milk.\t\n", 3),
        ("- The cat\n* The dog\n1. A man\n  2) A lady\n(a) The shirt", 5),
        ("The cat: {name} 👍\nSee https://e.com/a_b?c=d#e. Or me@e.org!", 3),
        ("Title\n=====\n\n----\n3,406,118\n👍 • →\nThe end", 2),
        ("THE CAT SAT ON THE MAT.", 1),
        ("The Station in the Water", 1),
        ("A 你好 cat and Erdős", 1),
        ("katze" * 40, 7),
        ("The cat, " * 30, 6),
    ],
)
def test_texts_come_back_as_they_were(copy: Served, text: str, parts: int) -> None:
    (translation,) = copy.translate(text, beam_size=1, alignments=True)
    (hypothesis,) = translation.hypotheses
    assert hypothesis.text == text
    assert (translation.parts, translation.source_truncated) == (parts, False)
    for link in hypothesis.alignment:
        assert (link.source_start, link.source_end) == (link.target_start, link.target_end)


@pytest.mark.parametrize("text", ["3,406,118", "👍", " -- \n == ", "https://example.com", "{name}", "• 12:30 → 13:45"])
def test_what_is_no_language_never_reaches_the_model(copy: Served, text: str) -> None:
    before = len(copy.toy.steps)
    (translation,) = copy.translate(text, n_best=2, beam_size=2)
    (hypothesis,) = translation.hypotheses
    assert (hypothesis.text, translation.parts, translation.flags) == (text, 0, ())
    assert (hypothesis.score, hypothesis.tokens, hypothesis.finish_reason) == (0.0, (), FinishReason.EOS)
    assert len(copy.toy.steps) == before


def test_what_the_model_does_not_see_is_cleaned(copy: Served) -> None:
    (translation,) = copy.translate("\ufeffThe c\u00ada\u200bt\n\ufeffsa\u0301t")
    assert translation.hypotheses[0].text == "\ufeffThe cat\n\ufeffsát"


def test_each_part_is_a_sentence_by_default_and_as_asked_otherwise(copy: Served) -> None:
    text = "A cat. A dog."
    for options, parts in (
        ({}, 2),
        ({"segmentation": Segmentation.SENTENCES, "long_input": LongInput.SPLIT}, 2),
        ({"segmentation": Segmentation.NONE}, 1),
        ({"long_input": LongInput.SPLIT}, 1),
        ({"long_input": LongInput.REJECT}, 1),
        ({"long_input": LongInput.TRUNCATE}, 1),
    ):
        (translation,) = copy.translate(text, **options)
        assert (translation.hypotheses[0].text, translation.parts) == (text, parts)


def test_a_text_too_long_is_refused_only_where_that_is_asked_for(copy: Served) -> None:
    assert not violations_of(copy, LONG)
    assert violations_of(copy, LONG, segmentation=Segmentation.NONE)
    assert violations_of(copy, LONG, long_input=LongInput.REJECT)
    assert violations_of(copy, LONG, long_input=LongInput.REJECT, segmentation=Segmentation.SENTENCES)


def violations_of(copy: Served, text: str, **options: object) -> bool:
    if not options:
        return not copy.translate(text)
    return "long_input_policy" in violations(copy, text, **options)["contents[0]"]


def test_a_text_is_cut_before_it_is_split_into_sentences(copy: Served) -> None:
    text = "The cat sat.\nWhere is the train station? I drink milk. A man is standing on a ladder."
    (translation,) = copy.translate(text, long_input=LongInput.TRUNCATE, segmentation=Segmentation.SENTENCES)
    (hypothesis,) = translation.hypotheses
    assert translation.source_truncated
    assert translation.parts > 1
    assert text.startswith(hypothesis.text)
    assert len(hypothesis.tokens) <= 31


def test_protection_and_case_can_be_switched_off(copy: Served) -> None:
    (translation,) = copy.translate("SEE {name} IT", protect_spans=False, adapt_case=False)
    tokens = "".join(token.text for token in translation.hypotheses[0].tokens)
    assert "{" in tokens or "<0x7B>" in tokens
    assert "S" in tokens
    (translation,) = copy.translate("SEE {name} IT")
    assert translation.hypotheses[0].text == "SEE {name} IT"
    assert "731" in "".join(token.text for token in translation.hypotheses[0].tokens)


@pytest.mark.parametrize("policy", [None, LongInput.SPLIT])
@pytest.mark.parametrize("text", ["{a} and " * 40 + "{b}.", "{a}-" * 60, "{a}x" * 60, "https://e.com " * 50])
def test_no_span_is_cut_or_lost_in_a_sentence_too_long(copy: Served, text: str, policy: LongInput | None) -> None:
    (translation,) = copy.translate(text, beam_size=1, long_input=policy)
    assert translation.hypotheses[0].text == text.strip() + " " * (text[-1:] == " ")
    assert not translation.source_truncated


def test_alternatives_keep_their_spans(copy: Served) -> None:
    (translation,) = copy.translate("The {name} sat on the mat.", beam_size=4, n_best=3)
    assert len(translation.hypotheses) == 3
    assert all(hypothesis.text.count("{name}") == 1 for hypothesis in translation.hypotheses)


def test_a_prefix_begins_the_first_part_in_its_own_case(copy: Served) -> None:
    (translation,) = copy.translate("THE CAT SAT.", target_prefixes=("The",))
    assert translation.hypotheses[0].text.startswith("The")


def test_a_span_that_the_length_limit_cuts_off_is_appended_and_told(copy: Served) -> None:
    text = "The cat sat on {name}"
    (translation,) = copy.translate(text, max_length=2)
    assert translation.hypotheses[0].text.endswith(" {name}")
    assert QualityFlag.SPAN_APPENDED in translation.flags
    assert copy.seen.counts[QualityFlag.SPAN_APPENDED] == 1


@pytest.mark.parametrize(
    ("text", "mime_type", "parts"),
    [
        ("<p>The cat <b>sat</b>.</p>\r\n<p>Where is <i>the <u>train</u></i>?</p>", MimeType.HTML, 2),
        ("<p>The cat. <b>The dog. I drink</b> milk.</p>", MimeType.HTML, 3),
        ("<ul>\n<li>A &lt;cat</li>\n<li>See <code>a &amp; b</code> sat</li></ul><script>no</script>", MimeType.HTML, 2),
        ("<p>5 &gt; 3</p><hr>", MimeType.HTML, 0),
        ("<r><p>The <g id='1'>cat</g> sat<x/></p><q>milk</q></r>", MimeType.XML, 2),
    ],
)
@pytest.mark.parametrize("segmentation", [None, Segmentation.NONE])
def test_markup_comes_back_as_it_was(
    copy: Served, text: str, mime_type: MimeType, parts: int, segmentation: Segmentation | None
) -> None:
    (translation,) = copy.translate(text, mime_type=mime_type, segmentation=segmentation, alignments=True)
    assert translation.hypotheses[0].text == text
    assert segmentation or translation.parts == parts
    for link in translation.hypotheses[0].alignment:
        assert (link.source_start, link.source_end) == (link.target_start, link.target_end)


def test_markup_that_is_cut_stays_balanced(copy: Served) -> None:
    text = "<p>The cat <b>sat on the mat. Where is the train</b> of the man</p><p>station</p>"
    (translation,) = copy.translate(text, mime_type=MimeType.HTML, long_input=LongInput.TRUNCATE)
    assert translation.source_truncated
    assert re.findall("<.*?>", translation.text) == re.findall("<.*?>", text)
    assert "station" not in translation.text


def test_xml_that_is_not_well_formed_is_refused(copy: Served) -> None:
    assert violations(copy, "a", "<b>", mime_type=MimeType.XML) == {
        "contents[1]": "is not well-formed XML: mismatched tag at line 1, column 5"
    }


@pytest.mark.parametrize("protect", [True, False])
def test_terms_of_the_caller_are_protected(copy: Served, protect: bool) -> None:
    text = "The mat on the red mat"
    (translation,) = copy.translate(text, protected_terms=("red mat", "mat"), protect_spans=protect)
    assert translation.text == text
    tokens = "".join(token.text for token in translation.hypotheses[0].tokens)
    assert tokens.replace("\u2581", " ").split() == ["The", "731", "on", "the", "942"]
    assert violations(copy, "a", protected_terms=("a", "")) == {"protected_terms[1]": "is empty; leave it out"}


NUMBERS = "There were 3,406,118 people in 40,000 houses, or 1,234.5."
WRITTEN = "There were 3\u202f406\u202f118 people in 40\u202f000 houses, or 1\u202f234,5."


@pytest.mark.parametrize("mime_type", [MimeType.PLAIN, MimeType.HTML])
@pytest.mark.parametrize("beam_size", [1, 4])
def test_numbers_are_written_as_the_target_language_does(copy: Served, mime_type: MimeType, beam_size: int) -> None:
    around = "{}" if mime_type is MimeType.PLAIN else "<p>The cat sat. <b>{}</b></p>"
    text = around.format(NUMBERS)
    (translation,) = copy.translate(text, mime_type=mime_type, beam_size=beam_size, alignments=True)
    assert translation.text == around.format(WRITTEN)
    assert translation.flags == (QualityFlag.COPIED_SOURCE,)
    (hypothesis,) = translation.hypotheses
    pairs = [
        (text[link.source_start : link.source_end], hypothesis.text[link.target_start : link.target_end])
        for link in hypothesis.alignment
    ]
    assert ("3,406,118", "3\u202f406\u202f118") in pairs


@pytest.mark.parametrize("text", ["40,000", "<td>40,000</td>", "40,000\n\n👍 1,234.5"])
def test_numbers_by_themselves_are_no_language(copy: Served, text: str) -> None:
    mime_type = MimeType.HTML if text[0] == "<" else MimeType.PLAIN
    assert copy.translate(text, mime_type=mime_type)[0].text == text


def test_numbers_are_left_to_the_model_where_nothing_is_protected(copy: Served) -> None:
    (translation,) = copy.translate(NUMBERS, protect_spans=False)
    assert translation.text == NUMBERS


def test_signs_that_something_is_wrong_are_told(copy: Served) -> None:
    (copied, cut) = copy.translate(TEXT, "There are 12 cats.", max_length=4)
    assert cut.flags == (QualityFlag.NUMBERS_DIFFER,)
    assert copied.flags == ()
    (translation,) = copy.translate(TEXT)
    assert translation.flags == (QualityFlag.COPIED_SOURCE,)


PIECES = [
    "The cat sat. ",
    "I drink",
    " ",
    "\n",
    "  ",
    "👍",
    "{x}",
    "https://e.com ",
    "7 ",
    "- ",
    "A DOG RAN ",
    "é",
    "你",
    "\u00ad",
]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
@settings(deadline=None, max_examples=20)
def test_any_mixture_comes_back(text: str) -> None:
    with served() as copy:
        (translation,) = copy.translate(text, beam_size=1)
        assert visible(translation.hypotheses[0].text) == (visible(text) if text.strip("\u00ad\n ") else "")


def test_the_limit_holds_for_what_the_model_reads() -> None:
    with served() as copy:
        copy.translate("The {a} and {b} and {c} and {d} " * 10, "é" * 100, LONG)
        assert max(len(source) for source in copy.toy.runner.counts.sources) <= 31
        assert tokenizer().count(LONG) > 31
