"""The bundle, the sentences and the device of every check; ``make gpu-check`` passes the options of docs/gpu.md."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from loadtests.offline.corpus import Corpus, token_ids
from loadtests.offline.gpu_model import GpuModel, add_options, card, text, unusable
from loadtests.offline.searches import Ids, Search
from loadtests.report import write_json
from serving.bundle.bundle import Bundle, load_bundle
from serving.decoding.hypothesis import FinishedHypothesis


def _add_options(add: Any) -> None:
    add_options(add)
    add("--requests", type=int, default=10_000, help="mixed requests, for memory (default: 10000)")


def pytest_addoption(parser: pytest.Parser) -> None:
    _add_options(parser.getgroup("gpu").addoption)


@dataclass(eq=False)
class Check:
    """A bundle on a device, its sentences, and the figures that were found."""

    asked: argparse.Namespace
    bundle: Bundle
    corpus: Corpus
    sources: list[Ids]
    figures: dict[str, Any] = field(default_factory=dict)
    _translations: dict[tuple[str, str, int], list[FinishedHypothesis]] = field(default_factory=dict)

    def open(self, precision: str) -> GpuModel:
        return GpuModel(self.asked.bundle, precision, self.asked.device)

    def translations(self, device: str, precision: str, beam: int) -> list[FinishedHypothesis]:
        """Translate all sentences, once."""
        key = device, precision, beam
        if key not in self._translations:
            searches = [Search(beam, self.asked.max_length)] * len(self.sources)
            with GpuModel(self.asked.bundle, precision, device) as model:
                self._translations[key] = model.translate(self.sources, searches)
        return self._translations[key]

    def note(self, kind: str, name: str, **figures: object) -> None:
        """Keep figures for the results, which are written whether the limits hold or not."""
        self.figures.setdefault(kind, {})[name] = figures


@pytest.fixture(scope="session")
def check(pytestconfig: pytest.Config) -> Iterator[Check]:
    # Without the options of the command line, which pytest knows only if it is given this folder, the defaults hold.
    parser = argparse.ArgumentParser()
    _add_options(parser.add_argument)
    asked = parser.parse_args([], copy.copy(pytestconfig.option))
    if reason := unusable(asked.device):
        pytest.skip(reason)
    bundle = load_bundle(asked.bundle)
    corpus = text(asked, bundle)
    found = Check(asked, bundle, corpus, token_ids(bundle, corpus.sources))
    yield found
    about = {"card": card(asked.device), "bundle": str(asked.bundle), "sentences": len(corpus.sources)}
    write_json(asked.out / "checks.json", {**about, **found.figures})
