"""What is fetched of a file, and what is kept of it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from convert.errors import HubLost
from convert.hub import windows as windows_of
from convert.hub.repository import HubFile, Repository
from convert.hub.windows import RemoteBytes, Windows

MIB = 1 << 20
CONTENT = bytes(range(256)) * 4096  # 1 MiB
FILE = HubFile("model.safetensors", len(CONTENT), "0" * 64)
REPOSITORY = Repository("org/repo", "0" * 40, (FILE,))

Asked = list[tuple[int, int]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    seen: Asked = []

    def read_range(_repository: Repository, _file: HubFile, start: int, stop: int) -> bytearray:
        seen.append((start, stop))
        return bytearray(CONTENT[start:stop])

    monkeypatch.setattr(windows_of, "read_range", read_range)
    return seen


def read(remote: RemoteBytes, start: int, stop: int) -> bytes:
    buffer = bytearray(stop - start)
    remote.read_into(memoryview(buffer), start)
    return bytes(buffer)


def test_windows_end_where_tensors_do(asked: Asked) -> None:
    windows = Windows(1, 1)  # the smallest
    assert windows.window_bytes == MIB // 4
    remote = RemoteBytes(REPOSITORY, FILE, windows)
    remote.place([(600_000, len(CONTENT)), (100, 100), (100, 600_000)])
    for start in range(100, 600_000, 7_000):
        stop = min(start + 7_000, 600_000)
        assert read(remote, start, stop) == CONTENT[start:stop]
    assert read(remote, 599_000, 700_000) == CONTENT[599_000:700_000]
    windows.close()
    assert sorted(asked) == [
        (100, 262_244),
        (262_244, 524_388),
        (524_388, 600_000),
        (600_000, 862_144),
        (862_144, len(CONTENT)),
    ]


@pytest.mark.parametrize(
    ("max_ram_bytes", "num_threads", "window_bytes"),
    [(1536 * MIB, 2, 14_380_470), (4096 * MIB, 2, 16 * MIB), (1536 * MIB, 52, 3 * MIB)],
)
def test_an_eighth_of_memory_at_most(
    max_ram_bytes: int, num_threads: int, window_bytes: int
) -> None:
    windows = Windows(max_ram_bytes, num_threads)
    windows.close()
    assert windows.window_bytes == window_bytes
    assert windows.max_bytes <= max_ram_bytes // 8


def test_what_failed_is_asked_for_again(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    windows = Windows(1, 1)

    def fail(start: int, stop: int) -> bytearray:
        raise HubLost("away")

    with pytest.raises(HubLost, match="away"):
        windows.get("a", 0, 10, fail)
    assert windows.get("a", 0, 3, lambda start, stop: bytearray(b"abc")) == b"abc"
    windows.close()


def test_who_waits_when_all_ends_waits_no_longer() -> None:
    windows, may_end, has_begun = Windows(1, 1), threading.Event(), threading.Event()

    def hang(start: int, stop: int) -> bytearray:
        has_begun.set()
        may_end.wait()
        return bytearray(stop - start)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(windows.get, "a", 0, 10, hang)
        assert has_begun.wait(60)
        windows.stop()
        with pytest.raises(HubLost, match="was ended"):
            waiting.result()
    with pytest.raises(HubLost, match="was ended"):
        windows.get("a", 10, 20, hang)
    may_end.set()
    windows.close()
