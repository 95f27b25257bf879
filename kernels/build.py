"""Compiles kernels/ into one shared library with the machine's own C++ compiler.

Knows the compiler, its flags and what has changed. Knows no packaging, no ggml, and
nothing of what the sources say. Uses the standard library alone: it runs inside a build.

    python kernels/build.py                     into appliance/llama/native
    python kernels/build.py --out FILE --machine aarch64 --cxx aarch64-linux-gnu-g++
    python kernels/build.py --check --out FILE  a program that prints what the kernels compute
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

KERNELS = Path(__file__).resolve().parent
CHECKOUT = KERNELS.parent
LIBRARY_NAME = "libappliance-kernels.so"
LIBRARY = CHECKOUT / "appliance" / "llama" / "native" / LIBRARY_NAME
OBJECTS = CHECKOUT / "build" / "kernels"

ONCE = ("backend", "threads")
PER_VARIANT = ("attention", "matmul", "rows", "variant")
CHECK = ("check",)  # a program for tests: no part of the library
VERSION_SOURCE = "backend/version.cpp"  # the one file that is told the version

FLAGS = (
    "-std=c++17 -O3 -ffp-contract=off -fopenmp -fPIC -fvisibility=hidden -Wall -Wextra -Wno-psabi"
    # gcc 12 takes AVX-512's own headers for using what is not set, and warns of registers
    # as arguments of templates.
    " -Wno-maybe-uninitialized -Wno-ignored-attributes"
)
# -ldl: in a library of its own before glibc 2.34. Nothing may stay undefined: ggml's
# functions are looked up while running, and a missing one of ours is to be seen here.
LINK_FLAGS = "-shared -fopenmp -Wl,-z,defs -Wl,--as-needed"
CHECK_LINK_FLAGS = "-fopenmp -Wl,--as-needed"
VARIANTS: dict[str, dict[str, str]] = {
    "x86_64": {
        "avx512": "-march=x86-64-v4 -mavx512vnni -mprefer-vector-width=512",
        "avx2": "-march=x86-64-v3",
        "baseline": "-march=x86-64-v2",
    },
    "aarch64": {
        "dotprod": "-march=armv8.2-a+dotprod",
        "baseline": "-march=armv8-a",
    },
}


# Which variants there are to choose from, for the files that are compiled once.
CHOICES = {"x86_64": "-DAPPLIANCE_VARIANTS_X86", "aarch64": "-DAPPLIANCE_VARIANTS_ARM"}


class NotBuilt(Exception):
    """Why there is no library, in a sentence for whoever installs."""


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler, and the machine it compiles for."""

    command: tuple[str, ...]
    machine: str  # as `uname -m` says


@dataclass(frozen=True)
class Unit:
    """One source that becomes one object."""

    source: Path
    obj: Path
    command: tuple[str, ...]

    @property
    def is_current(self) -> bool:
        """Whether the object is newer than all it was made from, by the same command."""
        try:
            made = self.obj.stat().st_mtime_ns
            if self._command_file.read_text() != shlex.join(self.command):
                return False
            return all(path.stat().st_mtime_ns < made for path in self._read_dependencies())
        except OSError:
            return False

    def compile(self) -> None:
        if self.is_current:
            return
        self.obj.parent.mkdir(parents=True, exist_ok=True)
        self._command_file.unlink(missing_ok=True)
        _run(self.command)
        self._command_file.write_text(shlex.join(self.command))

    @property
    def _command_file(self) -> Path:
        return self.obj.with_suffix(".command")

    def _read_dependencies(self) -> Iterator[Path]:
        """What the compiler noted: `OBJECT: SOURCE HEADER...`, in make's spelling."""
        text = self.obj.with_suffix(".d").read_text().replace("\\\n", " ")
        for word in text.partition(": ")[2].replace("\\ ", "\0").split():
            yield Path(word.replace("\0", " "))


def find_compiler(cxx: str = "", machine: str = "") -> Compiler:
    """$CXX, which may have arguments; else the first that there is. Raises `NotBuilt`."""
    machine = machine or platform.machine()
    if not sys.platform.startswith("linux"):
        raise NotBuilt("there are kernels for Linux only; on macOS, ggml's Metal computes")
    if machine not in VARIANTS:
        raise NotBuilt(f"there are no kernels for {machine}, only for {', '.join(VARIANTS)}")
    wanted = cxx or os.environ.get("CXX", "")
    for candidate in [wanted] if wanted else ["c++", "g++", "clang++"]:
        command = shlex.split(candidate)
        if shutil.which(command[0]):
            return Compiler(tuple(command), machine)
    raise NotBuilt(f"no C++ compiler was found ({wanted or 'c++, g++ or clang++'})")


