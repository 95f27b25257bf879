"""What a cache's file keeps, for how long and how much of it; a failing disk is no cache."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path

import pytest

from appliance.gateway.answer_cache.entries import CacheRules, Entries
from tests.gateway.answer_cache.house import Clock, entries_in_memory

RULES = CacheRules(lifetime_s=60.0, max_bytes=1 << 20)


async def test_what_is_put_is_there_at_once_and_stays_as_it_was() -> None:
    entries = entries_in_memory()
    entries.put({b"a": b"1", b"b": b"2"})
    entries.put({b"a": b"another"})
    assert await entries.get([b"b", b"a", b"c"]) == {b"b": b"2", b"a": b"1"}
    await entries.close()


async def test_what_nobody_uses_for_its_lifetime_is_gone() -> None:
    clock = Clock()
    entries = entries_in_memory(lifetime_s=60.0, clock=clock)
    entries.put({b"a": b"1", b"b": b"2"})
    clock.now_s += 59
    assert await entries.get([b"a"]) == {b"a": b"1"}
    clock.now_s += 59
    assert await entries.get([b"a", b"b"]) == {b"a": b"1"}
    await entries.close()


async def test_without_a_lifetime_only_room_counts() -> None:
    clock = Clock()
    entries = entries_in_memory(lifetime_s=math.inf, clock=clock)
    entries.put({b"a": b"1"})
    clock.now_s += 1e9
    assert await entries.get([b"a"]) == {b"a": b"1"}
    await entries.close()


async def test_what_was_used_longest_ago_makes_room() -> None:
    """Of entries of three pages each, nine fit."""
    clock = Clock()
    entries = entries_in_memory(max_bytes=128 << 10, clock=clock)
    names = [b"%d" % number for number in range(11)]
    for name in names:
        clock.now_s += 1
        entries.put({name: bytes(12_000)})
        if name == b"8":
            clock.now_s += 1
            assert [*await entries.get([b"0"])] == [b"0"]
    assert [*await entries.get(names)] == [b"0", *names[3:]]
    assert 100_000 < entries.num_bytes <= 128 << 10
    await entries.close()


async def test_it_outlives_the_process(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    first = Entries.in_file(path, RULES)
    assert first is not None
    first.put({b"a": b"1"})
    await first.close()
    second = Entries.in_file(path, RULES)
    assert second is not None
    assert await second.get([b"a"]) == {b"a": b"1"}
    assert second.num_bytes == path.stat().st_size
    await second.close()


async def test_a_disk_that_fails_finds_nothing_and_keeps_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    entries = entries_in_memory()
    entries.put({b"a": b"1"})
    await entries.close()
    assert await entries.get([b"a"]) == {}
    assert await entries.get([b"a"]) == {}
    entries.put({b"b": b"2"})
    [told] = [each for each in caplog.records if "a cache does without" in each.message]
    assert "is closed" in told.message


async def test_a_file_that_cannot_be_opened_is_no_cache(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").write_text("a file")
    assert Entries.in_file(tmp_path / "state" / "cache.sqlite", RULES) is None
    assert "nothing is cached in cache.sqlite" in caplog.text


async def test_a_damaged_file_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    path.write_bytes(b"no database at all" * 1000)
    entries = Entries.in_file(path, RULES)
    assert entries is not None
    entries.put({b"a": b"1"})
    assert await entries.get([b"a"]) == {b"a": b"1"}
    await entries.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM entries").fetchone() == (1,)
    connection.close()


async def test_what_is_not_written_yet_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    entries = entries_in_memory()
    entries.put({b"too much": bytes(8 << 20), b"at once": b"1"})
    assert await entries.get([b"too much", b"at once"]) == {}
    assert "it is written too slowly" in caplog.text
    entries.put({b"a": b"1"})
    assert await entries.get([b"a"]) == {b"a": b"1"}
    await entries.close()
