"""HTML of any kind becomes balanced tokens, which are written as they were."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from serving.text.markup.html_tokens import html_tokens
from serving.text.markup.tokens import TokenKind
from tests.unit.serving.text.test_reading import EXAMPLES

PIECES = st.sampled_from(
    [
        *(
            "<",
            ">",
            "/",
            "=",
            '"',
            "'",
            "&",
            "</",
            "<!",
            "<!--",
            "-->",
            "<?",
            "]]>",
            "<![CDATA[",
            "</>",
            "\x00",
            "\ud800",
        ),
        *(
            "<b>",
            "</b>",
            "<i class=x>",
            "</i>",
            "<p>",
            "</p>",
            "<li>",
            "<ul>",
            "</ul>",
            "<td>",
            "<tr>",
            "<table>",
            "</table>",
        ),
        *(
            "<br>",
            "<br/>",
            "<img src='a>b'>",
            '<a href="x?a=1&b=2">',
            "</a>",
            "<div\r\nid=x>",
            "</div>",
            "<x-y/>",
            "</X-Y >",
        ),
        *(
            "<script>",
            "</script>",
            "<style>",
            "</style>",
            "<title>",
            "</title>",
            "<textarea>",
            "</textarea>",
            "<pre>",
            "</pre>",
        ),
        *(
            "<code>",
            "</code>",
            "<svg>",
            "</svg>",
            "<span translate=no>",
            "<span translate=YES>",
            "</span>",
            "<!doctype html>",
        ),
        *(
            "&amp;",
            "&lt;",
            "&nbsp;",
            "&#65;",
            "&eacute",
            "&unknown;",
            "One cat. ",
            "two",
            "red ",
            " dog",
            "é",
            "你",
            "👍",
            "{x}",
        ),
        *(" ", "  ", "\n", "\r\n", "\r", "\t", ".", "! ", "<b", "\u00a0", "a < b", "R&D", "\U00100000", "`a <i>b</i>`"),
    ]
)
HTML = st.lists(PIECES, max_size=25).map("".join)


def balanced(text: str) -> str:
    return "".join(token.raw for token in html_tokens(text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain",
        "<A HREF=x?a=1&b=2 title='\"'>R &amp; D &eacute;</A>",
        "<!DOCTYPE html>\r\n<html>\r\n<body\r\n>a</body></html>\r\n",
        "<p>a<br>b<br/>c<img src=x></p>",
        "<script>if (a < b) { c('</p>') }</script><style>a > b {}</style>",
        "<textarea>a &lt; b></textarea><!-- <b> --><svg><path/></svg>",
        "a > b",
    ],
)
def test_what_is_balanced_is_left_alone(text: str) -> None:
    assert balanced(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<b>a", "<b>a</b>"),
        ("a</b>", "a"),
        ("<b><i>a</b>b</i>", "<b><i>a</i></b>b"),
        ("<p>a<p>b<div>c", "<p>a</p><p>b</p><div>c</div>"),
        ("<p>a <b>b<p>c</b>", "<p>a <b>b</b></p><p>c</p>"),
        ("<ul><li>a<ul><li>b<li>c</ul><li>d</ul>", "<ul><li>a<ul><li>b</li><li>c</li></ul></li><li>d</li></ul>"),
        ("<dl><dt>a<dd>b<dt>c</dl>", "<dl><dt>a</dt><dd>b</dd><dt>c</dt></dl>"),
        ("<select><option>a<option>b</select>", "<select><option>a</option><option>b</option></select>"),
        (
            "<table><tr><td>a<td></div>b<tr><td>c</table>d",
            "<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>d",
        ),
        ("<b><p>a</b>b</p>", "<b><p>ab</p></b>"),
        ("a < b && c <b", "a &lt; b &amp;&amp; c "),
        ("a <</>b>", "a &lt;b>"),
        ("<!-- a", "<!-- a-->"),
        ("<!-- a ->", "<!-- a ->-->"),
        ("<? a", "<? a>"),
        ("<script>a", "<script>a</script>"),
        ("<script><!--<script>", "<script><!--<script>--></script>"),
    ],
)
def test_what_is_not_is_repaired(text: str, expected: str) -> None:
    assert balanced(text) == expected


@given(HTML)
@settings(deadline=None, max_examples=EXAMPLES)
def test_anything_becomes_balanced(text: str) -> None:
    open_elements = []
    for token in html_tokens(text):
        assert 0 <= token.start <= len(text)
        if token.kind is TokenKind.START:
            open_elements.append(token.element)
        elif token.kind is TokenKind.END:
            assert open_elements.pop() is token.element
    assert not open_elements


@given(HTML)
@example("<b></>")
@settings(deadline=None, max_examples=EXAMPLES)
def test_what_was_repaired_is_balanced(text: str) -> None:
    assert balanced(balanced(text)) == balanced(text)


def test_elements_far_within_each_other_follow_each_other() -> None:
    assert balanced("<b>" * 20_000 + "a").count("</b><b>") == 20_000 - 512
