"""The description of the web port is what the proto and the routes say, and so is the page of the documentation."""

import json
import re
from pathlib import Path
from typing import Any, cast

from starlette.routing import Route

from scripts import openapi
from serving.api.web import deepl, libretranslate
from serving.api.web.application import web_application

ROOT = Path(__file__).parents[5]


def test_it_is_generated_from_the_proto() -> None:
    assert json.loads((ROOT / openapi.TARGET).read_text()) == openapi.described(), "run make protos"


def test_it_names_every_route() -> None:
    class Endpoints:
        def route(self, verb: str, path: str, *_: object, **__: object) -> Route:
            return Route(path, lambda request: None, methods=[verb])

    nothing = cast("Any", None)
    application = cast(
        "Any",
        web_application(cast("Any", Endpoints()), nothing, nothing, nothing, needs_token=False, is_ready=lambda: True),
    )
    routes = {
        (method.lower(), route.path)
        for route in application._application.routes
        for method in route.methods - {"HEAD"}
        if "." not in route.path and route.path not in {"/", "/docs"}
    }
    described = {(verb, path) for path, verbs in openapi.described()["paths"].items() for verb in verbs}
    assert described == routes


def test_every_reference_leads_somewhere() -> None:
    document = openapi.described()
    names = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(document)))
    assert names == document["components"]["schemas"].keys()


def test_the_page_names_every_field_of_the_forms() -> None:
    page = (ROOT / "docs" / "http.md").read_text()
    for title, fields in (
        ("LibreTranslate", libretranslate.TRANSLATE_FIELDS),
        ("DeepL", deepl.TRANSLATE_FIELDS + deepl.IGNORED_FIELDS),
    ):
        section = page.split(f"\n## {title}\n")[1].split("\n## ")[0]
        named = {
            name for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
        }
        assert named == set(fields), title
