"""A safetensors file on a hub as bytes: pieces of it, kept while they are likely to be read again.

Knows no tensors but where each begins and ends.

Rows are read in blocks far smaller than what is worth a request, by several threads, and of
some weights the rows of several tensors in turns. So a piece of a tensor (a window) is fetched
at once, the next one of the same tensor along with it, and the last few are kept. No window
reaches beyond its tensor: what nobody reads is not fetched.
"""

from __future__ import annotations

import bisect
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

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
        self._pool = ThreadPoolExecutor(_NUM_CONNECTIONS, thread_name_prefix="hub")

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
            window = self._kept.pop((name, start), None) or self._pool.submit(fetch, start, stop)
            self._kept[name, start] = window
            while len(self._kept) > _NUM_KEPT:
                self._kept.popitem(last=False)  # whoever waits for it has it
        return window

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._kept.clear()


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
