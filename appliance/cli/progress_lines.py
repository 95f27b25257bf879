"""Prints how fetching, converting and measuring go. Knows no work."""

from __future__ import annotations

from typing import TextIO

from appliance.store.event import StoreEvent


class ProgressLines:
    """One line that is overwritten on a terminal, a line per tenth elsewhere."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._printed_tenth = 0
        self._text = ""

    def __call__(self, event: StoreEvent) -> None:
        if event.text != self._text:
            self._text, self._printed_tenth = event.text, 0
        if event.total_bytes == 0:
            self._out.write(f"{event.text}\n")
        elif self._out.isatty():
            end = "\n" if event.done_bytes >= event.total_bytes else ""
            self._out.write(f"\r{_line(event)}{end}")
        elif 10 * event.done_bytes // event.total_bytes > self._printed_tenth:
            self._printed_tenth = 10 * event.done_bytes // event.total_bytes
            self._out.write(f"{_line(event)}\n")
        self._out.flush()


def _line(event: StoreEvent) -> str:
    percent = 100 * event.done_bytes // event.total_bytes
    return f"{event.text}: {percent:3d} % of {event.total_bytes / 1e6:.1f} MB"
