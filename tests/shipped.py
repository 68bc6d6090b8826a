"""The shipped bundle, and the real text it is measured on."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from serving.bundle.bundle import Bundle, load_bundle

(BUNDLE,) = (Path(__file__).parents[1] / "models" / "en-fr").iterdir()  # one version at a time
LABEL = f"{BUNDLE.parent.name}/{BUNDLE.name}"  # as a server calls it


def corpora() -> Path:
    """The folder of the corpora; skips the test where there is none."""
    if "DRAGOMAN_DATA" not in os.environ:
        pytest.skip("DRAGOMAN_DATA is not set: what needs the real corpora is skipped")
    return Path(os.environ["DRAGOMAN_DATA"])


def read_lines(path: Path) -> list[str]:
    return gzip.decompress(path.read_bytes()).decode("utf-8").removesuffix("\n").split("\n")


def tatoeba_test() -> tuple[list[str], list[str]]:
    """The 800 everyday sentences of the enfr test set and their translations."""
    folder = corpora() / "enfr"
    columns = zip(*(read_lines(folder / f"test.{kind}.gz") for kind in ("source", "en", "fr")), strict=True)
    everyday = [(en, fr) for source, en, fr in columns if source == "tatoeba"]
    return [en for en, _ in everyday], [fr for _, fr in everyday]


def shipped() -> Bundle:
    return load_bundle(BUNDLE)
