"""How work in progress is shown."""

from __future__ import annotations

import io
import logging

import pytest

from appliance.cli.progress_lines import ProgressLines, ServerProgress
from appliance.store.event import StoreEvent


def test_works_that_go_on_at_once_each_have_a_line_for_every_tenth() -> None:
    out = io.StringIO()
    show = ProgressLines(out)
    for done in range(0, 1001, 10):
        for name in ("a", "b"):
            show(StoreEvent(f"{name}: downloading", done, 1000))
    lines = out.getvalue().splitlines()
    assert len(lines) == 20
    assert lines[:2] == ["a: downloading:  10 % of 0.0 MB", "b: downloading:  10 % of 0.0 MB"]

    show(StoreEvent("a: downloading", 500, 1000))
    assert len(out.getvalue().splitlines()) == 21, "the same work begins again"


def test_a_server_logs_what_has_no_bytes_to_count(caplog: pytest.LogCaptureFixture) -> None:
    out = io.StringIO()
    show = ServerProgress(out, logging.getLogger("appliance.cli.serve"))
    caplog.set_level("INFO")
    show(StoreEvent("measuring"))
    show(StoreEvent("left out: a.gguf", is_warning=True))
    show(StoreEvent("converting", 10, 10))
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("INFO", "measuring"),
        ("WARNING", "left out: a.gguf"),
    ]
    assert out.getvalue() == "converting: 100 % of 0.0 MB\n"


def test_where_programs_read_the_log_bytes_are_logged_by_tenths(
    caplog: pytest.LogCaptureFixture,
) -> None:
    out = io.StringIO()
    show = ServerProgress(out, logging.getLogger("appliance.cli.serve"), logs_all=True)
    with caplog.at_level(logging.INFO):
        for done_bytes in (1, 100, 101, 200, 1000):
            show(StoreEvent("pulling", done_bytes, 1000))
    assert out.getvalue() == ""
    assert [record.getMessage()[:13] for record in caplog.records] == [
        "pulling:  10 ",
        "pulling:  20 ",
        "pulling: 100 ",
    ]
