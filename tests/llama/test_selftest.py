"""The self-test of the CPU paths: probed, timed and remembered by real children, and by scripted ones that die."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.errors import NoUsableCpuPath
from appliance.llama.selftest import (
    Choice,
    CpuPath,
    CpuPaths,
    Demotion,
    LibraryInfo,
    PathMemory,
    PathResult,
    PathTimes,
    Rounds,
    find_cpu_paths,
    inspect_library,
    probe_paths,
    relative_time,
    time_paths,
)
from appliance.store.synthetic import RandomShape, write_random_model
from tests.conftest import Embedded

WORKS = PathResult(True, "works")
DIES = PathResult(False, "died of SIGILL")
DEMOTION = Demotion("a worker was killed by SIGILL at work", "2026-11-22")
ONE_ROUND = Rounds(least=1, most=1, budget_s=0.0)


# --- probing -------------------------------------------------------------------------------------------------------


def test_real_paths_are_probed_once_and_remembered(embedded: Embedded, tmp_path: Path) -> None:
    memory = PathMemory(tmp_path / "state" / "cpu_paths.json")
    found = find_cpu_paths([embedded.files[kind] for kind in ("Q8_0", "Q4_K_M")], 2, memory)
    assert found.plain.usable or found.extra_bufts.usable
    # A second call must come from the file: with this model it could find nothing.
    assert find_cpu_paths([tmp_path / "absent.gguf"], 2, memory) == found


FAKE_PROBE = """
import os, signal, sys
import numpy as np
model, extra_bufts, threads, out = sys.argv[1:]
if extra_bufts == "on" and "{fault}" == "dies":
    os.kill(os.getpid(), signal.SIGILL)
logits = np.random.default_rng(1 if extra_bufts == "on" and "{fault}" == "garbage" else 0).normal(size=(4, 32)) * 5
log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
np.save(out, log_probs.astype(np.float32))
"""


@pytest.mark.parametrize(
    ("fault", "usable", "reason"),
    [("none", True, "works"), ("dies", False, "died of SIGILL on m.gguf"), ("garbage", False, "its logits differ")],
)
def test_a_path_that_dies_or_computes_something_else_is_not_used(
    tmp_path: Path, fault: str, usable: bool, reason: str
) -> None:
    paths = probe_paths([tmp_path / "m.gguf"], 2, [sys.executable, "-c", FAKE_PROBE.format(fault=fault)])
    assert paths.plain == WORKS
    assert paths.extra_bufts.usable is usable
    assert paths.extra_bufts.reason.startswith(reason)


# --- timing --------------------------------------------------------------------------------------------------------


def test_real_paths_are_timed_on_made_up_weights(tmp_path: Path) -> None:
    model = tmp_path / "random.gguf"
    write_random_model(model, RandomShape(1, 256, 512, heads=4, kv_heads=2, vocab=300, ctx=1024), "Q4_K")
    # Plain weights alone: extra buffer types may be broken here, which is not what this test is about.
    paths = time_paths(CpuPaths(WORKS, DIES), model, 2, ONE_ROUND)
    times = paths.plain.times
    assert times is not None
    assert (sorted(times.prefill_ms), sorted(times.decode_ms)) == ([16, 64, 256], [1, 4])
    assert 0 < times.prefill_ms[16] < times.prefill_ms[256]
    assert times.noise >= 1
    assert paths.extra_bufts == DIES


FAKE_TIMING = """
import json, os, signal, sys
for number, line in enumerate(sys.stdin):
    kind, count = line.split()
    if sys.argv[2] == "on" and number == 6:
        os.kill(os.getpid(), signal.SIGILL)
    print(json.dumps([float(count) + 10 * (number < 5)]), flush=True)
