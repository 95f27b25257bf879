"""A safetensors file on a hub as bytes: pieces of it, kept while they are likely to be read again.

Knows no tensors but where each begins and ends.

Rows are read in blocks far smaller than what is worth a request, by several threads, and of
some weights the rows of several tensors in turns. So a piece of a tensor (a window) is fetched
at once, the next one of the same tensor along with it, and the last few are kept. No window
reaches beyond its tensor: what nobody reads is not fetched.
"""

from __future__ import annotations

import bisect
import contextlib
import queue
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Future, InvalidStateError

from convert.errors import HubLost
from convert.hub.ranges import read_range
from convert.hub.repository import HubFile, Repository

_MAX_WINDOW_BYTES = 16 << 20
_MIN_WINDOW_BYTES = 1 << 18
_NUM_KEPT = 12  # of the tensors that a quantized weight is made of, and what is fetched ahead
_NUM_CONNECTIONS = 4
_SHARE = 8  # one part in so many of all memory

Fetch = Callable[[int, int], bytearray]


class Windows:
    """The windows of all files of a checkpoint. Thread-safe.

    `max_bytes` is what they take at most: those that are kept, and one more in the hands of
    each of `num_threads` readers.
    """

    def __init__(self, max_ram_bytes: int, num_threads: int) -> None:
        num_windows = _NUM_KEPT + num_threads
        share = max_ram_bytes // _SHARE // num_windows
        self.window_bytes = max(_MIN_WINDOW_BYTES, min(_MAX_WINDOW_BYTES, share))
        self.max_bytes = num_windows * self.window_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, int], Future[bytearray]] = OrderedDict()
        self._fetchers = _Fetchers(_NUM_CONNECTIONS)

    def get(self, name: str, start: int, stop: int, fetch: Fetch) -> bytearray:
        """The bytes from `start` up to `stop`. Raises what `fetch` raises."""
        window = self.begin(name, start, stop, fetch)
        try:
            return window.result()
        except BaseException:
            with self._lock:
                self._kept.pop((name, start), None)
            raise

    def begin(self, name: str, start: int, stop: int, fetch: Fetch) -> Future[bytearray]:
        """Has a window fetched, unless it is here or on its way."""
        with self._lock:
            window = self._kept.pop((name, start), None) or self._fetchers.submit(
                fetch, start, stop
            )
            self._kept[name, start] = window
            while len(self._kept) > _NUM_KEPT:
                self._kept.popitem(last=False)  # whoever waits for it has it
        return window

    def stop(self) -> None:
        """Whoever waits for a window has `HubLost` at once, and nothing more is fetched: a
        connection that is dead would take its whole time to say so.
        """
        with self._lock:
            self._fetchers.stop()
            waited_for = [*self._kept.values()]
        for window in waited_for:
            with contextlib.suppress(InvalidStateError):  # it is here
                window.set_exception(HubLost("The conversion was ended."))

    def close(self) -> None:
        self.stop()
        self._kept.clear()


class _Fetchers:
    """Threads that fetch windows. What one of them is at when all ends is not waited for, nor by
    the interpreter: hence not a `ThreadPoolExecutor`.
    """

    def __init__(self, num_threads: int) -> None:
        self._jobs: queue.SimpleQueue[tuple[Future[bytearray], Callable[[], bytearray]] | None]
        self._jobs = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"hub-{number}", daemon=True)
            for number in range(num_threads)
        ]
        self._is_stopped = False
        for thread in self._threads:
            thread.start()

    def submit(self, fetch: Fetch, start: int, stop: int) -> Future[bytearray]:
        window: Future[bytearray] = Future()
        if self._is_stopped:
            window.set_exception(HubLost("The conversion was ended."))
        else:
            self._jobs.put((window, lambda: fetch(start, stop)))
        return window

    def stop(self) -> None:
        if not self._is_stopped:
            self._is_stopped = True
            for _ in self._threads:
                self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            window, fetch = job
            if self._is_stopped or not window.set_running_or_notify_cancel():
                continue
            with contextlib.suppress(InvalidStateError):  # stopped: nobody waits any more
                _fulfil(window, fetch)


def _fulfil(window: Future[bytearray], fetch: Callable[[], bytearray]) -> None:
    try:
        data = fetch()
    except Exception as error:  # noqa: BLE001 - it is raised where the window is asked for
        window.set_exception(error)
    else:
        window.set_result(data)


class RemoteBytes:
    """The bytes of one file; its header is read before `place` says where tensors are."""

    def __init__(self, repository: Repository, file: HubFile, windows: Windows) -> None:
        self.num_bytes = file.num_bytes
        self._name = file.name
        self._windows = windows
        self._fetch: Fetch = lambda start, stop: read_range(repository, file, start, stop)
        self._extents: list[tuple[int, int]] = []

    def place(self, extents: Iterable[tuple[int, int]]) -> None:
        """Tells where each tensor's first byte is, and the one behind its last."""
        self._extents = sorted((start, stop) for start, stop in extents if start < stop)

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Raises what `read_range` raises."""
        while len(buffer):
            data, start = self._window(offset, len(buffer))
            piece = memoryview(data)[offset - start : offset - start + len(buffer)]
            buffer[: len(piece)] = piece
            buffer, offset = buffer[len(piece) :], offset + len(piece)

    def close(self) -> None:
        """There is nothing to close: connections are the client's."""

    def _window(self, offset: int, num_bytes: int) -> tuple[bytearray, int]:
        """Bytes that include the one at `offset`, and where they begin."""
        index = bisect.bisect_right(self._extents, (offset, self.num_bytes)) - 1
        if index < 0:
            return self._fetch(offset, min(offset + num_bytes, self.num_bytes)), offset
        size = self._windows.window_bytes
        first, end = self._extents[index]
        start = first + (offset - first) // size * size
        stop = min(start + size, end)
        self._windows.begin(self._name, start, stop, self._fetch)
        if stop < end:
            self._windows.begin(self._name, stop, min(stop + size, end), self._fetch)
        return self._windows.get(self._name, start, stop, self._fetch), start