def build(compiler: Compiler, out: Path, objects: Path = OBJECTS) -> bool:
    """Makes the library at `out`; False where it was there and is current.

    Raises `NotBuilt`.
    """
    return _make(compiler, list(_plan(compiler, objects / compiler.machine)), LINK_FLAGS, out)


def build_check(compiler: Compiler, out: Path, objects: Path = OBJECTS) -> bool:
    """Makes the program of kernels/check at `out`, of the library's own objects.

    False where it was there and is current. Raises `NotBuilt`.
    """
    folder = objects / compiler.machine
    units = list(_plan(compiler, folder))
    units += [_unit(compiler, source, folder / "once", ()) for source in _sources(CHECK)]
    return _make(compiler, units, CHECK_LINK_FLAGS, out)


def version() -> str:
    """Changes with every source and flag: what was computed by another is not ours."""
    digest = hashlib.sha256(repr((FLAGS, VARIANTS)).encode())
    for path in sorted((*KERNELS.rglob("*.cpp"), *KERNELS.rglob("*.h"))):
        name = path.relative_to(KERNELS)
        if name.parts[0] not in CHECK:
            digest.update(name.as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def _plan(compiler: Compiler, objects: Path) -> Iterator[Unit]:
    for source in _sources(ONCE):
        name = source.relative_to(KERNELS).as_posix()
        flags = [CHOICES[compiler.machine]]
        if name == VERSION_SOURCE:
            flags.append(f'-DKERNELS_VERSION="{version()}"')
        yield _unit(compiler, source, objects / "once", flags)
    for variant, march in VARIANTS[compiler.machine].items():
        for source in _sources(PER_VARIANT):
            flags = [f"-DVARIANT={variant}", *shlex.split(march)]
            yield _unit(compiler, source, objects / variant, flags)


def _sources(folders: Sequence[str]) -> list[Path]:
    return [path for folder in folders for path in sorted((KERNELS / folder).rglob("*.cpp"))]


def _unit(compiler: Compiler, source: Path, folder: Path, flags: Sequence[str]) -> Unit:
    obj = folder / source.relative_to(KERNELS).with_suffix(".o")
    command = [*compiler.command, *shlex.split(FLAGS), *flags]
    return Unit(source, obj, (*command, "-MMD", "-c", "-o", str(obj), str(source)))


def _make(compiler: Compiler, units: Sequence[Unit], link_flags: str, out: Path) -> bool:
    try:
        with ThreadPoolExecutor(_count_cpus()) as pool:
            list(pool.map(Unit.compile, units))
        linked_at = out.stat().st_mtime_ns if out.exists() else 0
        if all(unit.obj.stat().st_mtime_ns < linked_at for unit in units):
            return False
        _link(compiler, [unit.obj for unit in units], out, link_flags)
    except OSError as error:
        raise NotBuilt(f"{error.filename or 'a file'}: {error.strerror}") from error
    return True


def _link(compiler: Compiler, objects: Sequence[Path], out: Path, flags: str = LINK_FLAGS) -> None:
    """By rename: a process that has the old one loaded keeps it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    linked = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        names = [str(obj) for obj in objects]
        _run((*compiler.command, *shlex.split(flags), "-o", str(linked), *names, "-ldl"))
        linked.replace(out)
    finally:
        linked.unlink(missing_ok=True)


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if "error" in line]
        print(shlex.join(command), done.stderr, sep="\n", file=sys.stderr)
        first = (errors or done.stderr.splitlines() or [f"status {done.returncode}"])[0]
        raise NotBuilt(f"{command[0]} failed: {first.replace(f'{CHECKOUT}/', '')}")
    if done.stderr:  # warnings
        print(done.stderr, file=sys.stderr)


def _count_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def main() -> None:
    parser = argparse.ArgumentParser(description="Compiles the kernels.")
    parser.add_argument("--out", type=Path, default=LIBRARY)
    parser.add_argument("--cxx", default="", help="instead of $CXX, c++, g++ or clang++")
    parser.add_argument("--machine", default="", help="that the compiler compiles for")
    parser.add_argument("--objects", type=Path, default=OBJECTS, help="where objects are kept")
    parser.add_argument("--check", action="store_true", help="the program of kernels/check instead")
    options = parser.parse_args()
    make = build_check if options.check else build
    try:
        compiler = find_compiler(options.cxx, options.machine)
        is_new = make(compiler, options.out, options.objects)
    except NotBuilt as error:
        sys.exit(f"The kernels were not built: {error}.")
    print(f"{options.out} {'built' if is_new else 'is up to date'}, version {version()}")


if __name__ == "__main__":
    main()
