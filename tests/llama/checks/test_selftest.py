"""The self-test of the CPU paths: probed and remembered by real children, and by
scripted ones that die.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.errors import NoUsableCpuPath
from appliance.llama.checks import (
    CpuPath,
    CpuPaths,
    Demotion,
    LibraryInfo,
    PathChoice,
    PathMemory,
    PathResult,
    find_cpu_paths,
    inspect_library,
    probe_paths,
)
from tests.conftest import Embedded

WORKS = PathResult(True, "works")
DIES = PathResult(False, "died of SIGILL")
DEMOTION = Demotion("a worker was killed by SIGILL at work", "2026-11-22")


# --- probing --------------------------------------------------------------------------


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
if "{fault}" == "is stopped":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)
seed = 1 if extra_bufts == "on" and "{fault}" == "garbage" else 0
logits = np.random.default_rng(seed).normal(size=(4, 32)) * 5
log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
np.save(out, log_probs.astype(np.float32))
"""


@pytest.mark.parametrize(
    ("fault", "usable", "reason"),
    [
        ("none", True, "works"),
        ("dies", False, "died of SIGILL on m.gguf"),
        ("garbage", False, "its logits differ"),
    ],
)
def test_a_path_that_dies_or_computes_something_else_is_not_used(
    tmp_path: Path, fault: str, usable: bool, reason: str
) -> None:
    paths = probe_paths(
        [tmp_path / "m.gguf"], 2, [sys.executable, "-c", FAKE_PROBE.format(fault=fault)]
    )
    assert paths.plain == WORKS
    assert paths.extra_bufts.usable is usable
    assert paths.extra_bufts.reason.startswith(reason)


def lefts(*seconds: float) -> Callable[[], float]:
    """What is left before each model; then nothing any more."""
    script = iter(seconds)
    return lambda: next(script, 0.0)


def test_what_there_is_no_time_for_is_left_to_the_next_time(tmp_path: Path) -> None:
    memory = PathMemory(tmp_path / "cpu_paths.json")
    models = [tmp_path / f"{name}.gguf" for name in "abc"]
    works = [sys.executable, "-c", FAKE_PROBE.format(fault="none")]

    first = find_cpu_paths(models, 2, memory, works, lefts())
    assert (first.untested, first.plain) == (
        ("a.gguf", "b.gguf", "c.gguf"),
        PathResult(True, "not tested yet"),
    )
    second = find_cpu_paths(models, 2, memory, works, lefts(60))
    assert (second.untested, second.plain) == (("b.gguf", "c.gguf"), WORKS)
    assert (second.extra_bufts.works, second.extra_bufts.usable) == (True, False)
    assert second.extra_bufts.finding.startswith("not all of it has been tested yet")
    assert second.choose() == PathChoice(PLAIN, "the only one that is usable")

    third = find_cpu_paths(models, 2, memory, works, lefts(60, 60))
    assert third == CpuPaths(WORKS, WORKS) == memory.recall()
    none = [sys.executable, "-c", "raise SystemExit('not asked again')"]
    assert find_cpu_paths(models, 2, memory, none, lefts(60)) == third


def test_a_fault_that_was_found_early_stays_found(tmp_path: Path) -> None:
    memory = PathMemory(tmp_path / "cpu_paths.json")
    models = [tmp_path / "a.gguf", tmp_path / "b.gguf"]
    dies, works = (
        [sys.executable, "-c", FAKE_PROBE.format(fault=fault)] for fault in ("dies", "none")
    )
    assert find_cpu_paths(models, 2, memory, dies, lefts(60)).untested == ("b.gguf",)
    memory.remember(memory.recall().with_demotion(PLAIN, DEMOTION))  # type: ignore[union-attr]
    whole = find_cpu_paths(models, 2, memory, works, lefts(60))
    assert whole == CpuPaths(
        replace(WORKS, demotion=DEMOTION), PathResult(False, "died of SIGILL on a.gguf")
    )


def test_a_probe_that_the_time_ends_in_counts_for_nothing(tmp_path: Path) -> None:
    hangs = [sys.executable, "-c", "import time; time.sleep(300)"]
    found = probe_paths([tmp_path / "a.gguf"], 2, hangs, lefts(0.05))
    assert (found.untested, found.plain.usable) == (("a.gguf",), True)


def test_a_probe_that_somebody_stops_counts_for_nothing(tmp_path: Path) -> None:
    stopped = [sys.executable, "-c", FAKE_PROBE.replace("{fault}", "is stopped")]
    found = probe_paths([tmp_path / "a.gguf"], 2, stopped)
    assert (found.untested, found.plain.usable) == (("a.gguf",), True)


