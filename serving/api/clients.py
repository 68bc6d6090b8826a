"""The clients of a server, by token or by host, and what each of them has used of its limits."""

from __future__ import annotations

import math
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import unquote

from serving.errors import Overloaded
from serving.limits import ClientLimits
from serving.token_bucket import TokenBucket

_MOST = 10_000  # clients remembered
_DAY = 86_400.0  # seconds
_RETRY_AFTER = 0.5  # seconds, for limits of calls in flight
_PEER = re.compile(r"ipv[46]:(\[.*\]|[^:]*):\d+")


def host_of(peer: str) -> str:
    """Return the host of a peer as gRPC names it, such as ``ipv4:10.0.0.1:4711``."""
    found = _PEER.fullmatch(unquote(peer))
    return found[1].strip("[]") if found else peer


class Client:
    """One client: its calls in flight, and what is left of its limits; belongs to one event loop."""

    def __init__(self, limits: ClientLimits, clock: Callable[[], float]) -> None:
        """Start with everything left."""
        self.limits = limits
        self.calls = self.streams = 0
        self._clock = clock
        self._rate = TokenBucket(limits.rate, clock) if limits.rate else None
        self._characters = TokenBucket(limits.characters, clock) if limits.characters else None
        self._used, self._day_began = 0, -math.inf

    @contextmanager
    def call(self, *, streaming: bool = False) -> Iterator[None]:
        """Hold a place for one call.

        Raises:
            Overloaded: The client has too many calls in flight, or makes them too fast.
        """
        limits = self.limits
        _refuse_full("calls", self.calls, limits.calls)
        if streaming:
            _refuse_full("streams", self.streams, limits.streams)
        if self._rate and (wait := self._rate.take()):
            message = f"you make more than {limits.rate:g} calls a second, which is your limit; make fewer"
            raise Overloaded(message, reason="client_rate", retry_after=wait)
        self.calls += 1
        self.streams += streaming
        try:
            yield
        finally:
            self.calls -= 1
            self.streams -= streaming

    def spend(self, characters: int) -> None:
        """Take the texts of a request out of the client's limits.

        Raises:
            Overloaded: The client has no characters left for now, or for today.
        """
        limits, now = self.limits, self._clock()
        if now - self._day_began >= _DAY:
            self._used, self._day_began = 0, now
        if limits.quota and self._used + characters > limits.quota:
            message = f"you have sent {self._used} of the {limits.quota} characters a day that are your quota"
            message += f", and this request has {characters}; wait, or send less"
            raise Overloaded(message, reason="client_quota", retry_after=self._day_began + _DAY - now)
        if self._characters and (wait := self._characters.take(characters)):
            message = f"you send more than {limits.characters:g} characters a second, which is your limit; send fewer"
            raise Overloaded(message, reason="client_characters", retry_after=wait)
        self._used += characters


class Clients:
    """The clients that called lately; those that have not for longest are forgotten first."""

    def __init__(self, default: ClientLimits | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Know nobody yet; ``default`` is for clients without limits of their own."""
        self._default = default or ClientLimits()
        self._clock = clock
        self._clients: OrderedDict[str, Client] = OrderedDict()

    def client(self, name: str, limits: ClientLimits | None = None) -> Client:
        """Return a client by its name; limits that have changed start anew."""
        wanted = limits if limits and not limits.unlimited else self._default
        client = self._clients.pop(name, None)
        if client is None or client.limits != wanted:
            client = Client(wanted, self._clock)
        self._clients[name] = client
        while len(self._clients) > _MOST:
            self._clients.popitem(last=False)
        return client


def _refuse_full(what: str, count: int, limit: int) -> None:
    if limit and count >= limit:
        message = f"you have {count} {what} in flight, and {limit} is your limit; wait for one to end"
        raise Overloaded(message, reason=f"client_{what}", retry_after=_RETRY_AFTER)
