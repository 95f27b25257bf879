"""Which of the process's limits keeps it from another thread or from memory, and the way out.

Knows no model.
"""

from __future__ import annotations

import resource
from pathlib import Path

_STATM = Path("/proc/self/statm")
_CGROUP = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")
_MIB = 1 << 20


def why_no_thread(stack_bytes: int) -> str:
    """In whole sentences. `stack_bytes` is what the thread needs for its stack."""
    return _address_space(stack_bytes) or _tasks() or _unknown()


def _address_space(stack_bytes: int) -> str | None:
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY or _address_space_in_use() + stack_bytes < limit:
        return None
    return (
        f"{note_on_address_space()} A thread needs {stack_bytes // _MIB} MiB for its stack, though "
        "little of that will ever be memory."
    )


def note_on_address_space() -> str:
    """Empty where there is no limit on it."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return ""
    return (
        f"The limit on address space (ulimit -v, or LimitAS= of systemd) is {limit // _MIB} MiB, "
        f"and this model's worker has {_address_space_in_use() // _MIB} MiB in use. Remove the "
        "limit (ulimit -v unlimited), and bound memory with --ram instead."
    )


def _tasks() -> str | None:
    """A control group's limit; its number in use tells whether it is this one."""
    for folder in _groups():
        try:
            limit = int((folder / "pids.max").read_text(encoding="ascii"))
            used = int((folder / "pids.current").read_text(encoding="ascii"))
        except (OSError, ValueError):  # no such file, or `max`
            continue
        if used >= limit - 1:
            return (
                f"The limit on processes and threads of this control group ({folder}/pids.max, "
                f"TasksMax= of systemd, --pids-limit of a container) is {limit}, and {used} are "
                "running. Raise it."
            )
    return None


def _unknown() -> str:
    limit, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if limit == resource.RLIM_INFINITY:
        return "The system has no room for more threads (see /proc/sys/kernel/threads-max)."
    return (
        f"The limit on processes and threads of this user (ulimit -u, or LimitNPROC= of systemd) "
        f"is {limit}, other programs' included. Raise it, or end some."
    )


def _address_space_in_use() -> int:
    try:
        num_pages = int(_STATM.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return 0
    return num_pages * resource.getpagesize()


def _groups() -> list[Path]:
    """This process's control groups, of version 2 or the controller of version 1, and
    those around them.
    """
    try:
        lines = _CGROUP.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found: list[Path] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "pids"):
            root = _GROUPS / controllers
            own = root / path.lstrip("/")
            found += [own, *(folder for folder in own.parents if folder.is_relative_to(root))]
    return found