def test_plain_weights_that_fail_are_worth_all_the_time_for_the_others(tmp_path: Path) -> None:
    plain_dies = FAKE_PROBE.format(fault="none").replace(
        "seed =", 'os.kill(os.getpid(), signal.SIGILL) if extra_bufts == "off" else None\nseed ='
    )
    models = [tmp_path / "a.gguf", tmp_path / "b.gguf"]
    found = probe_paths(models, 2, [sys.executable, "-c", plain_dies], lefts(60))
    assert found == CpuPaths(PathResult(False, "died of SIGILL on a.gguf"), WORKS)


# --- the choice -----------------------------------------------------------------------


PLAIN, EXTRA = CpuPath.PLAIN, CpuPath.EXTRA_BUFTS


@pytest.mark.parametrize(
    ("plain", "extra_bufts", "choice"),
    [
        (WORKS, DIES, PathChoice(PLAIN, "the only one that is usable")),
        (DIES, WORKS, PathChoice(EXTRA, "the only one that is usable")),
        (
            WORKS,
            WORKS,
            PathChoice(
                PLAIN,
                "both are usable, and these are in memory once; `appliance tune` "
                "measures the speed",
            ),
        ),
        (
            replace(WORKS, demotion=DEMOTION),
            WORKS,
            PathChoice(EXTRA, "the only one that is usable"),
        ),
    ],
)
def test_a_usable_path_is_chosen_and_plain_weights_where_both_are(
    plain: PathResult, extra_bufts: PathResult, choice: PathChoice
) -> None:
    paths = CpuPaths(plain, extra_bufts)
    assert paths.choose() == choice
    assert paths.use_extra_bufts() is (choice.path is EXTRA)


def test_no_usable_path_is_an_error_that_names_both_reasons() -> None:
    paths = CpuPaths(DIES, replace(WORKS, demotion=DEMOTION))
    with pytest.raises(
        NoUsableCpuPath, match=r"weights: died of SIGILL; .*: given up on 2026-11-22: a worker was"
    ):
        paths.use_extra_bufts()


# --- the memory -----------------------------------------------------------------------


def test_results_and_demotions_are_remembered_as_they_were(tmp_path: Path) -> None:
    memory = PathMemory(tmp_path / "cpu_paths.json")
    paths = CpuPaths(WORKS, DIES).with_demotion(EXTRA, DEMOTION)
    assert memory.recall() is None
    memory.remember(paths)
    assert memory.recall() == paths
    memory.remember(paths.with_demotion(EXTRA, None))
    assert memory.recall() == CpuPaths(WORKS, DIES)


def test_another_cpu_or_library_remembers_nothing_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = PathMemory(tmp_path / "cpu_paths.json")
    memory.remember(CpuPaths(WORKS, DIES))
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("appliance.llama.checks.memory.machine_key", lambda: "another")
        assert memory.recall() is None
        memory.remember(CpuPaths(DIES, WORKS))
    assert memory.recall() == CpuPaths(WORKS, DIES)


@pytest.mark.parametrize(
    "content",
    [
        "{damaged",
        # version 1
        '{"0a1b": {"plain": {"usable": true, "reason": "works", "prefill_ms": 1.0, "decode_ms": '
        "1.0}}}",
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
    assert "cannot be used" in caplog.text
    memory.remember(CpuPaths(WORKS, DIES))
    assert memory.recall() == CpuPaths(WORKS, DIES)


def test_a_state_directory_that_cannot_be_written_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    with caplog.at_level(logging.WARNING):
        PathMemory(tmp_path / "file" / "cpu_paths.json").remember(CpuPaths(WORKS, DIES))
    assert "cannot be saved" in caplog.text


# --- the library ----------------------------------------------------------------------


def test_the_real_library_tells_its_devices_from_a_child() -> None:
    info = inspect_library()
    assert isinstance(info, LibraryInfo)
    (cpu,) = (device for device in info.devices if device.kind == "CPU")
    assert cpu.library.startswith("libggml-cpu")
    # a build for one machine has one back end; a release's has one for each kind of CPU
    assert info.cpu_scores == {} or info.cpu_scores[cpu.library] == max(info.cpu_scores.values())
    assert info.system_info.startswith("CPU : ")


def test_a_library_that_kills_its_process_is_told_in_words() -> None:
    dies = "import os, signal; os.kill(os.getpid(), signal.SIGILL)"
    assert inspect_library([sys.executable, "-c", dies]) == "died of SIGILL"
    assert inspect_library([sys.executable, "-c", "raise OSError('no libgomp')"]) == (
        "failed with status 1: OSError: no libgomp"
    )
