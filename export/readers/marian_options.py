"""Options of Marian: YAML inside a model and beside it, as text until somebody asks for a number or a flag."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from export.errors import ReadingError

_FLAGS = {"true": True, "yes": True, "on": True, "y": True, "false": False, "no": False, "off": False, "n": False}
_LARGEST = 1 << 20  # characters; a model's own have 2,000
_SHOWN = 60  # characters of a value in a message


@dataclass(frozen=True)
class MarianOptions:
    """Options by name; those that are absent have the default asked with.

    Attributes:
        origin: Where they stand, for messages.
        values: Text, lists of text, or whatever else YAML can hold.
    """

    origin: str
    values: Mapping[str, Any]

    @classmethod
    def parse(cls, text: str, origin: str) -> MarianOptions:
        """Parse YAML; nothing in it is executed, resolved or merged.

        Raises:
            ReadingError: It is too large, or not a mapping.
        """
        if len(text) > _LARGEST:
            raise ReadingError([f"{origin} has {len(text)} characters, at most {_LARGEST} are read"])
        try:
            values = yaml.load(text, yaml.BaseLoader)  # in Python: the loader in C crashes on deep nesting
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            raise ReadingError([f"{origin} is not YAML ({type(error).__name__})"]) from error
        if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
            raise ReadingError([f"{origin} is not a mapping"])
        return cls(origin, values)

    def text(self, name: str, default: str = "") -> str:
        """Return an option as text."""
        value = self.values.get(name, default)
        if not isinstance(value, str):
            raise ReadingError([f"{name} in {self.origin} is not one value"])
        return value

    def texts(self, name: str) -> list[str]:
        """Return an option as a list; one value is a list of one."""
        value = self.values.get(name, [])
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
            raise ReadingError([f"{name} in {self.origin} is not a list"])
        return [one for one in values if one]

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Return whether an option is set."""
        value = self.text(name, str(default)).lower()
        if value not in _FLAGS:
            raise ReadingError([f"{name} in {self.origin} is {value[:_SHOWN]!r}, neither true nor false"])
        return _FLAGS[value]

    def number(self, name: str, default: float | None = None) -> float:
        """Return an option as a number; without a default it has to be there."""
        value = self.text(name, "" if default is None else str(default))
        try:
            return float(value)
        except ValueError as error:
            raise ReadingError([f"{name} in {self.origin} is {value[:_SHOWN]!r}, not a number"]) from error

    def whole(self, name: str, default: int | None = None) -> int:
        """Return an option as an integer; without a default it has to be there."""
        number = self.number(name, default)
        if not number.is_integer() or abs(number) > 1 << 31:
            raise ReadingError([f"{name} in {self.origin} is {number}, not an integer"])
        return int(number)

    def is_set(self, name: str) -> bool:
        """Return whether an option has another value than none, false or zero."""
        return self.values.get(name) not in (None, "", "~", "null", "none", "false", "False", "0", "0.0", [], {})


def read_table(text: str, origin: str) -> dict[str, int]:
    """Read a vocabulary: a flat mapping of tokens to ids, JSON or YAML.

    It is read event by event, so that neither size nor nesting matters.

    Raises:
        ReadingError: It is something else, or a token is there twice.
    """
    scalars: list[str] = []
    mappings = 0
    try:
        for event in yaml.parse(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            if isinstance(event, yaml.ScalarEvent):
                scalars.append(event.value)
            mappings += isinstance(event, yaml.MappingStartEvent)
            if isinstance(event, yaml.SequenceStartEvent | yaml.AliasEvent) or mappings > 1:
                raise ReadingError([f"{origin} is not a flat mapping of tokens to ids"])
        table = {token: int(number) for token, number in zip(scalars[::2], scalars[1::2], strict=True)}
    except (yaml.YAMLError, ValueError) as error:
        raise ReadingError([f"{origin} is not a mapping of tokens to ids ({type(error).__name__})"]) from error
    if len(table) * 2 != len(scalars):
        raise ReadingError([f"{origin} has a token twice"])
    return table
