"""The filter's verdict on each call, on each architecture, by an evaluator of classic BPF;
and its numbers, by the kernel's own headers.
"""

from __future__ import annotations

import errno
import re
import struct
from pathlib import Path

import pytest

from appliance.confinement import system_calls
from appliance.confinement.seccomp import _ARCHITECTURES, program

ALLOW = 0x7FFF0000
OTHER_ARCHITECTURE = 0x40000003  # i386
HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
SPECIAL = {
    "socket": system_calls.SOCKET,
    "clone": system_calls.CLONE,
    "clone3": system_calls.CLONE3,
    "ioctl": system_calls.IOCTL,
    "seccomp": system_calls.SECCOMP,
}
# What a worker calls all the time: (x86-64, aarch64)
USED = {"read": (0, 63), "write": (1, 64), "mmap": (9, 222), "futex": (202, 98), "exit": (60, 93)}
USED |= {"openat": (257, 56), "execve": (59, 221), "renameat2": (316, 276), "madvise": (28, 233)}


def verdict(machine: str, number: int, *arguments: int, audit: int | None = None) -> int | None:
    """The error with which the call fails; None if it is allowed."""
    return _verdict(machine, number, arguments, audit=audit, gpus=False)


def _verdict(
    machine: str,
    number: int,
    arguments: tuple[int, ...],
    *,
    audit: int | None,
    gpus: bool,
    helpers: bool = False,
) -> int | None:
    architecture = _ARCHITECTURES[machine]
    code = program(architecture, allows_unix_sockets=gpus, allows_ipv4=helpers)
    padded = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("=IIQ6Q", number, audit or architecture.audit, 0, *padded)
    accumulator, at = 0, 0
    while True:
        operation, if_true, if_false, value = code[at]
        at += 1
        if operation == 0x20:
            [accumulator] = struct.unpack_from("=I", data, value)
        elif operation == 0x06:
            return None if value == ALLOW else value & 0xFFFF
        else:
            holds = {
                0x15: accumulator == value,
                0x35: accumulator >= value,
                0x45: accumulator & value != 0,
            }[operation]
            at += if_true if holds else if_false


@pytest.mark.parametrize(("at", "machine"), list(enumerate(_ARCHITECTURES)))
def test_each_call_is_judged(at: int, machine: str) -> None:
    for name, numbers in system_calls.DENIED.items():
        number = numbers[at]
        if number is not None:
            assert verdict(machine, number) == errno.EPERM, name
    for name, used in USED.items():
        assert verdict(machine, used[at]) is None, name
    assert verdict(machine, system_calls.CLONE3[at]) == errno.ENOSYS
    assert verdict(machine, system_calls.CLONE[at], 0x003D0F00) is None  # a thread's
    assert verdict(machine, system_calls.CLONE[at], 0x10000011) == errno.EPERM  # CLONE_NEWUSER
    assert verdict(machine, system_calls.IOCTL[at], 0, 0x5401) is None
    assert verdict(machine, system_calls.IOCTL[at], 0, 0x5412) == errno.EPERM  # TIOCSTI
    assert verdict(machine, USED["read"][at], audit=OTHER_ARCHITECTURE) == errno.EPERM


@pytest.mark.parametrize(("at", "machine"), list(enumerate(_ARCHITECTURES)))
def test_with_gpus_only_unix_sockets_are_opened(at: int, machine: str) -> None:
    socket = system_calls.SOCKET[at]
    for family, without, with_gpus in ((1, errno.EPERM, None), (2, errno.EPERM, errno.EPERM)):
        assert _verdict(machine, socket, (family,), audit=None, gpus=False) == without
        assert _verdict(machine, socket, (family,), audit=None, gpus=True) == with_gpus


@pytest.mark.parametrize(("at", "machine"), list(enumerate(_ARCHITECTURES)))
def test_with_helpers_only_ipv4_is_spoken(at: int, machine: str) -> None:
    socket = system_calls.SOCKET[at]
    unix, ipv4, ipv6 = 1, 2, 10
    for gpus, allowed in ((False, {ipv4}), (True, {unix, ipv4})):
        for family in (unix, ipv4, ipv6):
            found = _verdict(machine, socket, (family,), audit=None, gpus=gpus, helpers=True)
            assert found == (None if family in allowed else errno.EPERM)


def test_the_second_set_of_numbers_of_x86_64_is_denied() -> None:
    assert verdict("x86_64", 0x40000000) == errno.EPERM


@pytest.mark.parametrize(("at", "machine"), list(enumerate(_ARCHITECTURES)))
def test_numbers_are_the_kernels(at: int, machine: str) -> None:
    header = HEADERS[machine]
    if not header.exists():
        pytest.skip(f"needs {header}")
    pattern = r"^#define __NR(?:3264)?_(\w+)\s+(\d+)$"
    theirs = {name: int(n) for name, n in re.findall(pattern, header.read_text(), re.MULTILINE)}
    ours = {name: numbers[at] for name, numbers in (system_calls.DENIED | SPECIAL).items()}
    known = {name: number for name, number in ours.items() if name in theirs}
    assert known == {name: theirs[name] for name in known}
    missing = {name for name in ours.keys() - known.keys() if ours[name] is not None}
    assert missing <= {"fchmodat2"}  # newer than some headers
