"""One HTTP request as the forms of the API read it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Iterable, Mapping
from contextlib import suppress
from typing import Any, TypeVar
from urllib.parse import parse_qs

from starlette.requests import ClientDisconnect, Request

from serving.errors import Cancelled, FieldViolation, InvalidRequest

_FORM = "application/x-www-form-urlencoded"
_JSON = "application/json"
_BODY_SECONDS = 30
_MOST_DIGITS = 10
_Done = TypeVar("_Done")


class Exchange:
    """A request whose body is read once, up to a limit, and whose caller may go away."""

    def __init__(self, request: Request, max_bytes: int) -> None:
        """Take a request whose body has ``max_bytes`` at most."""
        self.request = request
        self._max_bytes = max_bytes
        self._body: bytes | None = None

    @property
    def authorization(self) -> list[str]:
        """All ``Authorization`` headers."""
        return self.request.headers.getlist("authorization")

    async def body(self) -> bytes:
        """Return the body.

        Raises:
            InvalidRequest: It is too large, or too slow.
            Cancelled: The caller went away before its end.
        """
        if self._body is None:
            try:
                async with asyncio.timeout(_BODY_SECONDS):
                    self._body = await self._read()
            except TimeoutError:
                problem = f"did not arrive within {_BODY_SECONDS} seconds; send it faster, or less of it"
                raise InvalidRequest([FieldViolation("body", problem)]) from None
            except ClientDisconnect:
                raise Cancelled("the caller went away") from None
        return self._body

    async def _read(self) -> bytes:
        parts, size = [], 0
        async for part in self.request.stream():
            size += len(part)
            if size > self._max_bytes:
                problem = f"has more than {self._max_bytes:,} bytes, the limit; send several requests"
                raise InvalidRequest([FieldViolation("body", problem)])
            parts.append(part)
        return b"".join(parts)

    async def json_text(self) -> str:
        """Return the body as text that should be JSON.

        Raises:
            InvalidRequest: It is of another type, or not UTF-8.
        """
        if self._content_type != _JSON:
            problem = f"is of type {self._content_type or 'none'!r}; send JSON and 'Content-Type: {_JSON}'"
            raise InvalidRequest([FieldViolation("body", problem)])
        return _decoded(await self.body())

    async def fields(self) -> dict[str, Any]:
        """Return the fields of the query and of the body, which is a JSON object or a form.

        A field that a form or the query has several times is a list.

        Raises:
            InvalidRequest: The body is neither.
        """
        fields = _form(self.request.url.query)
        if not await self.body():
            return fields
        if self._content_type == _JSON:
            return fields | self._object(await self.json_text())
        if self._content_type == _FORM:
            return fields | _form(_decoded(await self.body()))
        problem = f"is of type {self._content_type or 'none'!r}; send {_JSON} or {_FORM}"
        raise InvalidRequest([FieldViolation("body", problem)])

    async def unless_gone(self, answer: Awaitable[_Done]) -> _Done:
        """Wait for an answer after the body was read; a caller that goes away cancels it.

        Raises:
            Cancelled: The caller went away.
        """
        working, watching = asyncio.ensure_future(answer), asyncio.ensure_future(self.request.receive())
        try:
            await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise Cancelled("the caller went away")
            return working.result()
        finally:
            for task in (working, watching):
                task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await asyncio.gather(working, watching, return_exceptions=True)

    @property
    def _content_type(self) -> str:
        return self.request.headers.get("content-type", "").partition(";")[0].strip().lower()

    def _object(self, text: str) -> dict[str, Any]:
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidRequest([FieldViolation("body", f"is not JSON: {error}")]) from None
        if not isinstance(found, dict):
            raise InvalidRequest([FieldViolation("body", "is not a JSON object; send one with the fields by name")])
        if "\\u" in text:
            try:
                json.dumps(found, ensure_ascii=False).encode()
            except UnicodeEncodeError:
                raise InvalidRequest([FieldViolation("body", "has half of a surrogate pair; escape both")]) from None
        return found


class Fields:
    """Fields of a request, each of which must be known; reading one checks its type."""

    def __init__(self, given: Mapping[str, Any], *, known: Iterable[str], ignored: Iterable[str] = ()) -> None:
        """Take the fields that were given.

        Raises:
            InvalidRequest: One is neither known nor ignored; names every such field.
        """
        known = set(known)
        if unknown := sorted(given.keys() - known - set(ignored)):
            takes = f"is not honoured here; leave it out, or use one of {', '.join(sorted(known))}"
            raise InvalidRequest([FieldViolation(name, takes) for name in unknown])
        self._given = given

    def text(self, name: str, default: str | None = None) -> str:
        """Return a field that is a string; without a default it is required.

        Raises:
            InvalidRequest: It is missing, or something else.
        """
        value = self._given.get(name, default)
        if not isinstance(value, str):
            raise _wrong(name, value, "a string")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a required field that is a string or a list of them.

        Raises:
            InvalidRequest: It is missing, or something else.
        """
        value = self._given.get(name)
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not all(isinstance(text, str) for text in values):
            raise _wrong(name, value, "a string or a list of strings")
        return tuple(values)

    def integer(self, name: str, default: int) -> int:
        """Return a field that is an integer, also in the digits of a form.

        Raises:
            InvalidRequest: It is something else.
        """
        value = self._given.get(name, default)
        if isinstance(value, str) and value.isdecimal() and len(value) < _MOST_DIGITS:
            return int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise _wrong(name, value, "an integer")
        return value

    def is_list(self, name: str) -> bool:
        """Return whether a field is a list."""
        return isinstance(self._given.get(name), list)

    def switch(self, name: str) -> bool:
        """Return a field that is true or false, as JSON or as a form spells it; false if it is missing.

        Raises:
            InvalidRequest: It is something else.
        """
        value = self._given.get(name, False)
        spelt = {"1": True, "true": True, "0": False, "false": False}.get(str(value).lower())
        if spelt is None:
            raise _wrong(name, value, "true or false")
        return spelt

    def choice(self, name: str, choices: Iterable[str], default: str) -> str:
        """Return a field that is one of some words.

        Raises:
            InvalidRequest: It is another.
        """
        value = str(self._given.get(name, default))
        if value not in (choices := tuple(choices)):
            raise _wrong(name, value, f"one of {', '.join(choices)}")
        return value


def _wrong(name: str, value: object, wanted: str) -> InvalidRequest:
    problem = f"is missing; give {wanted}" if value is None else f"is of a wrong kind or value; give {wanted}"
    return InvalidRequest([FieldViolation(name, problem)])


def _decoded(body: bytes) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidRequest([FieldViolation("body", "is not UTF-8; encode it so")]) from None


def _form(encoded: str) -> dict[str, Any]:
    try:
        found = parse_qs(encoded, keep_blank_values=True, errors="strict", max_num_fields=10_000)
    except ValueError as error:
        raise InvalidRequest([FieldViolation("body", f"is not a form in UTF-8: {error}")]) from None
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}
