"""Every instruction set computes the same bits: what kernels/check prints is the same on
each, also on aarch64 (cross-compiled, and run by QEMU's emulation).

Knows which CPU takes which variant. Knows no kernel. Whether the bits are right ones is
tested beside this, on the instruction sets of this machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.kernels.attention import ROOT, build_module
from tests.kernels.conftest import runnable_variants

FOLDER = ROOT / "build" / "tests-kernels"  # what is current there is not compiled again
CROSS_COMPILER = "aarch64-linux-gnu-g++"
EMULATOR = "qemu-aarch64"
CASES, ALIKE = 302, 3  # rotations, whose order is applied later
STRANGE = "what is not finite", "strange rows", "swiglu", "set_rows f16"


def digests(*command: str, **environment: str) -> tuple[str, dict[str, str]]:
    """The variant's name; and of each case its digest, and how many numbers are not finite."""
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=True
    )
    first, *cases = done.stdout.splitlines()
    found = {case[:44].strip(): case[44:].strip() for case in cases}
    assert len(found) == len(cases)
    return first.removeprefix("variant "), found


@pytest.fixture(scope="module")
def program() -> Path:
    """For this machine."""
    build = build_module()
    try:
        compiler = build.find_compiler()
    except build.NotBuilt as error:
        pytest.skip(str(error))
    path = FOLDER / "check"
    build.build_check(compiler, path)
    return path


@pytest.fixture(scope="module")
def here(program: Path) -> dict[str, str]:
    return digests(str(program))[1]


@pytest.fixture(scope="module")
def emulated() -> list[str]:
    """The command of the program for aarch64, but for the CPU."""
    for needed in (CROSS_COMPILER, EMULATOR):
        if shutil.which(needed) is None:
            pytest.skip(f"{needed} is not installed")
    build = build_module()
    path = FOLDER / "check-aarch64"
    build.build_check(build.find_compiler(CROSS_COMPILER, "aarch64"), path)
    libc = subprocess.check_output([CROSS_COMPILER, "-print-file-name=libc.so.6"], text=True)
    return [EMULATOR, "-L", str(Path(libc.strip()).resolve().parents[1]), str(path)]


@pytest.mark.timeout(900)  # compiles all kernels, where that has not been done
def test_each_case_is_a_case(here: dict[str, str]) -> None:
    """As many as there are, nearly all of different results, and finite where inputs are."""
    assert len(here) == CASES
    assert len({found.split()[0] for found in here.values()}) == CASES - ALIKE
    strange = [name for name, found in here.items() if found.split()[1] != "0"]
    assert [name for name in strange if not any(part in name for part in STRANGE)] == []


@pytest.mark.timeout(900)
@pytest.mark.parametrize("variant", ["avx512", "avx2", "baseline"])
def test_each_variant_of_this_machine_computes_the_same(
    program: Path, here: dict[str, str], variant: str
) -> None:
    if variant not in runnable_variants():
        pytest.skip(f"this machine does not run {variant}")
    assert digests(str(program), APPLIANCE_KERNELS_VARIANT=variant) == (variant, here)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("cpu", "variant"), [("cortex-a53", "baseline"), ("cortex-a76", "dotprod")]
)
def test_aarch64_computes_the_same_with_what_its_cpu_has(
    emulated: list[str], here: dict[str, str], cpu: str, variant: str
) -> None:
    assert digests(*emulated[:1], "-cpu", cpu, *emulated[1:]) == (variant, here)
