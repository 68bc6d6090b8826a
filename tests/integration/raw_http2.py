"""HTTP/2 as no library speaks it: frames made by hand (RFC 9113), headers without compression (RFC 7541)."""

from __future__ import annotations

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
WIDEST = (1 << 31) - 1  # window
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _WINDOW_UPDATE = 0, 1, 3, 4, 8
_END_STREAM = 1
_END_HEADERS = 4
_INITIAL_WINDOW_SIZE = 4
_FIRST_WINDOW = (1 << 16) - 1


def opening(*, window: int) -> bytes:
    """The first words of a client: so many bytes of each answer may come before it asks for more, of all any number."""
    setting = _INITIAL_WINDOW_SIZE.to_bytes(2, "big") + window.to_bytes(4, "big")
    more = (WIDEST - _FIRST_WINDOW).to_bytes(4, "big")
    return PREFACE + _frame(_SETTINGS, 0, 0, setting) + _frame(_WINDOW_UPDATE, 0, 0, more)


def call(stream: int, path: str, message: bytes) -> bytes:
    """A whole call of gRPC with one message; streams of clients have odd numbers, each once."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "localhost",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    head = b"".join(b"\0" + _string(name) + _string(value) for name, value in fields.items())
    body = b"\0" + len(message).to_bytes(4, "big") + message
    return _frame(_HEADERS, _END_HEADERS, stream, head) + _frame(_DATA, _END_STREAM, stream, body)


def reset(stream: int) -> bytes:
    """How the frame begins by which a server ends a stream that it does not take."""
    return _frame(_RST_STREAM, 0, stream, bytes(4))[:-4]


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def _string(text: str) -> bytes:
    assert len(text) < 127  # longer ones need more than a byte
    return bytes([len(text)]) + text.encode()
