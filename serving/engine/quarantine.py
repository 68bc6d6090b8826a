"""Sentences that break the engine: each gets a second try, alone, and no third one for a while."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto

from serving.engine.submission import Sentence

_SECONDS = 3600.0
_MOST = 1024  # sentences remembered

Fingerprint = bytes


class Verdict(Enum):
    """What is to be done with a sentence."""

    CLEAR = auto()
    ALONE = auto()  # it was there when a step failed: the next one to fail shall be its own
    REFUSED = auto()


@dataclass
class _Suspicion:
    strikes: int
    since: float


class Quarantine:
    """Memory of the sentences that were in a lane when it failed; not safe to use from several threads at once."""

    def __init__(self) -> None:
        """Suspect nothing."""
        self._suspicions: OrderedDict[Fingerprint, _Suspicion] = OrderedDict()  # the latest last

    def accuse(self, sentences: Iterable[Sentence], now: float) -> None:
        """Note that a lane failed with these sentences in it."""
        for fingerprint in {_fingerprint(sentence) for sentence in sentences}:
            known = self._suspicions.pop(fingerprint, None)
            self._suspicions[fingerprint] = _Suspicion(known.strikes + 1 if known else 1, now)
        while len(self._suspicions) > _MOST:
            self._suspicions.popitem(last=False)

    def acquit(self, sentence: Sentence) -> None:
        """Note that a sentence was decoded."""
        if self._suspicions:
            self._suspicions.pop(_fingerprint(sentence), None)

    def verdict(self, sentence: Sentence, now: float) -> Verdict:
        """Say what is to be done with a sentence."""
        if not self._suspicions:
            return Verdict.CLEAR
        fingerprint = _fingerprint(sentence)
        suspicion = self._suspicions.get(fingerprint)
        if suspicion is None:
            return Verdict.CLEAR
        if now - suspicion.since > _SECONDS:
            del self._suspicions[fingerprint]
            return Verdict.CLEAR
        return Verdict.ALONE if suspicion.strikes == 1 else Verdict.REFUSED


def _fingerprint(sentence: Sentence) -> Fingerprint:
    """Return what a repeated sentence has in common with the first: what the model reads, and the beam size."""
    beam = sentence.options.beam_size.to_bytes(4, "little")
    return hashlib.blake2b(sentence.source.tobytes() + beam, digest_size=16).digest()
