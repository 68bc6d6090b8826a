"""Limits of a run from a YAML file: figures by their path in the summary, and their bounds.

For example ``latency_ms.p99: {at_most: 500}`` or ``sentences_per_second: {at_least: 40}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, RootModel, ValidationError, model_validator


class Limit(BaseModel):
    """One or both bounds of a figure."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at_most: float | None = None
    at_least: float | None = None

    @model_validator(mode="after")
    def _bounds_something(self) -> Self:
        if self.at_most is None and self.at_least is None:
            raise ValueError("give at_most, at_least or both")
        return self

    def violation(self, name: str, value: float | None) -> str | None:
        """Return a sentence if the value is out of bounds; None stands for an infinite or undefined value."""
        if value is None:
            return f"{name} has no finite value"
        if self.at_most is not None and value > self.at_most:
            return f"{name} is {value:g}, at most {self.at_most:g} is allowed"
        if self.at_least is not None and value < self.at_least:
            return f"{name} is {value:g}, at least {self.at_least:g} is required"
        return None


class Thresholds(RootModel[dict[str, Limit]]):
    """Limits by the path of their figure: the keys that lead to it, joined by dots."""

    def violations(self, figures: Mapping[str, Any]) -> list[str]:
        """Return a sentence for every broken limit.

        Raises:
            ValueError: A limit names no figure.
        """
        flat = _flat(figures)
        if unknown := [name for name in self.root if name not in flat]:
            raise ValueError(f"there is no figure {unknown[0]!r}; there are {', '.join(flat)}")
        found = (limit.violation(name, flat[name]) for name, limit in self.root.items())
        return [violation for violation in found if violation]


def load_thresholds(path: Path) -> Thresholds:
    """Load a file of limits.

    Raises:
        ValueError: The file is invalid; the message says where.
    """
    try:
        return Thresholds.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'the file'}: {e['msg']}" for e in error.errors())
        raise ValueError(f"{path} has no thresholds: {problems}") from None


def _flat(figures: Mapping[str, Any], prefix: str = "") -> dict[str, float | None]:
    flat: dict[str, float | None] = {}
    for key, value in figures.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        elif value is None or isinstance(value, int | float):
            flat[prefix + key] = value
    return flat
