"""The shipped bundle in memory, and the real text it is measured on."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from serving.bundle.bundle import Bundle, load_bundle
from serving.bundle.tokenizer import SubwordTokenizer
from serving.engine.engine import Engine
from serving.engine.translator import Translator
from serving.runtime.onnx_runner import OnnxRunner
from serving.runtime.runner import Runner

BUNDLE = Path(__file__).parents[2] / "models" / "en-fr" / "3"


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


def open_runner(bundle: Bundle, precision: str = "auto") -> OnnxRunner:
    return OnnxRunner.open(bundle, precision=precision, device="cpu")


@contextmanager
def translator_of(bundle: Bundle, runner: Runner) -> Iterator[Translator]:
    """A model behind an engine of its own."""
    manifest = bundle.manifest
    sides = (bundle.path(file).read_bytes() for file in (manifest.tokenizer.source, manifest.tokenizer.target))
    tokenizer = SubwordTokenizer(*sides, special_ids=manifest.special_ids, reverse_source=manifest.reverse_source)
    engine = Engine(runner, special_ids=manifest.special_ids, vocabulary_size=manifest.vocabulary_size)
    translator = Translator(manifest, tokenizer, engine)
    try:
        yield translator
    finally:
        translator.close()
        engine.stop()


def shipped() -> Bundle:
    return load_bundle(BUNDLE)
