"""The copy that measures memory, and what is remembered of it."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.fit.machine.bandwidth import Bandwidth, BandwidthKey, BandwidthMemory
from appliance.fit.machine.memory_copy import measure_bandwidth

MIB = 1 << 20
MACHINE = BandwidthKey("Cortex-A76", 8 << 30, 4)
MEASURED = Bandwidth(
    copy_bytes_per_s=9.5e9,
    threads=4,
    copied_bytes=64 * MIB,
    spread=1.1,
    cached=False,
    date="2026-11-23",
)


def test_it_is_measured_within_the_memory_that_is_free() -> None:
    measured = measure_bandwidth(threads=2, free_bytes=160 * MIB, cache_bytes=1 * MIB)

    assert measured is not None
    assert (measured.threads, measured.cached) == (2, False)
    assert 32 * MIB <= measured.copied_bytes <= 64 * MIB
    assert measured.copy_bytes_per_s > 0
    assert measured.spread >= 1


def test_large_caches_are_reported() -> None:
    measured = measure_bandwidth(threads=1, free_bytes=160 * MIB, cache_bytes=64 * MIB)

    assert measured is not None
    assert measured.cached


@pytest.mark.parametrize(("threads", "free_bytes"), [(1, 64 * MIB), (64, 1024 * MIB)])
def test_too_little_memory_is_not_measured(threads: int, free_bytes: int) -> None:
    assert measure_bandwidth(threads, free_bytes, cache_bytes=0) is None


def test_the_best_is_remembered_for_each_machine(tmp_path: Path) -> None:
    memory = BandwidthMemory(tmp_path / "state")
    slower = replace(MEASURED, copy_bytes_per_s=4e9, date="2026-11-24")

    assert memory.recall(MACHINE) is None
    assert memory.remember(MACHINE, MEASURED) == MEASURED
    assert memory.remember(MACHINE, slower) == MEASURED
    assert memory.remember(replace(MACHINE, threads=2), slower) == slower
    assert BandwidthMemory(tmp_path / "state").recall(MACHINE) == MEASURED


@pytest.mark.parametrize("content", [b"", b"{}", b'{"version": 2, "machines": {}}', b"\xff"])
def test_a_damaged_file_is_reported_and_written_anew(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "memory_bandwidth.json").write_bytes(content)
    memory = BandwidthMemory(tmp_path)

    with caplog.at_level(logging.WARNING):
        assert memory.recall(MACHINE) is None
    assert "memory_bandwidth.json, which will be rewritten" in caplog.text
    memory.remember(MACHINE, MEASURED)
    assert memory.recall(MACHINE) == MEASURED


def test_a_state_directory_that_cannot_be_written_costs_the_memory_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()

    assert BandwidthMemory(tmp_path / "file").remember(MACHINE, MEASURED) == MEASURED
    assert "cannot save the measured memory bandwidth" in caplog.text
