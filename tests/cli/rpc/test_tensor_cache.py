"""Which files of weights a helper keeps: whole ones alone, and the latest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from appliance.cli.rpc import tensor_cache
from appliance.cli.rpc.tensor_cache import TensorCache


def written(folder: Path, name: str, num_bytes: int, at_s: float) -> Path:
    """As llama.cpp writes it."""
    path = folder / name
    path.write_bytes(bytes(num_bytes))
    os.utime(path, (at_s, at_s))
    return path


@pytest.fixture
def cache(tmp_path: Path) -> TensorCache:
    cache = TensorCache(tmp_path / "rpc-cache", 1000)
    cache.prepare()
    return cache


def test_what_was_whole_outlives_a_crash_and_nothing_else(cache: TensorCache) -> None:
    old = written(cache.folder, "0123456789abcdef", 10, at_s=1000.0)
    new = written(cache.folder, "fedcba9876543210", 10, at_s=1025.0)
    cache.settle(idle=False, now_s=1031.0)
    cache.prepare()
    assert (old.exists(), new.exists()) == (True, False)


def test_once_the_server_has_gone_all_is_whole(cache: TensorCache) -> None:
    path = written(cache.folder, "0123456789abcdef", 10, at_s=1000.0)
    cache.settle(idle=True, now_s=1000.5)
    cache.prepare()
    assert path.exists()


def test_on_a_full_disk_nothing_is_believed(
    cache: TensorCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(cache.folder, "0123456789abcdef", 10, at_s=1000.0)
    monkeypatch.setattr(tensor_cache, "_LEAST_FREE_BYTES", 1 << 60)
    cache.settle(idle=True, now_s=2000.0)
    assert not path.exists()


def test_the_longest_unused_goes_first(cache: TensorCache) -> None:
    paths = [written(cache.folder, f"{at:016x}", 400, at_s=1000.0 + at) for at in range(3)]
    cache.settle(idle=True, now_s=1010.0)
    assert [path.exists() for path in paths] == [False, True, True]
