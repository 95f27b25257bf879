"""Shows how many of so many things are done: a bar, plain lines, or JSON lines.

Does not know what is counted.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_INTERVAL_S = 5.0
JSON_INTERVAL_S = 0.5


@dataclass(frozen=True)
class Counted:
    """`done` of `total`."""

    done: int
    total: int

    def seconds_left(self, elapsed_s: float) -> float | None:
        """None where nothing is done yet to judge by."""
        return (self.total - self.done) * elapsed_s / self.done if self.done else None


OnCounted = Callable[[Counted], None]


class CountedBar(AbstractContextManager["CountedBar"]):
    """A bar with the time left, on a terminal."""

    def __init__(self, title: str, unit: str, console: Console) -> None:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=console)
        self._task = self._bar.add_task(title, total=None)

    def __enter__(self) -> CountedBar:
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    def __call__(self, counted: Counted) -> None:
        self._bar.update(self._task, completed=counted.done, total=counted.total)


class ThrottledCount:
    """Passes on what is counted, with the seconds left, at most once an interval, and
    always at the end.

    What was done already at the first call took none of this run's time: the seconds
    left go by what came after it.
    """

    def __init__(
        self,
        interval_s: float,
        show: Callable[[Counted, float | None], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._interval_s = interval_s
        self._show = show
        self._clock = clock
        self._first: Counted | None = None
        self._started = self._shown = clock()

    def __call__(self, counted: Counted) -> None:
        now = self._clock()
        if self._first is None:
            self._first, self._started = counted, now
        if counted.done == counted.total or now - self._shown >= self._interval_s:
            self._shown = now
            of_this_run = Counted(counted.done - self._first.done, counted.total - self._first.done)
            self._show(counted, of_this_run.seconds_left(now - self._started))


def plain_line(title: str, unit: str, counted: Counted, seconds_left: float | None) -> str:
    left = "" if seconds_left is None else f", {seconds_left:.0f} s left"
    return f"{title}: {counted.done} of {counted.total} {unit}{left}"


def json_line(title: str, unit: str, counted: Counted, seconds_left: float | None) -> str:
    record = {
        "event": "progress",
        "title": title,
        "unit": unit,
        "done": counted.done,
        "total": counted.total,
        "seconds_left": None if seconds_left is None else round(seconds_left, 1),
    }
    return json.dumps(record)


def choose_counted_progress(
    title: str, unit: str, as_json: bool, emit: Callable[[str], None]
) -> AbstractContextManager[OnCounted]:
    """A bar where stderr is a terminal, plain lines on stderr where not; JSON lines
    through `emit` if wanted.
    """
    if as_json:
        return nullcontext(
            ThrottledCount(JSON_INTERVAL_S, lambda *state: emit(json_line(title, unit, *state)))
        )
    if sys.stderr.isatty():
        return CountedBar(title, unit, Console(stderr=True))
    return nullcontext(
        ThrottledCount(LINE_INTERVAL_S, lambda *state: _to_stderr(plain_line(title, unit, *state)))
    )


def _to_stderr(line: str) -> None:
    sys.stderr.write(line + "\n")
