"""XML becomes tokens, which are written as they were; what is not well-formed is refused."""

from __future__ import annotations

import pytest

from serving.text.markup.tokens import MalformedMarkup, TokenKind
from serving.text.markup.xml_tokens import xml_tokens

DOCUMENT = """<?xml version="1.0" encoding="latin-1"?>
<!-- a -->
<!DOCTYPE r [ <!ELEMENT r ANY> ]>
<r a='1 &lt; 2'>\r\n<p>Hé &amp; <b>you</b><br/></p><?pi b?></r>
"""


@pytest.mark.parametrize(
    "text", ["", "plain", "a &#65; <b>c</b> d<e/>", DOCUMENT, "<p translate='no'><![CDATA[a<b]]></p>"]
)
def test_it_is_left_as_it_is(text: str) -> None:
    assert "".join(token.raw for token in xml_tokens(text)) == text
    position = 0
    for token in xml_tokens(text):
        assert token.start == position
        position += len(token.raw)


def test_a_cdata_section_becomes_text() -> None:
    tokens = xml_tokens("<a>x<![CDATA[<b> & ]]]]><![CDATA[>]]></a>")
    assert "".join(token.raw for token in tokens) == "<a>x&lt;b&gt; &amp; ]]&gt;</a>"
    assert "".join(token.text for token in tokens) == "x<b> & ]]>"


def test_what_is_beside_text_is_part_of_it() -> None:
    tokens = xml_tokens("<r><p>a <b><i>c</i></b></p> <q><s>d</s></q></r>")
    inline = [token.raw for token in tokens if token.kind is TokenKind.START and not token.element.block]
    assert inline == ["<b>", "<i>"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<a><b></a>", "mismatched tag at line 1, column 8"),
        ("one\n<a", "at line 2, column 2"),
        ("a &nbsp; b", "undefined entity at line 1, column 2"),
        ("<?xml version='1.0'?><a/><b/>", "junk after document element at line 1, column 25"),
        ("</_><_>", "junk after document element"),
        ("a\x00b", "not well-formed"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "declares an entity"),
    ],
)
def test_what_is_not_well_formed_is_refused(text: str, said: str) -> None:
    with pytest.raises(MalformedMarkup, match=said):
        xml_tokens(text)
