"""What is read of markup, and that a model that copies gives it again."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from serving.messages import MimeType
from serving.text.markup.html_tokens import html_tokens
from serving.text.markup.tokens import TokenKind
from tests.unit.serving.text.markup.copying import copied, html, tags
from tests.unit.serving.text.markup.test_html_tokens import HTML, balanced
from tests.unit.serving.text.test_reading import EXAMPLES


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("<p>One <b>red</b> cat</p><p>Two</p>", "\nOne red cat\n\nTwo\n"),
        ("a<br>b<hr/>c", "a\nb\nc"),
        ("  One\n\t cat  <i> is </i>\n here ", "One cat is here "),
        ("<pre>a\r\n  b</pre>", "\na\n  b\n"),
        ("R&amp;D &lt;x&gt; caf&eacute;&#33;", "R&D <x> café!"),
        ("a<!-- no --> b<script>no</script> c<style>no</style>", "a b c"),
        ("use <code>x <b>y</b></code>, <kbd>z</kbd>", "use \U00100000, \U00100001"),
        ("<i translate=no>x<br>y</i> a <span class='a notranslate'>z</span>", "\U00100000 a \U00100001"),
        ("<p translate=no>a</p>b<div translate=no>c <i translate=yes>d</i></div>", "\n\n\nb\n\n\nd\n\n"),
        ("<b>one<p>two</p></b>three", "\none\ntwo\n\nthree"),
        ("<title>a <b> c</title>", "\na <b> c\n"),
        ("<svg><text>a</text></svg> b \U00100000", "\U00100001 b \U00100000"),
    ],
)
def test_what_is_read_of_html(markup: str, text: str) -> None:
    assert html(markup).text == text


@pytest.mark.parametrize(
    "text",
    [
        "<p>One <b>cat</b>.</p>\r\n<p>Two <i><u>red</u> dogs</i>!</p>\r\n",
        "<p>The end. <b>It is late. Go</b> home.</p>",
        "<ul>\n  <li>1. Open <code>a &amp; b</code>.</li>\n  <li>👍 Good</li></ul>",
        "<a id=x></a>Here <img src=y> is a <!-- c --><em>word</em>.<br/>",
        "<b>5 &lt; 6</b>",
    ],
)
def test_a_model_that_copies_gives_it_again(text: str) -> None:
    assert copied(text) == text


def test_xml_comes_back_as_it_was() -> None:
    text = "<?xml version='1.0'?>\r\n<r>\r\n <p>One <x id='1'/>red <b>cat</b>.</p><q>Two &amp; three<br/></q></r>\r\n"
    assert copied(text, MimeType.XML) == text


def test_tags_go_with_their_words() -> None:
    assert copied("the <b>red <i>big</i></b> <a href=x>car</a>", backwards=True) == (
        "<a href=x>car</a> <b><i>big</i> red</b> the"
    )


@given(HTML)
@settings(deadline=None, max_examples=EXAMPLES)
def test_a_model_that_copies_loses_nothing(text: str) -> None:
    def read(markup: str) -> str:
        return "".join("".join(token.text.split()) for token in html_tokens(markup) if token.kind is TokenKind.TEXT)

    answer = copied(text)
    assert balanced(answer) == answer
    assert tags(answer) == tags(text)
    assert sorted(read(answer)) == sorted(read(text))


@given(HTML)
@settings(deadline=None, max_examples=EXAMPLES)
def test_whatever_the_order_it_stays_balanced_with_the_same_tags(text: str) -> None:
    answer = copied(text, backwards=True)
    assert balanced(answer) == answer
    assert tags(answer) == tags(text)


def test_what_is_cut_keeps_its_tags() -> None:
    markup = html("<p>One <b>two</b></p><p>three</p>")
    assert markup.cut(7) == "<p>One <b></b></p><p></p>"


def test_ranges_are_found_in_the_markup_that_was_given() -> None:
    text = "<p>A &lt; <b>red</i> cat"
    markup = html(text)
    for word, given_as in {"<": "&lt;", "red": "red", "cat": "cat"}.items():
        start = markup.text.index(word)
        assert text[slice(*markup.given(start, start + len(word)))] == given_as
