"""The release for aarch64, on emulated CPUs of different generations: which back end is
taken, what a model says on it, and what our kernels compute.

Needs `python -m release --machine aarch64` (half an hour), QEMU, and a Python for that
machine (tests/release/aarch64_python.sh); skipped without. Takes minutes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from appliance.llama.checks import LibraryInfo, inspect_library
from appliance.llama.checks.correctness import why_wrong
from appliance.llama.checks.kernel_test import KernelCompared, KernelLine, KernelStart
from release.target import CHECKOUT
from tests.conftest import Embedded
from tests.release.unpacked import released_wheels, unpack_wheels

ROOT = CHECKOUT / "build" / "aarch64-python"
PACKAGES = ("appliance", "llama_cpp_python", "numpy", "msgspec", "typing_extensions")
PACKAGES += ("diskcache", "jinja2", "markupsafe")
# The back end that each is to take, of those that are there. (An A64FX has SVE, but no
# dotprod, without which none of those with SVE runs.)
CPUS = {
    "cortex-a53": "armv8.0_1",
    "cortex-a76": "armv8.2_2",
    "a64fx": "armv8.0_1",
    "max,sve-max-vq=1": "armv8.6_2",  # SVE of 128 bits, as Neoverse V2 and Cortex-X have it
    "max,sve-max-vq=2": "armv8.6_2",  # of 256
}
KERNELS = {"cortex-a53": "baseline", "cortex-a76": "dotprod"}

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    wheels = released_wheels("aarch64", *PACKAGES)
    if shutil.which("qemu-aarch64") is None:
        pytest.skip("qemu-aarch64 is not installed")
    if not ROOT.exists():
        pytest.skip("there is no Python for aarch64: tests/release/aarch64_python.sh")
    folder = tmp_path_factory.mktemp("aarch64")
    unpack_wheels(wheels, PACKAGES, folder)
    return folder


@pytest.fixture
def python(site: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command of Python there, whose `-cpu` comes next."""
    monkeypatch.setenv("PYTHONPATH", str(site))
    return ["qemu-aarch64", "-L", str(ROOT), "-cpu"]


@pytest.mark.parametrize("cpu", CPUS)
def test_each_cpu_takes_the_best_that_it_can_run(python: list[str], cpu: str) -> None:
    program = str(ROOT / "usr" / "bin" / "python3.11")
    info = inspect_library([*python, cpu, program, "-m", "appliance.llama.devices"])
    assert isinstance(info, LibraryInfo), info
    (device,) = (device for device in info.devices if device.kind == "CPU")
    assert device.library == f"libggml-cpu-{CPUS[cpu]}.so"
    assert len(info.cpu_scores) == 6


@pytest.mark.parametrize("extra_buffers", ["on", "off"])
@pytest.mark.parametrize("cpu", CPUS)
def test_a_model_says_what_it_says_here(
    python: list[str], cpu: str, extra_buffers: str, embedded: Embedded, tmp_path: Path
) -> None:
    program = str(ROOT / "usr" / "bin" / "python3.11")

    def decode(command: list[str], environment: dict[str, str]) -> np.ndarray:
        arguments = ["-m", "appliance.llama.probe", str(embedded.files["Q4_K_M"]), extra_buffers]
        out = str(tmp_path / "out.npy")
        subprocess.run([*command, *arguments, "2", out], env=environment, check=True)
        found: np.ndarray = np.load(out)
        return found

    there = decode([*python, cpu, program], dict(os.environ))
    here = decode([sys.executable], os.environ | {"PYTHONPATH": str(CHECKOUT)})
    assert why_wrong(there, here) == ""


@pytest.mark.parametrize("cpu", KERNELS)
def test_our_kernels_compute_what_ggmls_do(python: list[str], cpu: str, site: Path) -> None:
    program = str(ROOT / "usr" / "bin" / "python3.11")
    library = site / "appliance" / "llama" / "native" / "libappliance-kernels.so"
    command = [*python, cpu, program, "-m", "appliance.llama.kernels.self_test"]
    said = subprocess.run([*command, str(library), "2"], capture_output=True, check=True).stdout
    start, *lines = (msgspec.json.decode(line, type=KernelLine) for line in said.splitlines())
    assert isinstance(start, KernelStart)
    assert start.variant == KERNELS[cpu]
    found = [line.result for line in lines if isinstance(line, KernelCompared)]
    assert {result.name for result in found} == set(start.names) - set(start.untested)
    assert [result.name for result in found if not result.is_right] == []
