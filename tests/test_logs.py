"""The form of log lines."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import pytest

from appliance.logs import FIELDS, REQUEST_ID, JsonFormatter, TextFormatter


@pytest.fixture(autouse=True)
def of_no_request() -> Any:
    token = REQUEST_ID.set("")
    yield
    REQUEST_ID.reset(token)


def record(message: str, **extra: Any) -> logging.LogRecord:
    fields = {"name": "appliance.x", "levelno": logging.WARNING, "levelname": "WARNING"}
    return logging.makeLogRecord(
        {**fields, "msg": message, "args": ("ä",), "created": 0.25, **extra}
    )


def test_text_ends_with_the_requests_id() -> None:
    form = TextFormatter("worker ")
    assert form.format(record("It was %s.")).endswith(" WARNING worker appliance.x: It was ä.")
    REQUEST_ID.set("req_1")
    assert form.format(record("It was %s.")).endswith(" appliance.x: It was ä. [req_1]")


def test_json_is_an_object_a_line() -> None:
    REQUEST_ID.set("req_1")
    line = JsonFormatter("worker").format(record("%s\nb", **{FIELDS: {"status": 200}}))
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "1970-01-01T00:00:00.250Z",
        "level": "warning",
        "logger": "appliance.x",
        "process": "worker",
        "request_id": "req_1",
        "message": "ä\nb",
        "status": 200,
    }


def test_json_without_a_request_has_no_id_and_holds_exceptions() -> None:
    try:
        raise ValueError("why")
    except ValueError:
        made = record("%s")
        made.exc_info = sys.exc_info()
    line = json.loads(JsonFormatter().format(made))
    assert "request_id" not in line
    assert "process" not in line
    assert line["exception"].endswith("ValueError: why")
