"""The kernels that this installation has, in child processes: loaded, compared, switched
off one by one. Skipped where there are none.
"""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from appliance.llama.checks import KernelLibrary, find_kernels, run_kernel_test
from appliance.llama.checks.kernel_test import MAX_ERROR
from appliance.protocol.kernel_use import KernelUse


@pytest.fixture(scope="module")
def library() -> KernelLibrary:
    found = find_kernels()
    if isinstance(found, str):
        pytest.skip(f"our own kernels {found}")
    return found


def test_each_computes_what_llama_cpp_does(library: KernelLibrary) -> None:
    found = run_kernel_test(library, 2)
    assert found.failure == ""
    assert {result.name: result.error for result in found.results if not result.is_right} == {}
    assert {"matmul q4_k", "attention f16"} <= {result.name for result in found.results}
    assert all(result.error <= MAX_ERROR for result in found.results)
    assert all(math.isfinite(result.speedup) for result in found.results)


PROGRAM = """
import logging, sys
import msgspec
from appliance.llama.kernels import loading
from appliance.protocol.kernel_use import KernelUse

logging.basicConfig(level="INFO", format="%(message)s")
use = msgspec.json.decode(sys.argv[1], type=KernelUse)
loading.use_kernels(use)
loading.use_kernels(use)
print(loading.identity())
"""


def build_of(path: Path) -> str:
    return KernelLibrary.at(path).build if path.exists() else "abc"


def load(use: KernelUse) -> tuple[str, str]:
    """(identity, log) of a process that loads these."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, msgspec.json.encode(use).decode()],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip(), done.stderr


def test_they_are_loaded_once_and_named(library: KernelLibrary) -> None:
    use = KernelUse(str(library.path), library.build, ("matmul q4_k",))
    identity, log = load(use)
    assert identity == use.identity
    assert log.count("kernels of our own, version ") == 1
    assert log.rstrip().endswith(": matmul q4_k")


def test_another_file_in_its_place_is_not_used(library: KernelLibrary, tmp_path: Path) -> None:
    """As when an update comes while a server runs: this one's tests were not of it."""
    other = tmp_path / library.path.name
    other.write_bytes(library.path.read_bytes() + b" ")
    identity, log = load(KernelUse(str(other), library.build, ("rows",)))
    assert identity == "none"
    assert f"{other} is no longer the file that was tested" in log


@pytest.mark.parametrize(
    "environment",
    [{"OMP_THREAD_LIMIT": "1"}, {"OMP_MAX_ACTIVE_LEVELS": "0"}, {"OMP_DYNAMIC": "true"}],
)
def test_fewer_threads_than_were_asked_for_compute_the_same(
    library: KernelLibrary, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = run_kernel_test(library, 4)
    assert found.failure == ""
    assert all(result.is_right for result in found.results)


def test_what_is_no_library_of_kernels_costs_a_warning(tmp_path: Path) -> None:
    (tmp_path / "broken.so").write_text("no library")
    for path in (tmp_path / "broken.so", tmp_path / "absent.so"):
        identity, log = load(KernelUse(str(path), build_of(path), ("rows",)))
        assert identity == "none"
        assert "computing without kernels of our own: " in log
        assert str(path) in log
