"""XLIFF 1.2 and 2.0: segments that have no target yet get one."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from html import escape
from typing import Any

from serving.client.files.document import Document, FileError
from serving.messages import MimeType

_CODES = {"ph", "bpt", "ept", "it"}  # what is in them is of the original format


def read(data: bytes) -> Document:
    """Read the sources without a target.

    Raises:
        FileError: It is not well-formed XML.
    """
    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True, strip_cdata=False)
    try:
        tree = etree.ElementTree(etree.fromstring(data, parser))
    except etree.XMLSyntaxError as error:
        raise FileError(f"is not XML: {error}") from error
    pending: list[tuple[Any, Any]] = []
    for source in tree.iter("{*}source"):
        target = source.getparent().find("{*}target")
        translated = target is not None and ("".join(target.itertext()).strip() or len(target))
        if source.getparent().get("translate") != "no" and not translated:
            pending.append((source, target))

    def rebuild(translations: Sequence[str]) -> bytes:
        for (source, target), translation in zip(pending, translations, strict=True):
            _write(etree, source, target, translation)
        encoding, declared = tree.docinfo.encoding or "UTF-8", data.lstrip().startswith(b"<?xml")
        written: bytes = etree.tostring(tree, encoding=encoding, xml_declaration=declared)
        return written + b"\n" * data.endswith(b"\n")

    return Document([_inner(etree, source) for source, _ in pending], rebuild, MimeType.XML)


def _inner(etree: Any, source: Any) -> str:
    """Return what is in an element, as XML."""
    copy = deepcopy(source)
    for element in copy.iter("{*}*"):
        if etree.QName(element).localname in _CODES:
            element.set("translate", "no")
    etree.cleanup_namespaces(copy)
    pieces = [escape(copy.text or "", quote=False)]
    pieces += [etree.tostring(child, encoding="unicode") for child in copy]
    return "".join(pieces)


def _write(etree: Any, source: Any, target: Any, translation: str) -> None:
    namespace = etree.QName(source).namespace
    tag = f"{{{namespace}}}target" if namespace else "target"
    outer = etree.fromstring(f'<_ xmlns="{namespace}">{translation}</_>' if namespace else f"<_>{translation}</_>")
    for element in outer.iter("{*}*"):
        if etree.QName(element).localname in _CODES:
            element.attrib.pop("translate", None)
    if target is None:
        target, unit = etree.Element(tag), source.getparent()
        target.tail, source.tail = source.tail, unit.text
        unit.insert(unit.index(source) + 1, target)
    target.text = outer.text
    target[:] = list(outer)
    etree.cleanup_namespaces(target)
