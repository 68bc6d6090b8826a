"""Names of models, fetched from a hub on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from export.errors import ExportError
from export.readers import hub

pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed (extra hub)")

NAME, COMMIT = "Nobody/opus-mt-xx-yy", "a" * 40


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as one model needs; ``asked`` names the files that were read."""

    files: ClassVar[dict[str, bytes]] = {}
    asked: ClassVar[set[str]] = set()

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path, _, _ = self.path.partition("?")
        if path == f"/api/models/{NAME}/revision/main":
            self.answer(json.dumps({"id": NAME, "sha": COMMIT, "siblings": []}).encode())
        elif path == f"/api/models/{NAME}/tree/{COMMIT}":
            tree = [
                {"type": "file", "path": name, "size": len(content), "oid": f"{number:040}"}
                for number, (name, content) in enumerate(self.files.items())
            ]
            self.answer(json.dumps(tree).encode())
        elif (name := path.removeprefix(f"/{NAME}/resolve/{COMMIT}/")) in self.files:
            self.asked.add(name)
            self.answer(self.files[name], etag=f'"{list(self.files).index(name):040}"')
        else:
            self.answer(b"{}", status=404)

    def answer(self, content: bytes, status: int = 200, etag: str = '"0"') -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", etag)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    from huggingface_hub import constants

    monkeypatch.setattr(Hub, "files", {})
    monkeypatch.setattr(Hub, "asked", set())
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield Hub
    server.shutdown()
    server.server_close()


def test_only_what_is_no_path_and_has_an_owner_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert hub.is_name("Helsinki-NLP/opus-mt-en-de")
    (tmp_path / "models" / "mine").mkdir(parents=True)
    for path in ("models/mine", "opus-mt-en-de", "/models/mine", "../models", "a/b/c", "./models", ""):
        assert not hub.is_name(path)


def test_a_model_is_fetched_without_the_weights_of_other_frameworks(served: type[Hub]) -> None:
    served.files |= {
        "config.json": b'{"model_type": "marian"}',
        "source.spm": b"1",
        "model.safetensors": b"2",
        "pytorch_model.bin": b"3",
        "tf_model.h5": b"4",
        "rust_model.ot": b"5",
        "README.md": b"6",
    }
    folder = hub.fetch(NAME)
    assert {path.name for path in folder.iterdir()} == {"config.json", "source.spm", "model.safetensors"}
    assert (folder / "source.spm").read_bytes() == b"1"
    assert served.asked == {"config.json", "source.spm", "model.safetensors"}


def test_pickled_weights_are_fetched_where_there_are_no_others(served: type[Hub]) -> None:
    served.files |= {"config.json": b"{}", "pytorch_model.bin": b"3"}
    assert (hub.fetch(NAME) / "pytorch_model.bin").read_bytes() == b"3"


def test_what_the_hub_does_not_have_is_refused_in_one_sentence(served: type[Hub]) -> None:
    with pytest.raises(ExportError, match="there is no Nobody/other here, and it cannot be fetched from the hub"):
        hub.fetch("Nobody/other")
