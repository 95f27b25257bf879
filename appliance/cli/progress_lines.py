"""Shows how fetching, converting and measuring go. Knows no work."""

from __future__ import annotations

import logging
from typing import TextIO

from appliance.store.event import StoreEvent


class ProgressLines:
    """One line that is overwritten on a terminal, a line per tenth elsewhere.

    Several works may go on at once: each is known by its text.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._shown_tenths: dict[str, int] = {}

    def __call__(self, event: StoreEvent) -> None:
        if event.total_bytes == 0:
            self._out.write(f"{event.text}\n")
        elif self._out.isatty():
            end = "\n" if event.done_bytes >= event.total_bytes else ""
            self._out.write(f"\r{_line(event)}{end}")
        elif self.is_next_tenth(event):
            self._out.write(f"{_line(event)}\n")
        self._out.flush()

    def is_next_tenth(self, event: StoreEvent) -> bool:
        """Of the same work, since the last one that was."""
        tenth = 10 * event.done_bytes // event.total_bytes
        is_next = tenth > self._shown_tenths.get(event.text, 0)
        if event.done_bytes >= event.total_bytes:
            self._shown_tenths.pop(event.text, None)  # the same work may begin again
        elif is_next:
            self._shown_tenths[event.text] = tenth
        return is_next


class ServerProgress:
    """The same for a server: what has no bytes to count is logged. With `logs_all` the
    rest is, too: nothing but log lines is written.
    """

    def __init__(self, out: TextIO, log: logging.Logger, *, logs_all: bool = False) -> None:
        self._lines = ProgressLines(out)
        self._log = log
        self._logs_all = logs_all

    def __call__(self, event: StoreEvent) -> None:
        if event.total_bytes and not self._logs_all:
            self._lines(event)
        elif event.total_bytes:
            if self._lines.is_next_tenth(event):
                self._log.info("%s", _line(event))
        else:
            self._log.log(logging.WARNING if event.is_warning else logging.INFO, "%s", event.text)


def _line(event: StoreEvent) -> str:
    percent = 100 * event.done_bytes // event.total_bytes
    return f"{event.text}: {percent:3d} % of {event.total_bytes / 1e6:.1f} MB"
