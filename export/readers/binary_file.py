"""Numbers, names and contents of a binary file, little-endian, one after the other."""

from __future__ import annotations

import struct


class DamageError(Exception):
    """A size or a name in a file cannot be true."""


class BinaryFile:
    """Reads a file's bytes from the first to the last; raises :class:`DamageError` where they end too early."""

    def __init__(self, data: bytes) -> None:
        """Begin at the first byte."""
        self._data, self._at = memoryview(data), 0

    def number(self, kind: str) -> int:
        """Read an integer of a kind that ``struct`` knows."""
        return self.numbers(kind, 1)[0]

    def numbers(self, kind: str, count: int) -> tuple[int, ...]:
        """Read integers of a kind that ``struct`` knows."""
        content = self.content(count * struct.calcsize(f"<{kind}"))
        return tuple(int(number) for (number,) in struct.iter_unpack(f"<{kind}", content))

    def name(self, length: int) -> str:
        """Read a name of so many bytes, the zero at its end included."""
        content = self.content(length)
        if not length or content[-1] != 0:
            raise DamageError("a name has no end")
        return content[:-1].tobytes().decode()

    def content(self, size: int) -> memoryview:
        """Read so many bytes."""
        if size > len(self._data) - self._at:
            raise DamageError(f"it ends {size - (len(self._data) - self._at)} bytes too early")
        self._at += size
        return self._data[self._at - size : self._at]

    def end(self) -> None:
        """Check that nothing is left."""
        if self._at < len(self._data):
            raise DamageError(f"{len(self._data) - self._at} bytes are left at its end")
