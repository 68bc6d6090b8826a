"""Writes ``openapi.json``, the description of the web port, from the proto, its comments and a list of other routes."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc

from serving.api.web import deepl, deepl_glossaries, libretranslate

ROOT = Path(__file__).parents[1]
PROTO = "translation_service.proto"
TARGET = "serving/api/web/static/openapi.json"
JSON, FORM, EVENTS = "application/json", "application/x-www-form-urlencoded", "text/event-stream"

_Field = FieldDescriptorProto
_SCALARS: dict[int, dict[str, str]] = {
    _Field.TYPE_STRING: {"type": "string"},
    _Field.TYPE_BOOL: {"type": "boolean"},
    _Field.TYPE_INT32: {"type": "integer", "format": "int32"},
    _Field.TYPE_INT64: {"type": "string", "format": "int64"},
    _Field.TYPE_FLOAT: {"type": "number", "format": "float"},
    _Field.TYPE_DOUBLE: {"type": "number", "format": "double"},
}
_WELL_KNOWN = {".google.protobuf.Duration": {"type": "string", "format": "duration"}}
# Verb, path, what it does, fields of the request. The schemas of other services' forms are theirs to define.
FOREIGN: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("post", "/translate", "LibreTranslate: translates a text or a list of texts.", libretranslate.TRANSLATE_FIELDS),
    ("post", "/detect", "LibreTranslate: tells the language of a text.", libretranslate.DETECT_FIELDS),
    ("get", "/languages", "LibreTranslate: lists languages and what each can be translated into.", ()),
    ("get", "/frontend/settings", "LibreTranslate: tells what a page in front of the server has to know.", ()),
    ("get", "/health", "LibreTranslate: tells whether the server translates; open to everyone.", ()),
    ("post", "/v2/translate", "DeepL: translates a list of texts.", deepl.TRANSLATE_FIELDS + deepl.IGNORED_FIELDS),
    ("get", "/v2/languages", "DeepL: lists the languages of one side.", ()),
    ("get", "/v2/usage", "DeepL: tells how many characters were translated for the caller.", ()),
    ("get", "/v2/glossary-language-pairs", "DeepL: lists the languages that a glossary may be for.", ()),
    ("post", "/v2/glossaries", "DeepL: keeps a glossary.", deepl_glossaries.CREATE_FIELDS),
    ("get", "/v2/glossaries", "DeepL: lists the caller's glossaries.", ()),
    ("get", "/v2/glossaries/{glossary_id}", "DeepL: describes a glossary.", ()),
    ("delete", "/v2/glossaries/{glossary_id}", "DeepL: removes a glossary.", ()),
    ("get", "/v2/glossaries/{glossary_id}/entries", "DeepL: returns the terms of a glossary.", ()),
)


def described() -> dict[str, Any]:
    """Return the document."""
    file = _proto()
    schemas = dict(sorted(_schemas(file)))
    title = {"title": "Dragoman", "version": "1", "description": "Translation by the models that a server has loaded."}
    needed = _closure(
        schemas, {"TranslateRequest", "TranslateResponse", "TranslateStreamResponse", "ListModelsResponse"}
    )
    return {
        "openapi": "3.1.0",
        "info": title,
        "paths": _paths(schemas),
        "components": {
            "schemas": {name: schemas[name] for name in schemas if name in needed},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _proto() -> FileDescriptorProto:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "descriptors"
        source = ROOT / "protos" / "dragoman" / "v1"
        options = [f"-I{source}", f"-I{Path(protoc.__file__).parent / '_proto'}", "--include_source_info"]
        if protoc.main(["protoc", *options, f"--descriptor_set_out={target}", str(source / PROTO)]):
            raise SystemExit("protoc failed")
        (file,) = FileDescriptorSet.FromString(target.read_bytes()).file
    return file


def _schemas(file: FileDescriptorProto) -> Iterator[tuple[str, dict[str, Any]]]:
    comments = {tuple(place.path): _one_line(place.leading_comments) for place in file.source_code_info.location}
    for index, message in enumerate(file.message_type):
        yield message.name, _message(message, (4, index), comments)
    for index, enum in enumerate(file.enum_type):
        values = [value.name for value in enum.value]
        yield enum.name, {"type": "string", "description": comments.get((5, index), ""), "enum": values}


def _message(message: DescriptorProto, place: tuple[int, ...], comments: dict[tuple[int, ...], str]) -> dict[str, Any]:
    maps = {nested.name for nested in message.nested_type if nested.options.map_entry}
    properties = {
        field.name: _property(field, maps) | {"description": comments.get((*place, 2, index), "")}
        for index, field in enumerate(message.field)
    }
    return {"type": "object", "description": comments.get(place, ""), "properties": properties}


def _property(field: _Field, maps: set[str]) -> dict[str, Any]:
    name = field.type_name.rpartition(".")[2]
    if name in maps:
        return {"type": "object", "additionalProperties": {"type": "string"}}
    one = _SCALARS.get(field.type) or _WELL_KNOWN.get(field.type_name) or {"$ref": f"#/components/schemas/{name}"}
    return {"type": "array", "items": one} if field.label == _Field.LABEL_REPEATED else dict(one)


def _closure(schemas: dict[str, Any], names: set[str]) -> set[str]:
    """Return the schemas that some refer to, themselves included, as far as there are such."""
    found: set[str] = set()
    waiting = names & schemas.keys()
    while waiting:
        found |= waiting
        text = json.dumps([schemas[name] for name in waiting])
        waiting = set(re.findall(r"#/components/schemas/(\w+)", text)) - found
    return found


def _paths(schemas: dict[str, Any]) -> dict[str, Any]:
    answers = {JSON: _reference("TranslateResponse")}
    if "TranslateStreamResponse" in schemas:
        answers[EVENTS] = _reference("TranslateStreamResponse")
    paths: dict[str, Any] = {
        "/v1/translate": {
            "post": {
                "summary": "Translates a list of texts with the same options.",
                "requestBody": {"required": True, "content": {JSON: _reference("TranslateRequest")}},
                "responses": {"200": {"description": "The translations.", "content": answers}},
            }
        },
        "/v1/models": {
            "get": {
                "summary": "Lists the models that are served.",
                "responses": {
                    "200": {"description": "The models.", "content": {JSON: _reference("ListModelsResponse")}}
                },
            }
        },
    }
    for verb, path, summary, fields in FOREIGN:
        operation: dict[str, Any] = {"summary": summary, "responses": {"200": {"description": "Done."}}}
        if fields:
            schema = {"schema": {"type": "object", "properties": {name: {} for name in fields}}}
            operation["requestBody"] = {"required": True, "content": {JSON: schema, FORM: schema}}
        if named := re.findall(r"\{(\w+)\}", path):
            string = {"type": "string"}
            operation["parameters"] = [
                {"name": name, "in": "path", "required": True, "schema": string} for name in named
            ]
        paths.setdefault(path, {})[verb] = operation
    return paths


def _reference(name: str) -> dict[str, Any]:
    return {"schema": {"$ref": f"#/components/schemas/{name}"}}


def _one_line(comment: str) -> str:
    return " ".join(comment.split())


if __name__ == "__main__":
    written = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / TARGET
    written.write_text(json.dumps(described(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
