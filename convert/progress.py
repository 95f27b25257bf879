"""Shows a conversion's progress: a bar, plain lines, or JSON lines.

Knows nothing of what is converted.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as RichProgress

from convert.pipeline import Progress

LINE_INTERVAL_S = 5.0
JSON_INTERVAL_S = 0.5


@dataclass(frozen=True)
class Rate:
    """How fast it goes: None where nothing is done yet."""

    bytes_per_s: float | None
    seconds_left: float | None

    @classmethod
    def of(cls, progress: Progress, elapsed_s: float) -> Rate:
        if progress.done_bytes == 0 or elapsed_s <= 0:
            return cls(None, None)
        speed = progress.done_bytes / elapsed_s
        return cls(speed, (progress.total_bytes - progress.done_bytes) / speed)


class ProgressBar(AbstractContextManager["ProgressBar"]):
    """A bar with bytes per second and time left, on a terminal."""

    def __init__(self, title: str, console: Console) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        self._bar = RichProgress(*columns, console=console)
        self._task = self._bar.add_task(title, total=None)

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    def __call__(self, progress: Progress) -> None:
        self._bar.update(self._task, completed=progress.done_bytes, total=progress.total_bytes)


class ThrottledBytes:
    """Passes progress on to `show` now and then, and always at the end."""

    def __init__(
        self,
        interval_s: float,
        show: Callable[[Progress, Rate], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._interval_s = interval_s
        self._show = show
        self._clock = clock
        self._started = clock()
        self._shown = self._started

    def __call__(self, progress: Progress) -> None:
        now = self._clock()
        is_over = progress.done_bytes == progress.total_bytes
        if is_over or now - self._shown >= self._interval_s:
            self._shown = now
            self._show(progress, Rate.of(progress, now - self._started))


def plain_line(progress: Progress, rate: Rate) -> str:
    percent = 100 * progress.done_bytes // max(1, progress.total_bytes)
    line = f"{percent:3d} %  {decimal(progress.done_bytes)} of {decimal(progress.total_bytes)}"
    if rate.bytes_per_s is not None and rate.seconds_left is not None:
        line += f", {decimal(int(rate.bytes_per_s))}/s, {rate.seconds_left:.0f} s left"
    return line


def json_line(progress: Progress, rate: Rate) -> str:
    record: dict[str, Any] = {
        "event": "progress",
        "done_bytes": progress.done_bytes,
        "total_bytes": progress.total_bytes,
        "bytes_per_s": None if rate.bytes_per_s is None else round(rate.bytes_per_s),
        "seconds_left": None if rate.seconds_left is None else round(rate.seconds_left, 1),
    }
    return json.dumps(record)


def choose_progress(
    title: str, as_json: bool, emit: Callable[[str], None]
) -> AbstractContextManager[Callable[[Progress], None]]:
    """A bar where stderr is a terminal, plain lines on stderr where not; JSON lines
    through `emit` if wanted.
    """
    if as_json:
        return nullcontext(
            ThrottledBytes(JSON_INTERVAL_S, lambda progress, rate: emit(json_line(progress, rate)))
        )
    if sys.stderr.isatty():
        return ProgressBar(title, Console(stderr=True))
    return nullcontext(
        ThrottledBytes(
            LINE_INTERVAL_S,
            lambda progress, rate: _to_stderr(f"{title}: {plain_line(progress, rate)}"),
        )
    )


def _to_stderr(line: str) -> None:
    sys.stderr.write(line + "\n")
