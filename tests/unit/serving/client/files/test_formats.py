"""Every format: what is text in it, and the same file around translations."""

from __future__ import annotations

import io
import zipfile

import pytest

from serving.client.files.document import Document, FileError
from serving.client.files.formats import FORMATS

_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
MARKDOWN = """---
title: One
---
# My *red* house

The **cat** and [the dog](https://a.b "t") is `small \\* x`\\*.
It is late.

- One <b>bird</b>
  - Two ![birds](b.png)

> I am tired.
> So am I.

| Name | Age |
|------|-----|
| Old man | 12 |

```py
print("x")
```

<https://a.b>

Setext
======
"""
SUBTITLES = """1
00:00:01,000 --> 00:00:02,000 X1:1
Where is the cat? It is
in the <i>R&D</i> garden.

2
00:00:03,000 --> 00:00:04,000
- Good morning.
- Good evening.
"""
CATALOGUE = """# comment
msgid ""
msgstr ""
"Language: fr\\n"
"Content-Type: text/plain; charset=UTF-8\\n"

#: a.c:1
msgid "Open %s"
msgstr ""

#, fuzzy
msgid "Done"
msgstr "Fini"

msgctxt "x"
msgid "%d cat"
msgid_plural "%d cats"
msgstr[0] ""
msgstr[1] ""
"""
XLIFF = """<?xml version='1.0' encoding='UTF-8'?>
<xliff xmlns="urn:oasis:names:tc:xliff:document:1.2" version="1.2">
  <trans-unit id="1">
    <source>The <g id="1">red</g> <ph id="2">{0}</ph> &amp; more</source>{target}
  </trans-unit>
  <trans-unit id="2"><source>Done</source><target>Fini</target></trans-unit>
</xliff>
"""


def read(suffix: str, text: str | bytes) -> Document:
    return FORMATS[suffix](text.encode() if isinstance(text, str) else text)


@pytest.mark.parametrize(
    ("suffix", "text", "texts"),
    [
        (".txt", "One.\r\n\r\n  Two.\n", ["One.\r", "  Two."]),
        (".html", "<p>One</p>\r\n", ["<p>One</p>\r\n"]),
        (".json", '{"a": "x", "b" : [1.10, "\\"y\\"", null], "c": {}}\r\n', ["x", '"y"']),
        (".json", '["\\u00e9"]', ["é"]),
        (".srt", "\r\n1\r\n0 --> 1\r\nOne.", ["One."]),
        (".vtt", "WEBVTT\n\nNOTE x\n\nid\n0 --> 1 align:start\n<v Tom>R&amp;D\n", ["<v Tom>R&amp;D"]),
        (".po", CATALOGUE, ["Open %s", "%d cat", "%d cats"]),
    ],
)
def test_the_texts_of_a_file(suffix: str, text: str, texts: list[str]) -> None:
    document = read(suffix, text)
    assert list(document.texts) == texts
    if suffix != ".po":
        assert document.rebuild(document.texts) == text.encode()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("suffix", [".txt", ".md", ".srt", ".json", ".html"])
def test_encoding_and_line_ends_come_back(suffix: str, end: str, encoding: str) -> None:
    text = {".json": '"é"\n', ".srt": "1\n0 --> 1\né\n\n"}.get(suffix, "é\n\ne\n")
    data = text.replace("\n", end).encode(encoding)
    document = read(suffix, data)
    assert document.rebuild(document.texts) == data


def test_markdown() -> None:
    document = read(".md", MARKDOWN)
    assert document.texts[0] == 'My <span i="0">red</span> house'
    assert document.texts[1] == (
        'The <span i="0">cat</span> and <span i="1">the dog</span> is <code i="2">x</code><img i="3"/>. It is late.'
    )
    assert len(document.texts) == 11
    assert document.rebuild(document.texts).decode() == MARKDOWN.replace("\\*.\nIt", "\\*. It").replace(
        "tired.\n> So", "tired. So"
    )


def test_markdown_follows_the_order_of_a_translation() -> None:
    document = read(".md", "A **b** [c](d) `e`!")
    answer = '<span i="1">C &amp; c</span> <code i="2">x</code> a <span i="0">B</span>!'
    assert document.rebuild([answer]) == b"[C & c](d) `e` a **B**!"


def test_subtitles_keep_their_lines() -> None:
    document = read(".srt", SUBTITLES)
    assert list(document.texts) == [
        "Where is the cat? It is in the <i>R&D</i> garden.",
        "- Good morning.<br>- Good evening.",
    ]
    answer = document.rebuild(["Le chat est dans le jardin <i>R&amp;D</i>.", "- Bonjour.<br>- Bonsoir."]).decode()
    assert answer.splitlines()[2:4] == ["Le chat est dans le", "jardin <i>R&D</i>."]
    assert answer.splitlines()[-2:] == ["- Bonjour.", "- Bonsoir."]
    assert [line for line in answer.splitlines() if "-->" in line] == [
        line for line in SUBTITLES.splitlines() if "-->" in line
    ]


