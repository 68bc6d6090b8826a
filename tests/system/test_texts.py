"""Real text over gRPC, through models of three families: structure, protected spans and markup come back as they were.

The shipped Transformer translates; a recurrent and a decoder-only model, hardly trained, answer almost anything: what
is around a translation may not depend on it.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from scripts.families import FAMILIES, export, train
from serving.client import MimeType, Options, QualityFlag, Translation, TranslationClient
from tests.shipped import BUNDLE
from tests.system.more_texts import HTML, MORE, XML
from tests.system.served import server
from tests.system.texts import TEXTS

SHIPPED = "en-fr"
MODELS = (SHIPPED, "bahdanau", "decoder-only-prefix")
PLAIN = {kind: TEXTS.get(kind, ()) + MORE.get(kind, ()) for kind in sorted({*TEXTS, *MORE})}
TERMS = ("Blue Bottle", "Star Wars", "Red Hat", "Windows")
STEPS = 120  # of training, which has little to do with the outcome

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning", "ignore:.*litlogger.*")

_STRUCTURE = re.compile(r"\s{2,}|[^\S ]|^ | $")  # white space other than a space between words
_SURE = 0.995  # share of protected spans that are there exactly once


def plain(marked: str) -> str:
    return re.sub("[⟦⟧]", "", marked)


def protected(marked: str) -> list[str]:
    return re.findall("⟦(.*?)⟧", marked, re.DOTALL)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TranslationClient]:
    folder = tmp_path_factory.mktemp("texts")
    shutil.copytree(BUNDLE.parent, folder / "models" / SHIPPED)
    for name in MODELS[1:]:
        family, data = replace(FAMILIES[name], steps=STEPS), folder / f"{name}-data"
        family.task.write(data)
        assert train(family, data, folder / name)
        assert export(name, folder / name / "best.ckpt", folder / "models")
    with (
        server(folder / "models", "--default-model", SHIPPED) as addresses,
        TranslationClient(addresses.grpc) as client,
    ):
        yield client


class Answers:
    """The answers of one model to all texts, by kind."""

    def __init__(self, client: TranslationClient, model: str) -> None:
        def ask(texts: tuple[str, ...], **options: object) -> list[tuple[str, Translation]]:
            chosen = Options(alignments=True, **options)  # type: ignore[arg-type]
            result = client.translate([plain(text) for text in texts], chosen, model=model, deadline=300)
            return list(zip(texts, result.translations, strict=True))

        self.model = model
        self.plain = {kind: ask(texts, protected_terms=TERMS) for kind, texts in PLAIN.items()}
        self.html = ask(HTML, mime_type=MimeType.HTML)
        self.xml = ask(XML, mime_type=MimeType.XML)

    def protected(self) -> Iterator[tuple[str, Translation]]:
        """What has to be protected."""
        for found in self.plain.values():
            yield from found
        yield from (*self.html, *self.xml)

    def all(self) -> Iterator[tuple[str, Translation]]:
        for answers in (*self.plain.values(), self.html, self.xml):
            yield from answers


@pytest.fixture(scope="module", params=MODELS)
def answers(client: TranslationClient, request: pytest.FixtureRequest) -> Answers:
    return Answers(client, request.param)


@pytest.fixture(scope="module")
def shipped_answers(client: TranslationClient) -> Answers:
    return Answers(client, SHIPPED)


def test_there_are_twenty_texts_of_each_of_twenty_kinds() -> None:
    assert {len(texts) for texts in [*PLAIN.values(), HTML, XML]} == {20}
    assert len(PLAIN) + 2 == 20


@pytest.mark.timeout(900)  # the first one waits until the models are built
def test_structure_comes_back(answers: Answers) -> None:
    for found in answers.plain.values():
        for marked, translation in found:
            assert _STRUCTURE.findall(translation.text) == _STRUCTURE.findall(plain(marked)), (marked, translation.text)
    assert not any(translation.source_truncated for _, translation in answers.all())


def test_protected_spans_come_back_exactly_once(answers: Answers) -> None:
    right, wrong = 0, []
    for marked, translation in answers.protected():
        for span in protected(marked):
            if translation.text.count(span) == plain(marked).count(span):
                right += 1
            else:
                wrong.append((span, translation.text))
    print(f"{right} of {right + len(wrong)} spans exactly once")
    assert right >= _SURE * (right + len(wrong)), wrong


def test_what_is_no_language_comes_back_as_it_is(answers: Answers) -> None:
    for kind in ("not language", "lists"):
        for marked, translation in answers.plain[kind]:
            for marked_line, line in zip(marked.splitlines(), translation.text.splitlines(), strict=True):
                head, _, tail = marked_line.rpartition("⟧")
                assert line.startswith(plain(head))
                assert tail or line == plain(head)


class Tags(HTMLParser):
    """Start tags as they are written, how often each; checks that elements end in their order."""

    VOID = frozenset({"br", "hr", "img", "input", "meta"})

    def __init__(self, text: str, *, balanced: bool) -> None:
        super().__init__()
        self.found, self.open = Counter[str](), list[str]()
        self._balanced = balanced
        self.feed(text)
        self.close()
        assert not (balanced and self.open), text

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.found[self.get_starttag_text() or ""] += 1
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self.found[self.get_starttag_text() or ""] += 1

    def handle_endtag(self, tag: str) -> None:
        assert not self._balanced or self.open.pop() == tag

    def handle_comment(self, data: str) -> None:
        self.found[f"<!--{data}-->"] += 1


def test_html_is_balanced_with_the_same_tags(answers: Answers) -> None:
    for marked, translation in answers.html:
        assert Tags(translation.text, balanced=True).found == Tags(plain(marked), balanced=False).found, (
            translation.text
        )


def test_xml_is_well_formed_with_the_same_tags(answers: Answers) -> None:
    def tags(text: str) -> Counter[str]:
        root = ElementTree.fromstring(text if text.startswith("<?") else f"<_>{text}</_>")
        return Counter(f"{element.tag} {sorted(element.attrib.items())}" for element in root.iter())

    for marked, translation in answers.xml:
        assert tags(translation.text) == tags(plain(marked)), translation.text


def test_few_spans_have_to_be_appended(shipped_answers: Answers) -> None:
    flagged = [
        translation for _, translation in shipped_answers.all() if QualityFlag.SPAN_APPENDED in translation.flags
    ]
    assert len(flagged) <= 8, [translation.text for translation in flagged]


def test_spans_come_in_the_order_of_the_text(shipped_answers: Answers) -> None:
    several = [(protected(marked), found.text) for marked, found in shipped_answers.all() if len(protected(marked)) > 1]
    distinct = [(spans, text) for spans, text in several if len(set(spans)) == len(spans)]
    ordered = sum(sorted(spans, key=text.index) == spans for spans, text in distinct)
    assert ordered >= 0.95 * len(distinct)


def test_capitals_stay_capitals(shipped_answers: Answers) -> None:
    for marked, translation in shipped_answers.plain["capitals"]:
        answer = translation.text
        for span in protected(marked):
            answer = answer.replace(span, "")
        assert answer.isupper()
        assert translation.text != plain(marked)


def test_alignments_refer_to_the_texts(answers: Answers) -> None:
    for marked, translation in answers.all():
        text, answer = plain(marked), translation.text
        for link in translation.hypotheses[0].alignment:
            source = text[link.source_start : link.source_end]
            target = answer[link.target_start : link.target_end]
            assert source == source.strip() != ""
            assert target == target.strip() != ""


def test_a_protected_span_is_aligned_with_itself(shipped_answers: Answers) -> None:
    marked, translation = shipped_answers.plain["mail"][0]
    pairs = {
        (plain(marked)[one.source_start : one.source_end], translation.text[one.target_start : one.target_end])
        for one in translation.hypotheses[0].alignment
    }
    assert ("jane.doe@example.com", "jane.doe@example.com") in pairs
