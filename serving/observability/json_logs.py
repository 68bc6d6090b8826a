"""Logs as one JSON object a line: what happened to which call, never the text of a request."""

from __future__ import annotations

import json
import logging
import traceback
from datetime import UTC, datetime
from typing import TextIO

from serving.errors import EngineFailure
from serving.observability.call import current_call

_STANDARD = frozenset({*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName"})


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of JSON: the message is the event, each key of ``extra`` a key of the line.

    An exception is told by its types and frames, without most messages: those can quote the text they failed on.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Writes one record."""
        line: dict[str, object] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        if call := current_call.get():
            line["request_id"] = call.request_id
        line |= {key: value for key, value in record.__dict__.items() if key not in _STANDARD}
        if record.exc_info and record.exc_info[1]:
            line["exception"] = _told(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False, default=str)


def set_up_logs(level: str, stream: TextIO) -> None:
    """Sends every logger of the process to ``stream`` as JSON."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def _told(error: BaseException) -> list[dict[str, object]]:
    chain: list[dict[str, object]] = []
    link: BaseException | None = error
    while link is not None and len(chain) < 8:
        frames = traceback.extract_tb(link.__traceback__)
        told: dict[str, object] = {
            "type": f"{type(link).__module__}.{type(link).__qualname__}",
            "frames": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
        }
        # The runtime sees token ids, never text, and what we say of an engine is written without.
        if isinstance(link, EngineFailure) or type(link).__module__.startswith("onnxruntime"):
            told["message"] = str(link)
        chain.append(told)
        link = link.__cause__ or link.__context__
    return chain
