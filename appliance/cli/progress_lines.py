"""Shows how fetching, converting and measuring go, and how long they will still take.

Knows no work.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from typing import TextIO

from appliance.durations import TimeLeft, in_words
from appliance.store.event import StoreEvent

_REST_OF_LINE = "\x1b[K"  # a terminal deletes it: what was there may have been longer
_TICK_S = 1.0


class ProgressLines:
    """One line that is overwritten on a terminal, a line per tenth elsewhere.

    Several works may go on at once: each is known by its text.
    """

    def __init__(self, out: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out
        self._clock = clock
        self._shown_tenths: dict[str, int] = {}
        self._left: dict[str, TimeLeft] = {}

    def __call__(self, event: StoreEvent) -> None:
        if event.total_bytes:
            share = event.done_bytes / event.total_bytes
            self.show(event.text, share, f" of {event.total_bytes / 1e6:.1f} MB")
        else:
            self._out.write(f"{event.text}\n")
            self._out.flush()

    def show(self, text: str, share: float, amount: str = "") -> None:
        """`share` of the work that is called `text` is done, from 0 to 1; `amount` says of
        how much.
        """
        line = self.line(text, share, amount)
        if self._out.isatty():
            width = shutil.get_terminal_size().columns - 1
            end = "\n" if share >= 1 else ""
            self._out.write(f"\r{line[:width]}{_REST_OF_LINE}{end}")
        elif self.is_next_tenth(text, share):
            self._out.write(f"{line}\n")
        self._out.flush()

    def line(self, text: str, share: float, amount: str) -> str:
        """To be asked for at every step: it learns how quick the work is."""
        left = self._left.setdefault(text, TimeLeft(self._clock)).words(share)
        if share >= 1:
            del self._left[text]  # the same work may begin again
        return f"{text}: {_whole(100 * share):3d} %{amount}{', ' if left else ''}{left}"

    def is_next_tenth(self, text: str, share: float) -> bool:
        """Of the same work, since the last one that was."""
        tenth = _whole(10 * share)
        is_next = tenth > self._shown_tenths.get(text, 0)
        if share >= 1:
            self._shown_tenths.pop(text, None)
        elif is_next:
            self._shown_tenths[text] = tenth
        return is_next


@contextlib.contextmanager
def counted(text: str, expected_s: float, out: TextIO) -> Iterator[None]:
    """Work that is known to take about so long: on a terminal a line that counts its
    seconds, elsewhere one that says so.
    """
    about = f"about {in_words(expected_s)}"
    if not out.isatty():
        print(f"{text} for {about}", file=out, flush=True)
        yield
        return
    ended, begun_s = threading.Event(), time.monotonic()

    def count() -> None:
        while not ended.is_set():
            elapsed = in_words(time.monotonic() - begun_s)
            out.write(f"\r{text}: {elapsed} of {about}{_REST_OF_LINE}")
            out.flush()
            ended.wait(_TICK_S)

    counting = threading.Thread(target=count, daemon=True)
    counting.start()
    try:
        yield
    finally:
        ended.set()
        counting.join()
        out.write("\n")


def _whole(parts: float) -> int:
    """Rounded down, but not because of how floats are kept: 0.29 of 100 are 29."""
    return int(parts + 1e-9)


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
            share = event.done_bytes / event.total_bytes
            line = self._lines.line(event.text, share, f" of {event.total_bytes / 1e6:.1f} MB")
            if self._lines.is_next_tenth(event.text, share):
                self._log.info("%s", line)
        else:
            self._log.log(logging.WARNING if event.is_warning else logging.INFO, "%s", event.text)