"""


def test_the_best_of_all_rounds_counts_and_a_path_that_dies_of_timing_works_no_longer(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FAKE_TIMING]
    paths = time_paths(CpuPaths(WORKS, WORKS), tmp_path / "m.gguf", 2, Rounds(3, 3, 0.0), command)
    # Three rounds: ten milliseconds too slow in the first, so medians equal the best.
    assert paths.plain.times == PathTimes({16: 16.0, 64: 64.0, 256: 256.0}, {1: 1.0, 4: 4.0}, noise=1.0)
    assert paths.extra_bufts == PathResult(False, "died of SIGILL while it was timed")


# --- the choice ----------------------------------------------------------------------------------------------------


def timed(prefill_ms: float, decode_1_ms: float, decode_4_ms: float) -> PathResult:
    times = PathTimes(dict.fromkeys((16, 64, 256), prefill_ms), {1: decode_1_ms, 4: decode_4_ms}, noise=1.0)
    return replace(WORKS, times=times)


def test_relative_time_is_the_geometric_mean_of_both_decodes_and_all_of_prefill() -> None:
    reference, other = timed(100.0, 10.0, 40.0).times, timed(800.0, 10.0, 40.0).times
    assert reference is not None
    assert other is not None
    assert relative_time(other, reference) == pytest.approx(2.0)


PLAIN, EXTRA = CpuPath.PLAIN, CpuPath.EXTRA_BUFTS


@pytest.mark.parametrize(
    ("plain", "extra_bufts", "choice"),
    [
        (WORKS, DIES, Choice(PLAIN, "the only one that is usable")),
        (DIES, WORKS, Choice(EXTRA, "the only one that is usable")),
        (WORKS, WORKS, Choice(PLAIN, "not timed yet (`appliance doctor` does it)")),
        (timed(1, 1, 1), timed(1, 1, 0.5), Choice(EXTRA, "takes 21 % less time than plain weights")),
        (timed(1, 1, 1), timed(1, 1, 2), Choice(PLAIN, "extra buffer types take 26 % more time")),
        (
            timed(1, 1, 1),
            timed(0.96, 0.96, 0.96),
            Choice(PLAIN, "within 5 % of the other, and its weights are in memory once"),
        ),
        (timed(1, 1, 1), timed(0.94, 0.94, 0.94), Choice(EXTRA, "takes 6 % less time than plain weights")),
        (replace(WORKS, demotion=DEMOTION), WORKS, Choice(EXTRA, "the only one that is usable")),
    ],
)
def test_the_fastest_usable_path_is_chosen_and_plain_weights_when_in_doubt(
    plain: PathResult, extra_bufts: PathResult, choice: Choice
) -> None:
    paths = CpuPaths(plain, extra_bufts)
    assert paths.choose() == choice
    assert paths.use_extra_bufts() is (choice.path is EXTRA)


def test_no_usable_path_is_an_error_that_names_both_reasons() -> None:
    paths = CpuPaths(DIES, replace(WORKS, demotion=DEMOTION))
    with pytest.raises(NoUsableCpuPath, match=r"weights: died of SIGILL; .*: given up on 2026-11-22: a worker was"):
        paths.use_extra_bufts()


# --- the memory ----------------------------------------------------------------------------------------------------


def test_results_times_and_demotions_are_remembered_as_they_were(tmp_path: Path) -> None:
    memory = PathMemory(tmp_path / "cpu_paths.json")
    paths = CpuPaths(timed(8.5, 1.25, 2.0), timed(9.0, 1.0, 1.5)).with_demotion(EXTRA, DEMOTION)
    assert memory.recall() is None
    memory.remember(paths)
    assert memory.recall() == paths
    memory.remember(paths.with_demotion(EXTRA, None))
    assert memory.recall() == CpuPaths(timed(8.5, 1.25, 2.0), timed(9.0, 1.0, 1.5))


def test_another_cpu_or_library_remembers_nothing_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = PathMemory(tmp_path / "cpu_paths.json")
    memory.remember(CpuPaths(WORKS, DIES))
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("appliance.llama.selftest.memory.machine_key", lambda: "another")
        assert memory.recall() is None
        memory.remember(CpuPaths(DIES, WORKS))
    assert memory.recall() == CpuPaths(WORKS, DIES)


@pytest.mark.parametrize(
    "content",
    [
        "{damaged",
        '{"0a1b": {"plain": {"usable": true, "reason": "works", "prefill_ms": 1.0, "decode_ms": 1.0}}}',  # version 1
        '{"version": 3, "machines": {}}',
        '{"version": 2, "machines": {"0a1b": {"plain": 1}}}',
        "\udcff",
    ],
)
def test_a_damaged_file_or_one_of_another_version_counts_as_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    state_file = tmp_path / "cpu_paths.json"
    state_file.write_text(content, errors="surrogateescape")
    memory = PathMemory(state_file)
    assert memory.recall() is None
    assert "is not used" in caplog.text
    memory.remember(CpuPaths(WORKS, DIES))
    assert memory.recall() == CpuPaths(WORKS, DIES)


def test_a_state_directory_that_cannot_be_written_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    with caplog.at_level(logging.WARNING):
        PathMemory(tmp_path / "file" / "cpu_paths.json").remember(CpuPaths(WORKS, DIES))
    assert "cannot be remembered" in caplog.text


# --- the library ---------------------------------------------------------------------------------------------------


def test_the_real_library_tells_its_devices_from_a_child() -> None:
    info = inspect_library()
    assert isinstance(info, LibraryInfo)
    assert [device.kind for device in info.devices].count("CPU") == 1
    assert info.system_info.startswith("CPU : ")


def test_a_library_that_kills_its_process_is_told_in_words() -> None:
    dies = "import os, signal; os.kill(os.getpid(), signal.SIGILL)"
    assert inspect_library([sys.executable, "-c", dies]) == "died of SIGILL"
    assert inspect_library([sys.executable, "-c", "raise OSError('no libgomp')"]) == (
        "failed with status 1: OSError: no libgomp"
    )