def test_a_catalogue_gets_what_it_lacks() -> None:
    answer = read(".po", CATALOGUE).rebuild(["Ouvrir %s", "%d chat", "%d chats"]).decode()
    assert answer == CATALOGUE.replace('msgid "Open %s"\nmsgstr ""', 'msgid "Open %s"\nmsgstr "Ouvrir %s"').replace(
        'msgstr[0] ""\nmsgstr[1] ""', 'msgstr[0] "%d chat"\nmsgstr[1] "%d chats"'
    )


def test_xliff_gets_the_targets_it_lacks() -> None:
    document = read(".xliff", XLIFF.replace("{target}", ""))
    assert [text.replace(' xmlns="urn:oasis:names:tc:xliff:document:1.2"', "") for text in document.texts] == [
        'The <g id="1">red</g> <ph id="2" translate="no">{0}</ph> &amp; more'
    ]
    answer = document.rebuild(['Le <ph id="2" translate="no">{0}</ph> <g id="1">rouge</g> &lt;']).decode()
    target = '\n    <target>Le <ph id="2">{0}</ph> <g id="1">rouge</g> &lt;</target>'
    assert answer == XLIFF.replace("{target}", target)


def word_document(*paragraphs: str) -> bytes:
    body = "".join(f"<w:p><w:pPr><w:jc/></w:pPr>{paragraph}</w:p>" for paragraph in paragraphs)
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr("word/document.xml", f'<w:document xmlns:w="{_WORD}"><w:body>{body}</w:body></w:document>')
        archive.writestr("word/styles.xml", "<x/>")
    return written.getvalue()


def run(text: str, properties: str = "") -> str:
    return f'<w:r>{properties}<w:t xml:space="preserve">{text}</w:t></w:r>'


def test_word_documents_keep_formats_with_their_words() -> None:
    bold, drawing = "<w:rPr><w:b/></w:rPr>", "<w:r><w:drawing/></w:r>"
    data = word_document(run("The ") + run("red", bold) + drawing + run(" car"), drawing, run("R&amp;D"))
    document = read(".docx", data)
    assert list(document.texts) == [
        '<span i="0">The </span><span i="1">red</span><img i="2"/><span i="3"> car</span>',
        '<span i="0">R&amp;D</span>',
    ]
    answer = document.rebuild(
        ['<span i="0">La</span> <span i="3">voiture</span> <span i="1">rouge</span><img i="2"/>', document.texts[1]]
    )
    with zipfile.ZipFile(io.BytesIO(answer)) as archive:
        xml = archive.read("word/document.xml").decode()
        assert archive.read("word/styles.xml") == b"<x/>"
    expected = run("La ") + run("voiture ") + run("rouge", bold) + drawing
    assert xml.partition("\n")[2] == (
        f'<w:document xmlns:w="{_WORD}"><w:body><w:p><w:pPr><w:jc/></w:pPr>{expected}</w:p>'
        f"<w:p><w:pPr><w:jc/></w:pPr>{drawing}</w:p><w:p><w:pPr><w:jc/></w:pPr>{run('R&amp;D')}</w:p></w:body></w:document>"
    )


def test_tabs_breaks_links_and_insertions_of_word_are_no_hindrance() -> None:
    bold = "<w:rPr><w:b/></w:rPr>"
    mixed = f"<w:r>{bold}<w:t>One</w:t><w:tab/><w:t>two</w:t><w:br/></w:r>"
    data = word_document(mixed + f"<w:ins>{run('three')}</w:ins>", f"<w:hyperlink>{run('four')}</w:hyperlink>")
    document = read(".docx", data)
    assert document.left == []
    assert list(document.texts) == [
        '<span i="0">One</span><img i="1"/><span i="2">two</span><img i="3"/><span i="4">three</span>',
        '<span i="0">four</span>',
    ]
    with zipfile.ZipFile(io.BytesIO(document.rebuild(document.texts))) as archive:
        xml = archive.read("word/document.xml").decode()
    assert xml.count(bold) == 4
    assert "<w:tab/>" in xml
    assert "<w:ins>" in xml


def test_what_stays_as_it_is_is_told() -> None:
    field = f'<w:fldSimple w:instr="AUTHOR">{run("Jane")}</w:fldSimple>'
    page = f'<w:fldSimple w:instr="PAGE">{run("3")}</w:fldSimple>'
    assert read(".docx", word_document(run("By ") + field, page)).left == ["Jane"]
    document = read(".md", "| A | B |\n|---|---|\n| one | two \\| three |\n")
    assert list(document.texts) == ["A", "B", "one"]
    assert document.left == ["two | three"]


@pytest.mark.parametrize(
    ("suffix", "data", "said"),
    [
        (".json", b"{", "is not JSON"),
        (".xliff", b"<a>", "is not XML"),
        (".docx", b"x", "is not a Word document"),
        (".txt", b"\xff", "is not UTF-8"),
    ],
)
def test_what_is_not_what_its_name_says_is_refused(suffix: str, data: bytes, said: str) -> None:
    with pytest.raises(FileError, match=said):
        FORMATS[suffix](data)
