"""Limits of one client, written as ``calls=4 rate=10 characters=2000 quota=1000000 streams=2 beam=4``."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class ClientLimits:
    """What one client may ask for; 0 is no limit.

    Attributes:
        calls: In flight.
        streams: Streaming calls in flight, which are among ``calls``.
        rate: Calls a second, with a burst of as many.
        characters: Characters of texts a second, with a burst of as many; a request of more needs a full second's.
        quota: Characters of texts a day, which begins with the first call.
        beam: Beam size, that of a search for terms or alternatives included.
    """

    calls: int = 0
    streams: int = 0
    rate: float = 0.0
    characters: float = 0.0
    quota: int = 0
    beam: int = 0

    def __str__(self) -> str:
        """Return the limits as they are written."""
        return " ".join(f"{field.name}={value}" for field in fields(self) if (value := getattr(self, field.name)))

    @property
    def unlimited(self) -> bool:
        """Whether there is no limit at all."""
        return self == ClientLimits()


def parse_limits(text: str) -> ClientLimits:
    """Read limits from words like ``calls=4``.

    Raises:
        ValueError: A word is not a known limit with a number of 0 or more.
    """
    kinds = {field.name: float if field.type == "float" else int for field in fields(ClientLimits)}
    given: dict[str, float] = {}
    for word in text.split():
        name, _, value = word.partition("=")
        digits = value.replace(".", "", 1) if kinds.get(name) is float else value
        if name not in kinds or name in given or not (digits.isascii() and digits.isdecimal()):
            raise ValueError(f"limits are words like calls=4, each once, of {', '.join(kinds)}")
        given[name] = kinds[name](value)
    return ClientLimits(**given)  # type: ignore[arg-type] # each has its own kind
