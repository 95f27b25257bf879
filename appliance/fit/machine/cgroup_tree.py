"""Where this process's control groups are seen
in the file system, versions 1, 2 and both at once.

Knows no limit.

Sources: proc(5) and cgroup_namespaces(7) on /proc/self/cgroup and mountinfo.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from appliance.fit.machine.kernel_files import read_text


@dataclass(frozen=True)
class Group:
    """One control group that this process is in, itself or through a descendant."""

    version: int  # 1 or 2
    directory: Path


@dataclass(frozen=True)
class _Mount:
    """Where one hierarchy is seen."""

    root: str  # the group that `directory` shows
    directory: PurePosixPath
    controllers: frozenset[str]  # empty for version 2


def own_groups(root: Path, controller: str) -> tuple[Group, ...]:
    """Our group of `controller` and each ancestor that can be seen, innermost first;
    `root` is / but in tests.

    On a hybrid machine the groups of version 2 are there too, without the files of
    controllers that version 1 holds.
    """
    mounts = _mounts(root)
    groups: list[Group] = []
    for line in read_text(root / "proc/self/cgroup").splitlines():
        hierarchy, names, path = [*line.split(":", 2), "", ""][:3]
        version = 2 if hierarchy == "0" and not names else 1
        if version == 1 and controller not in names.split(","):
            continue
        shown = [
            m
            for m in mounts
            if ((controller in m.controllers) if version == 1 else not m.controllers)
        ]
        if shown:
            # one that shows our group, if any
            mount = min(shown, key=lambda mount: _below(mount.root, path) is None)
            groups.extend(Group(version, directory) for directory in _upwards(root, mount, path))
    return tuple(groups)


def _upwards(root: Path, mount: _Mount, path: str) -> Iterator[Path]:
    top = root.joinpath(*mount.directory.parts[1:])
    # Outside the mount, as where a process has left the root of its namespace: what is
    # mounted is the nearest we know, and its limit, in case it is one of ours, is
    # better heeded.
    below = _below(mount.root, path) or ()
    for depth in range(len(below), -1, -1):
        yield top.joinpath(*below[:depth])


def _below(mount_root: str, path: str) -> tuple[str, ...] | None:
    """The group's path under its mount; None if it lies outside.

    In a namespace both may begin with `..`.
    """
    parts, top = PurePosixPath(path).parts[1:], PurePosixPath(mount_root).parts[1:]
    if parts[: len(top)] != top or ".." in parts[len(top) :]:
        return None
    return parts[len(top) :]


def _mounts(root: Path) -> list[_Mount]:
    """Control-group mounts of /proc/self/mountinfo: `ID PARENT DEV ROOT POINT OPTIONS
    [TAG...] - TYPE SOURCE SUPER`.
    """
    by_point: dict[PurePosixPath, _Mount] = {}
    for line in read_text(root / "proc/self/mountinfo").splitlines():
        mount_fields, _, kind_fields = line.partition(" - ")
        fields, kind = mount_fields.split(), kind_fields.split()
        if len(fields) < 5 or len(kind) < 3:
            continue
        point = PurePosixPath(_unescape(fields[4]))
        by_point.pop(point, None)  # a later mount on the same point hides the earlier one
        if kind[0] in ("cgroup", "cgroup2"):
            controllers = frozenset(kind[2].split(",")) if kind[0] == "cgroup" else frozenset[str]()
            by_point[point] = _Mount(_unescape(fields[3]), point, controllers)
    return list(by_point.values())


def _unescape(path: str) -> str:
    """mountinfo writes space, tab, newline and backslash as octal escapes."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)
