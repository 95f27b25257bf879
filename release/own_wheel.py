"""The appliance's own wheel, with its kernels for every CPU of a kind.

Knows kernels/build.py and the build hook; knows nothing of what is in the wheel.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from release.pip import run_pip
from release.target import CHECKOUT, NotMade, Target, cache_folder
from release.toolchain import KERNELS_GCC, LINK_FLAGS, find_toolchain
from release.wheel import Wheel

_RUNTIME = "libgomp.so.1"  # llama-cpp-python's wheel brings it, and has it loaded by then


def make(target: Target) -> None:
    """Raises `NotMade`."""
    wheel = build(_compile_kernels(target.machine))
    for old in target.wheels.glob(f"{wheel.name}-*.whl"):
        old.unlink()
    wheel.retagged(f"py3-none-{target.platform}").write(target.wheels)


def build(kernels: Path | None) -> Wheel:
    """Of this checkout; without `kernels` it computes with llama.cpp's alone."""
    with_kernels = {"APPLIANCE_KERNELS_LIBRARY": str(kernels)}
    with tempfile.TemporaryDirectory() as scratch:
        run_pip(
            ["wheel", "--quiet", "--no-deps", "--wheel-dir", scratch, str(CHECKOUT)],
            with_kernels if kernels else {"APPLIANCE_KERNELS": "off"},
        )
        (built,) = Path(scratch).glob("*.whl")
        return Wheel.read(built)


def _compile_kernels(machine: str) -> Path:
    folder = cache_folder() / "kernels" / machine
    library = folder / "libappliance-kernels.so"
    toolchain = find_toolchain(machine, KERNELS_GCC)
    cxx = [toolchain.cxx, *shlex.split(LINK_FLAGS), f"-ffile-prefix-map={CHECKOUT}=."]
    cxx.append(f"-L{find_toolchain(machine).library_folder()}")
    command = [sys.executable, str(CHECKOUT / "kernels" / "build.py"), "--out", str(library)]
    command += ["--machine", machine, "--cxx", shlex.join(cxx)]
    command += ["--objects", str(folder / "objects")]
    if subprocess.run(command, check=False).returncode != 0:
        raise NotMade("the kernels were not compiled")
    toolchain.check({library.name: library, _RUNTIME: toolchain.openmp_runtime()})
    return library
