"""The self-test of the CPU paths: probed and remembered by real children, and by
scripted ones that die.
"""

from __future__ import annotations

import logging
import sys
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
    assert [device.kind for device in info.devices].count("CPU") == 1
    assert info.system_info.startswith("CPU : ")


def test_a_library_that_kills_its_process_is_told_in_words() -> None:
    dies = "import os, signal; os.kill(os.getpid(), signal.SIGILL)"
    assert inspect_library([sys.executable, "-c", dies]) == "died of SIGILL"
    assert inspect_library([sys.executable, "-c", "raise OSError('no libgomp')"]) == (
        "failed with status 1: OSError: no libgomp"
    )
