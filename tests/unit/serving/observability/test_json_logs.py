"""Log lines are JSON and never hold text."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from serving.errors import EngineFailure
from serving.observability.call import Call, current_call, request_id_of
from serving.observability.json_logs import set_up_logs

SECRET = "what the caller wrote"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers = []
    stream = io.StringIO()
    set_up_logs("info", stream)
    yield stream
    root.handlers = before
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_an_object_with_the_event_and_its_details(stream: io.StringIO) -> None:
    logging.getLogger("serving.x").info("call", extra={"method": "Translate", "seconds": 0.5})
    (line,) = lines(stream)
    assert line.pop("ts").endswith("+00:00")
    assert line == {"level": "info", "event": "call", "method": "Translate", "seconds": 0.5}


def test_the_request_id_of_the_call_is_on_every_line(stream: io.StringIO) -> None:
    token = current_call.set(Call("id-1", "Translate"))
    logging.getLogger("anywhere").warning("of %s", "somebody\nelse")
    current_call.reset(token)
    (line,) = lines(stream)
    assert (line["request_id"], line["event"]) == ("id-1", "of somebody\nelse")


def test_an_exception_is_told_without_its_message(stream: io.StringIO) -> None:
    try:
        try:
            dict[str, str]().pop(SECRET)
        except KeyError as error:
            raise ValueError(SECRET) from error
    except ValueError:
        logging.getLogger("serving.x").exception("internal_error")
    assert SECRET not in stream.getvalue()
    (line,) = lines(stream)
    assert [told["type"] for told in line["exception"]] == ["builtins.ValueError", "builtins.KeyError"]
    assert "test_an_exception_is_told_without_its_message" in line["exception"][0]["frames"][0]


def test_what_the_runtime_and_the_engine_say_is_told(stream: io.StringIO) -> None:
    failure = type("Fail", (RuntimeError,), {"__module__": "onnxruntime.capi.onnxruntime_pybind11_state"})
    for error in (failure("node 7: out of memory"), EngineFailure("decoder step of beam size 4 failed")):
        logging.getLogger("serving.x").error("internal_error", exc_info=error)
    messages = [line["exception"][0]["message"] for line in lines(stream)]
    assert messages == ["node 7: out of memory", "decoder step of beam size 4 failed"]


def test_the_level_is_kept(stream: io.StringIO) -> None:
    logging.getLogger("serving.x").debug("detail")
    assert not lines(stream)


@pytest.mark.parametrize("given", ["a", "3f2504e0-4f89-11d3-9a0c-0305e82c3301", "x" * 128])
def test_a_callers_request_id_is_kept(given: str) -> None:
    assert request_id_of([("user-agent", "x"), ("x-request-id", given)]) == given


@pytest.mark.parametrize("given", ["", "x" * 129, "two words", "line\nbreak", b"bytes"])
def test_a_request_id_that_is_not_fit_for_a_log_is_replaced(given: str | bytes) -> None:
    made = request_id_of([("x-request-id", given)])
    assert made != given
    assert len(made) == 32
    assert made != request_id_of(None)
