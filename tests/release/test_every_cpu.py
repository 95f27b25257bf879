"""The wheel of llama-cpp-python that runs on every CPU, beside the one that is
installed here: the same results, of our kernels too.

Needs `python -m release llama-cpp` before, which takes half an hour; skipped without.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from appliance.llama.checks import LibraryInfo, find_kernels, inspect_library, run_kernel_test
from appliance.llama.checks.correctness import why_wrong
from release.target import CHECKOUT
from tests.conftest import Embedded
from tests.release.unpacked import released_wheels, unpack_wheels


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    wheels = released_wheels(platform.machine(), "llama_cpp_python")
    folder = tmp_path_factory.mktemp("llama_cpp")
    unpack_wheels(wheels, ("llama_cpp_python",), folder)
    return folder


@pytest.fixture
def released(unpacked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Child processes import that wheel."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(unpacked), str(CHECKOUT))))


@pytest.mark.usefixtures("released")
def test_the_best_back_end_for_this_cpu_is_taken() -> None:
    info = inspect_library()
    assert isinstance(info, LibraryInfo)
    (cpu,) = (device for device in info.devices if device.kind == "CPU")
    assert info.cpu_scores[cpu.library] == max(info.cpu_scores.values())
    assert len(info.cpu_scores) == (14 if platform.machine() == "x86_64" else 6)


@pytest.mark.usefixtures("released")
def test_our_kernels_compute_what_its_own_do() -> None:
    library = find_kernels()
    if isinstance(library, str):
        pytest.skip(f"our own kernels {library}")
    found = run_kernel_test(library, 2)
    assert found.failure == ""
    assert [result.name for result in found.results if not result.is_right] == []
    assert {"matmul q4_k", "attention f16"} <= {result.name for result in found.results}


@pytest.mark.parametrize("extra_buffers", ["on", "off"])
def test_a_model_says_the_same(
    extra_buffers: str,
    embedded: Embedded,
    unpacked: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def decode(out: Path) -> np.ndarray:
        model = str(embedded.files["Q4_K_M"])
        command = [sys.executable, "-m", "appliance.llama.probe", model, extra_buffers, "2"]
        subprocess.run([*command, str(out)], check=True)
        found: np.ndarray = np.load(out)
        return found

    here = decode(tmp_path / "here.npy")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(unpacked), str(CHECKOUT))))
    assert why_wrong(decode(tmp_path / "released.npy"), here) == ""
