"""Leaves this process its files, its threads and computing, and tells what could be had.

Knows no model: what beside Python's own files is needed is handed in.
"""

from __future__ import annotations

import contextlib
import site
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.confinement import landlock, seccomp
from appliance.confinement.kernel_calls import give_up_new_privileges
from appliance.confinement.landlock import Right, Rule

_PACKAGE = Path(__file__).parents[1]
# What libraries read of the machine, and what the C library reads for a process or a time.
_SYSTEM = (
    *("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sys"),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ld.so.preload"),
    *("/etc/localtime", "/etc/ssl/openssl.cnf"),
    *("/dev/urandom", "/dev/random", "/dev/zero"),
    *("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/version"),
    *("/proc/filesystems", "/proc/sys/vm", "/proc/sys/kernel"),
)
# GPUs: their devices, what drivers read, and where they keep what they compiled.
_GPU_SYSTEM = (
    "/proc",
    "/etc/vulkan",
    "/etc/OpenCL",
    "/etc/nvidia",
    "/opt",
    "/run/nvidia-persistenced",
)
_GPU_CACHES = ("~/.nv", "~/.cache/nvidia", "~/.cache/mesa_shader_cache", "~/.cache/rocm")


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What is left beside Python, its packages and the system's libraries."""

    readable: Sequence[Path] = ()  # files, or folders with all that is in them
    listable: Sequence[Path] = ()  # folders whose names of files may be seen
    writable: Sequence[Path] = ()  # folders; made where they are not there
    uses_gpus: bool = False
    # by TCP, on any machine: Landlock knows no addresses
    ports: Sequence[int] = ()


@dataclass(frozen=True)
class Confinement:
    """What is in force, for as long as this process lives."""

    landlock_version: int  # 0: files are not confined
    has_seccomp: bool
    gaps: tuple[str, ...]  # in words, what could not be had, and why

    @property
    def is_whole(self) -> bool:
        return not self.gaps

    def __str__(self) -> str:
        parts = [f"files (Landlock {self.landlock_version})"] if self.landlock_version else []
        parts += ["system calls (seccomp)"] if self.has_seccomp else []
        in_force = f"confined: {' and '.join(parts)}" if parts else "not confined"
        return f"{in_force}; {'; '.join(self.gaps)}" if self.gaps else in_force


def confine(needs: Needs) -> Confinement:
    """As far as this kernel can; to be called before any thread is started.

    Nothing raises: what could not be had is among the gaps.
    """
    if sys.platform != "linux":
        return Confinement(0, False, (f"{sys.platform} has neither Landlock nor seccomp",))
    try:
        give_up_new_privileges()
    except OSError as error:
        return Confinement(0, False, (f"no_new_privs failed: {error.strerror}",))
    gaps: list[str] = []
    known, has_seccomp = 0, False
    try:
        known = landlock.keep_only(_rules(needs), needs.ports)
        gaps += _landlock_gaps(known)
        if needs.ports and known < landlock.TCP_SINCE:
            gaps.append("connecting by TCP is allowed to all ports (Landlock knows them since 4)")
    except OSError as error:
        gaps.append(f"files are not confined: Landlock failed ({error.strerror})")
    try:
        seccomp.deny(allows_unix_sockets=needs.uses_gpus, allows_ipv4=bool(needs.ports))
        has_seccomp = True
    except OSError as error:
        gaps.append(f"system calls are not confined: seccomp failed ({error.strerror})")
    return Confinement(known, has_seccomp, tuple(gaps))


def _landlock_gaps(known: int) -> Iterator[str]:
    if not known:
        yield "files are not confined: this kernel has no Landlock (it came with Linux 5.13)"
        return
    num_others = len(list(Path("/proc/self/task").iterdir())) - 1
    if num_others and known < landlock.ALL_THREADS_SINCE:
        yield f"files are not confined in {num_others} threads that had been started before"


def _rules(needs: Needs) -> Iterator[Rule]:
    for folder in needs.writable:
        with contextlib.suppress(OSError):  # whoever writes there complains
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        yield Rule(folder, Right.WRITE)
    libraries = _loaded_libraries()
    folders = {path.parent for path in libraries}
    for path in (*map(Path, _SYSTEM), *_python(), *folders, *needs.readable):
        yield Rule(path, Right.READ)
    # a renderer of chat templates is one: confined as this process is, by inheritance
    loaders = (path for path in libraries if path.name.startswith("ld"))
    for program in (Path(sys.executable), *loaders):
        yield Rule(program, Right.EXECUTE)
    # the first is where `appliance` is found: what else is there can be listed, not read
    for folder in (_PACKAGE.parent, *needs.listable):
        yield Rule(folder, Right.LIST)
    yield Rule(Path("/dev/null"), Right.USE_DEVICE)
    if needs.uses_gpus:
        yield Rule(Path("/dev"), Right.USE_DEVICE)
        for name in _GPU_SYSTEM:
            yield Rule(Path(name), Right.READ)
        for name in _GPU_CACHES:
            yield Rule(Path(name).expanduser(), Right.WRITE)


def _python() -> Iterator[Path]:
    yield _PACKAGE
    yield from map(Path, {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix})
    yield from map(Path, [*site.getsitepackages(), site.getusersitepackages()])
    # wherever else packages are installed: what is imported later lies beside what is known
    for name, module in list(sys.modules.items()):
        if "." not in name and hasattr(module, "__path__") and name != _PACKAGE.name:
            yield from (Path(folder).parent for folder in module.__path__)


def _loaded_libraries() -> set[Path]:
    """What this process has mapped already, wherever a system keeps it; the program that
    loads libraries is one.
    """
    lines = Path("/proc/self/maps").read_text("utf-8", "surrogateescape").splitlines()
    paths = {line.split(maxsplit=5)[5] for line in lines if ".so" in line}
    return {Path(path) for path in paths if path.startswith("/") and path.count("/") > 1}
