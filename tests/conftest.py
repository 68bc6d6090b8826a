"""What holds for all tests."""

import os
import signal
from collections.abc import Iterator

import pytest

# What tests talk to is on this machine, and is reached directly even where ``http_proxy`` is set, for pip perhaps.
os.environ["no_proxy"] = ",".join(filter(None, (os.environ.get("no_proxy"), "127.0.0.1", "localhost", "::1")))


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A shell's background jobs ignore SIGINT, and so would the processes that a test starts in one."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
