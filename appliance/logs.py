"""The form of log lines: text or JSON, each with the id of the request that it is about.

Knows no request and no room; where lines go is the caller's.
"""

from __future__ import annotations

import json
import logging
import sys
from contextvars import ContextVar
from datetime import datetime, timezone

TEXT, JSON = "text", "json"
FORMATS = (TEXT, JSON)
FIELDS = "fields"  # `extra={FIELDS: {...}}`: what a line says, for programs

# of the request that a task or thread is about; empty outside of requests
REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")


class TextFormatter(logging.Formatter):
    """For people: `TIME LEVEL LOGGER: MESSAGE [REQUEST ID]`."""

    def __init__(self, process: str = "") -> None:
        super().__init__(f"%(asctime)s %(levelname)s {process}%(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        line = super().formatMessage(record)
        request_id = REQUEST_ID.get()
        return f"{line} [{request_id}]" if request_id else line


class JsonFormatter(logging.Formatter):
    """For programs: an object a line."""

    def __init__(self, process: str = "") -> None:
        super().__init__()
        self._process = process.strip()

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, timezone.utc)
        line: dict[str, object] = {
            "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        if self._process:
            line["process"] = self._process
        if request_id := REQUEST_ID.get():
            line["request_id"] = request_id
        line["message"] = record.getMessage()
        line.update(getattr(record, FIELDS, {}))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def log_to_stderr(level: str, form: str = TEXT, process: str = "") -> None:
    """From now on what is logged from `level` on goes there; `process` is named in each
    line.
    """
    named = f"{process} " if process else ""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(named) if form == JSON else TextFormatter(named))
    logging.basicConfig(level=level.upper(), handlers=[handler])
