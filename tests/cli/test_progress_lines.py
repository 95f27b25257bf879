"""How work in progress is shown."""

from __future__ import annotations

import io
import logging

import pytest

from appliance.cli.progress_lines import ProgressLines, ServerProgress, counted
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


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_time_left_is_told_after_two_seconds() -> None:
    out, now_s = Terminal(), [100.0]
    show = ProgressLines(out, clock=lambda: now_s[0])
    for now_s[0], done in ((100.0, 200), (101.9, 300), (102.0, 300), (110.0, 600), (120.0, 1000)):
        show(StoreEvent("downloading a", done, 1000))
    assert [line.strip() for line in out.getvalue().split("\x1b[K")] == [
        "downloading a:  20 % of 0.0 MB",
        "downloading a:  30 % of 0.0 MB",
        "downloading a:  30 % of 0.0 MB, 14 s left",
        "downloading a:  60 % of 0.0 MB, 10 s left",
        "downloading a: 100 % of 0.0 MB",
        "",
    ]


def test_a_line_is_no_wider_than_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    out = Terminal()
    ProgressLines(out).show("a name that is much too long for this", 0.5)
    assert out.getvalue() == "\ra name that is much\x1b[K"


@pytest.mark.parametrize(
    ("out", "begins"),
    [
        (io.StringIO(), "measuring for about 1 min 30 s\n"),
        (Terminal(), "\rmeasuring: 0 s of about 1 min 30 s\x1b[K"),
    ],
)
def test_work_of_a_known_length_is_counted(out: io.StringIO, begins: str) -> None:
    with counted("measuring", 90.0, out):
        pass
    assert out.getvalue().startswith(begins)
    assert out.getvalue().endswith("\n")


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
