"""Logs as one JSON object per line, without the text of any request."""

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
    """Formatter of one JSON object per record: the message is its ``event``, each key of ``extra`` a key.

    An exception is logged by its types and frames, without most messages: they may quote the text that failed.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        line: dict[str, object] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        if call := current_call.get():
            line["request_id"] = call.request_id
        line |= {key: value for key, value in record.__dict__.items() if key not in _STANDARD}
        if record.exc_info and record.exc_info[1]:
            line["exception"] = _described(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False, default=str)


def set_up_logs(level: str, stream: TextIO | None = None) -> None:
    """Send every logger of the process to ``stream``, by default the standard error, as JSON."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def _described(error: BaseException) -> list[dict[str, object]]:
    chain: list[dict[str, object]] = []
    link: BaseException | None = error
    while link is not None and len(chain) < 8:
        frames = traceback.extract_tb(link.__traceback__)
        described: dict[str, object] = {
            "type": f"{type(link).__module__}.{type(link).__qualname__}",
            "frames": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
        }
        # The runtime sees token ids, never text, and an EngineFailure is raised without text.
        if isinstance(link, EngineFailure) or type(link).__module__.startswith("onnxruntime"):
            described["message"] = str(link)
        chain.append(described)
        link = link.__cause__ or link.__context__
    return chain
