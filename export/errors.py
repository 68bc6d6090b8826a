"""Exceptions of export."""

from __future__ import annotations

from collections.abc import Sequence


class ExportError(Exception):
    """The model cannot become a graph, or the graph is not what was declared."""


class VerificationError(ExportError):
    """The export does not do what the model does; lists every reason."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__("verification failed: " + "; ".join(reasons))
        self.reasons = tuple(reasons)


class ReadingError(ExportError):
    """A model of another toolkit cannot be read, or not be represented exactly.

    Attributes:
        reasons: All of them.
    """

    def __init__(self, reasons: Sequence[str]) -> None:
        """Make one sentence of the reasons."""
        super().__init__("this model cannot be read: " + "; ".join(reasons))
        self.reasons = list(reasons)
