"""How progress is shown where nobody watches a terminal."""

from __future__ import annotations

import json

from convert.counted_progress import Counted, ThrottledCount, json_line, plain_line


def test_lines_come_now_and_then_and_at_the_end() -> None:
    now = [0.0]
    lines: list[str] = []
    show = ThrottledCount(
        5.0,
        lambda *state: lines.append(plain_line("m.gguf", "windows", *state)),
        clock=lambda: now[0],
    )
    for second in range(13):
        now[0] = float(second)
        show(Counted(second, 12))
    assert lines == [
        "m.gguf: 5 of 12 windows, 7 s left",
        "m.gguf: 10 of 12 windows, 2 s left",
        "m.gguf: 12 of 12 windows, 0 s left",
    ]


def test_nothing_done_gives_no_time_left() -> None:
    assert (
        plain_line("m", "windows", Counted(0, 3), Counted(0, 3).seconds_left(9.0))
        == "m: 0 of 3 windows"
    )
    assert json.loads(json_line("m", "windows", Counted(1, 3), 2.04)) == {
        "event": "progress",
        "title": "m",
        "unit": "windows",
        "done": 1,
        "total": 3,
        "seconds_left": 2.0,
    }
