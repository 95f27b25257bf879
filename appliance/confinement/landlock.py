"""Landlock: of all files, a process keeps those that it names.

Knows no system calls but Landlock's own, and not what the files are for.

Source: linux/landlock.h and https://docs.kernel.org/userspace-api/landlock.html. What an
older kernel cannot refuse stays allowed: the version of its interface says what it can.
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.confinement.kernel_calls import call

# The same numbers on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1 << 0  # LANDLOCK_CREATE_RULESET_VERSION
_PATH_BENEATH = 1  # LANDLOCK_RULE_PATH_BENEATH
_ALL_THREADS = 1 << 3  # LANDLOCK_RESTRICT_SELF_TSYNC
ALL_THREADS_SINCE = 8

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_FILE = 1 << 4, 1 << 5, 1 << 7, 1 << 8
_REFER, _TRUNCATE, _IOCTL = 1 << 13, 1 << 14, 1 << 15
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL
# By version of the interface: how many rights it knows of files; 4: TCP; 6: scopes.
_NUM_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
_MOST_RIGHTS = 16
_NET_PORT = 2  # LANDLOCK_RULE_NET_PORT
_CONNECT = 1 << 1  # LANDLOCK_ACCESS_NET_CONNECT_TCP
TCP_SINCE, _NET_RIGHTS = 4, 0b11  # bind and connect by TCP: none but what is asked for
_SCOPES_SINCE, _SCOPES = 6, 0b11  # abstract Unix sockets and signals of others


class Right(enum.IntFlag):
    """What a rule grants, of a file or of everything in a folder."""

    LIST = _READ_DIR
    READ = _READ_FILE | _READ_DIR
    EXECUTE = _EXECUTE | _READ_FILE
    WRITE = READ | _WRITE_FILE | _TRUNCATE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_FILE
    USE_DEVICE = READ | _WRITE_FILE | _IOCTL


class _RulesetAttr(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneathAttr(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


class _NetPortAttr(ctypes.Structure):
    _fields_ = (("allowed", ctypes.c_uint64), ("port", ctypes.c_uint64))


@dataclass(frozen=True)
class Rule:
    """Grants `right`; a path that is not there grants nothing."""

    path: Path
    right: Right


def version() -> int:
    """Of the kernel's interface; 0 where there is none. Changes nothing."""
    with contextlib.suppress(OSError):
        return call(_CREATE_RULESET, None, 0, _VERSION)
    return 0


def keep_only(rules: Iterable[Rule], ports: Sequence[int] = ()) -> int:
    """Takes every other file away, from this thread and all that it starts (since version
    8, from all threads), and since version 4 connecting by TCP to other ports; returns
    `version()`.

    New privileges must have been given up. Raises `OSError`; nothing is taken then.
    """
    known = version()
    if not known:
        return 0
    handled = (1 << _NUM_RIGHTS.get(known, _MOST_RIGHTS)) - 1
    attr = _RulesetAttr(
        handled,
        _NET_RIGHTS if known >= TCP_SINCE else 0,
        _SCOPES if known >= _SCOPES_SINCE else 0,
    )
    size = 8 if known < TCP_SINCE else 16 if known < _SCOPES_SINCE else 24
    ruleset = call(_CREATE_RULESET, ctypes.byref(attr), size, 0)
    try:
        for rule in rules:
            _add(ruleset, rule, handled)
        for port in ports if known >= TCP_SINCE else ():
            allowed = _NetPortAttr(_CONNECT, port)
            call(_ADD_RULE, ruleset, _NET_PORT, ctypes.byref(allowed), 0)
        call(_RESTRICT_SELF, ruleset, _ALL_THREADS if known >= ALL_THREADS_SINCE else 0)
    finally:
        os.close(ruleset)
    return known


def _add(ruleset: int, rule: Rule, handled: int) -> None:
    try:
        parent = os.open(rule.path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # not there, or not for us anyway
    try:
        is_folder = stat.S_ISDIR(os.fstat(parent).st_mode)
        allowed = int(rule.right) & handled & (-1 if is_folder else _OF_FILES)
        if allowed:
            attr = _PathBeneathAttr(allowed, parent)
            call(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(attr), 0)
    finally:
        os.close(parent)
