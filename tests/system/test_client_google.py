"""Google's own client of Cloud Translation, unchanged, against the server with the shipped bundle, over TLS."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme

from serving.tokens import Role, new_token
from tests.integration.certificates import issued
from tests.shipped import BUNDLE, LABEL
from tests.system.served import server

ENGLISH, FRENCH = "A dog runs in the snow.", "Un chien court dans la neige."


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each call returned."""
    folder = Path(tmp_path_factory.mktemp("google"))
    ca = trustme.CA()
    files = issued(ca, folder, "server")
    ca.cert_pem.write_to_path(folder / "ca.pem")
    token, line = new_token("somebody", Role.TRANSLATE)
    (folder / "tokens").write_text(line + "\n")
    options = ["--tls-cert", str(files.cert), "--tls-key", str(files.key), "--tokens", str(folder / "tokens")]
    with server(BUNDLE.parents[1], *options) as addresses:
        command = [sys.executable, "-m", "tests.system.google_calls", addresses.grpc, token, str(folder / "ca.pem")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_translate(told: dict[str, Any]) -> None:
    assert told["one"] == [[FRENCH, "", LABEL]]
    assert told["model"] == [[FRENCH, "en", LABEL]]


def test_a_list_with_detection(told: dict[str, Any]) -> None:
    assert told["list"] == [[FRENCH, "en", LABEL], [FRENCH, "fr", ""]]
    assert told["detected"][0] == "fr"


def test_markup(told: dict[str, Any]) -> None:
    assert told["markup"] == [["Un chien court dans la <b>neige</b>.", "en", LABEL]]
    assert told["default"] == told["markup"]


def test_languages(told: dict[str, Any]) -> None:
    assert told["languages"] == [["en", "English", True, False], ["fr", "French", False, True]]


def test_errors(told: dict[str, Any]) -> None:
    wrong = "INVALID_ARGUMENT: target_language_code: is 'de', which no model has here; served: en to fr"
    assert told["wrong language"].startswith(wrong)
    assert told["nothing"] == "INVALID_ARGUMENT: contents: is empty; give at least one text"
    assert told["transliteration"].startswith("INVALID_ARGUMENT: transliteration_config: is not honoured here")
    assert told["stranger"].startswith("UNAUTHENTICATED: show who you are")
    assert told["bearer"] == 2
    assert told["other method"].startswith("UNIMPLEMENTED")


def test_a_glossary_that_is_not_there(told: dict[str, Any]) -> None:
    assert told["glossary"].startswith("INVALID_ARGUMENT: glossary_config")
