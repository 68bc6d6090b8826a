"""Requests of callers: sentences and beam sizes drawn from lists, some cancelled before the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

from loadtests.service.arrivals import Shape
from serving.pb import translation_service_pb2 as pb


@dataclass(frozen=True)
class Ask:
    """One call to make.

    Attributes:
        request: A TranslateRequest, serialized before the run to keep the generator cheap.
        beam: Its beam size.
        abandon_after: Seconds after which the caller cancels, if there is no answer yet; None for never.
    """

    request: bytes
    beam: int
    abandon_after: float | None = None


@dataclass(frozen=True)
class Arrival:
    """A call that is due at a time, in seconds from the start."""

    due: float
    ask: Ask


@dataclass(frozen=True)
class Traffic:
    """A population of callers."""

    texts: Sequence[str]  # drawn with equal probability, as are beam sizes; name one twice to draw it twice as often
    beams: Sequence[int]  # beam sizes
    abandoned: float = 0.0  # share of calls whose caller goes away
    patience: float = 1.0  # seconds within which those go away, evenly distributed

    def draw(self, random: Random) -> Ask:
        """Draw the next call."""
        text, beam = random.choice(self.texts), random.choice(self.beams)
        leaves = random.random() < self.abandoned
        return Ask(_encoded(text, beam), beam, random.uniform(0.0, self.patience) if leaves else None)

    def arrivals(self, shape: Shape, seed: int) -> list[Arrival]:
        """Return a call for each due time of a shape; equal seeds give equal calls."""
        random = Random(seed)
        return [Arrival(due, self.draw(random)) for due in shape.due_times(seed).tolist()]


@cache
def _encoded(text: str, beam: int) -> bytes:
    # Words are not tokens: a line of few words can still be longer than the model takes, and must not fail for it.
    return pb.TranslateRequest(
        contents=[text],
        options=pb.DecodingOptions(beam_size=beam),
        long_input_policy=pb.LONG_INPUT_POLICY_TRUNCATE,
    ).SerializeToString()
