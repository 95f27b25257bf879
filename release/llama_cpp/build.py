"""Compiles llama-cpp-python into a wheel that chooses its CPU back end while running.

Knows llama.cpp's build options. Takes minutes, and so keeps what it made under a key of
all that it was made from.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from release.llama_cpp import source
from release.pip import run_pip
from release.target import Target, cache_folder
from release.toolchain import LINK_FLAGS, Toolchain, find_toolchain
from release.wheel import Wheel, WheelFile

LIB = "llama_cpp/lib"
INPUTS = "appliance-build-inputs.txt"  # as install/offline.sh reads it
_OPTIONS = (
    "-DGGML_NATIVE=OFF",
    "-DGGML_BACKEND_DL=ON",
    "-DGGML_CPU_ALL_VARIANTS=ON",
    # A wheel holds no links, so each library would be there three times, as three
    # libraries: libggml.so would not be the libggml.so.0 that llama.cpp uses.
    "-DCMAKE_PLATFORM_NO_VERSIONED_SONAME=ON",
    # where the other libraries are, not beside Python
    f"-DCMAKE_INSTALL_BINDIR={LIB}",
    f"-DCMAKE_INSTALL_LIBDIR={LIB}",
    "-DCMAKE_INSTALL_RPATH=$ORIGIN",
    "-DCMAKE_BUILD_RPATH_USE_ORIGIN=ON",  # no folder of the build's in any file
    "-DGGML_CCACHE=OFF",
)


def make(target: Target) -> None:
    """Into the wheels of `target`. Raises `NotMade`."""
    toolchain = find_toolchain(target.machine)
    key = hashlib.sha256(_inputs(toolchain).encode()).hexdigest()[:12]
    kept = cache_folder() / "llama_cpp" / f"{target.machine}-{key}"
    if not kept.exists():
        _build(target, toolchain, kept)
    for old in target.wheels.glob("llama_cpp_python-*.whl"):
        old.unlink()
    target.wheels.mkdir(parents=True, exist_ok=True)
    for path in kept.iterdir():
        shutil.copy(path, target.wheels)


def _inputs(toolchain: Toolchain) -> str:
    """Everything that decides the bytes."""
    options = " ".join(_cmake_options(toolchain, Path("SOURCE")))
    return f"{source.identity()}\n{toolchain.version()}\nCMAKE_ARGS={options}\n"


def _cmake_options(toolchain: Toolchain, folder: Path) -> Iterator[str]:
    yield from _OPTIONS
    # the name that llama.cpp's assertions have before their paths
    flags = f"-ffile-prefix-map={folder}=."
    for language, compiler in (("C", toolchain.cc), ("CXX", toolchain.cxx)):
        yield f"-DCMAKE_{language}_COMPILER={compiler}"
        yield f"-DCMAKE_{language}_FLAGS={flags}"
    for kind in ("SHARED", "MODULE"):
        yield f"-DCMAKE_{kind}_LINKER_FLAGS={LINK_FLAGS}"
    if toolchain.machine != os.uname().machine:
        yield "-DCMAKE_SYSTEM_NAME=Linux"
        yield f"-DCMAKE_SYSTEM_PROCESSOR={toolchain.machine}"


def _build(target: Target, toolchain: Toolchain, kept: Path) -> None:
    """`kept` is there only if it is whole."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as name:
        scratch = Path(name)
        folder = source.unpack(scratch / "source")
        options = _cmake_options(toolchain, folder)
        command = ["wheel", "--verbose", "--no-deps", "--no-cache-dir", "--wheel-dir", name]
        command += ["--config-settings", f"build-dir={scratch / 'build'}", str(folder)]
        run_pip(command, {"CMAKE_ARGS": shlex.join(options)})
        (built,) = scratch.glob("*.whl")
        done = scratch / "done"
        _finished(Wheel.read(built), toolchain, target).write(done)
        (done / INPUTS).write_text(_inputs(toolchain))
        done.rename(kept)


def _finished(built: Wheel, toolchain: Toolchain, target: Target) -> Wheel:
    """Only what is used, with the runtime of OpenMP. Raises `NotMade` where a library
    would not run everywhere.
    """
    files = {
        name: file
        for name, file in built.files.items()
        if name.startswith((f"{LIB}/lib", built.dist_info))
        or (name.startswith("llama_cpp/") and not name.startswith(f"{LIB}/"))
    }
    runtime = toolchain.openmp_runtime()
    files[f"{LIB}/{runtime.name}"] = WheelFile(runtime.read_bytes(), executable=True)
    _check(files, toolchain)
    return replace(built, files=files).retagged(f"py3-none-{target.platform}")


def _check(files: dict[str, WheelFile], toolchain: Toolchain) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        libraries = {}
        for name in files:
            if name.startswith(f"{LIB}/"):
                path = Path(scratch, Path(name).name)
                path.write_bytes(files[name].content)
                libraries[path.name] = path
        toolchain.check(libraries)
