"""``python -m tests.system.google_calls ADDRESS TOKEN CERTIFICATE``: what Google's client gets, as JSON.

A process of its own, as one process cannot hold Google's messages and ours, which bear the same names.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from google.api_core.exceptions import GoogleAPICallError
from google.auth import api_key
from google.auth.credentials import Credentials
from google.cloud import translate_v3
from google.cloud.translate_v3.services.translation_service.transports import TranslationServiceGrpcTransport
from google.oauth2 import credentials as oauth2

PARENT = "projects/any/locations/global"


def client_of(address: str, key: Credentials, certificate: Path) -> translate_v3.TranslationServiceClient:
    """Google's client with an endpoint of ours."""
    trusted = grpc.ssl_channel_credentials(certificate.read_bytes())
    transport = TranslationServiceGrpcTransport(host=address, credentials=key, ssl_channel_credentials=trusted)
    return translate_v3.TranslationServiceClient(transport=transport)


def told(call: Callable[[], Any]) -> Any:
    """The message of an error, after its status."""
    try:
        return call()
    except GoogleAPICallError as error:
        return f"{getattr(error.grpc_status_code, 'name', None)}: {error.message}"


def main(address: str, token: str, certificate: Path) -> dict[str, Any]:
    """Call every method in every way."""
    client = client_of(address, api_key.Credentials(token), certificate)
    english, french = "A dog runs in the snow.", "Un chien court dans la neige."

    def translated(*texts: str, **more: Any) -> list[list[str]]:
        request = {"parent": PARENT, "contents": texts, "target_language_code": "fr", "mime_type": "text/plain"} | more
        found = client.translate_text(request=request)
        return [[one.translated_text, one.detected_language_code, one.model] for one in found.translations]

    bearer = client_of(address, oauth2.Credentials(token), certificate)
    stranger = client_of(address, api_key.Credentials("wrong"), certificate)
    languages = client.get_supported_languages(parent=PARENT, display_language_code="en").languages
    return {
        "one": translated(english, source_language_code="en"),
        "list": translated(english, french),
        "model": translated(english, model=f"{PARENT}/models/general/nmt"),
        "markup": translated("A dog runs in the <b>snow</b>.", mime_type="text/html"),
        "default": translated("A dog runs in the <b>snow</b>.", mime_type=""),
        "languages": [
            [one.language_code, one.display_name, one.support_source, one.support_target] for one in languages
        ],
        "detected": [one.language_code for one in client.detect_language(parent=PARENT, content=french).languages],
        "wrong language": told(lambda: translated(english, target_language_code="de")),
        "nothing": told(translated),
        "glossary": told(lambda: translated(english, glossary_config={"glossary": f"{PARENT}/glossaries/mine"})),
        "transliteration": told(lambda: translated(english, transliteration_config={"enable_transliteration": True})),
        "bearer": len(bearer.get_supported_languages(parent=PARENT).languages),
        "stranger": told(lambda: stranger.get_supported_languages(parent=PARENT).languages),
        "other method": told(lambda: list(client.list_glossaries(parent=PARENT))),
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))))
