"""seccomp: system calls that fail from now on, in all threads.

Knows no files.

Source: linux/seccomp.h, linux/filter.h (classic BPF) and linux/audit.h. A call that is
denied fails as where a right is missing (EPERM); nothing is killed. What is not named is
allowed: drivers of GPUs and C libraries differ in what they call.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from appliance.confinement import system_calls
from appliance.confinement.kernel_calls import call

_SET_MODE_FILTER, _ALL_THREADS = 1, 1  # SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000
# struct seccomp_data: number, architecture, address, six arguments of 8 bytes
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16
_X32 = 0x40000000  # x86-64's second set of numbers, for 32-bit pointers
_AF_UNIX, _AF_INET = 1, 2
_NEW_NAMESPACES = 0x7E020080  # CLONE_NEW*
_TERMINAL_INPUT = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX: types for the user


@dataclass(frozen=True)
class _Architecture:
    index: int  # in the tables of `system_calls`
    audit: int  # AUDIT_ARCH_*
    has_x32: bool = False


_ARCHITECTURES = {
    "x86_64": _Architecture(0, 0xC000003E, has_x32=True),
    "aarch64": _Architecture(1, 0xC00000B7),
}


class _Filter(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("jt", ctypes.c_uint8),
        ("jf", ctypes.c_uint8),
        ("k", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("filters", ctypes.POINTER(_Filter)))


def is_known_here() -> bool:
    """Whether the numbers of this machine's system calls are known."""
    return platform.machine() in _ARCHITECTURES


def deny(*, allows_unix_sockets: bool, allows_ipv4: bool = False) -> None:
    """New privileges must have been given up.

    Raises `OSError`: the kernel has no filters, or this machine's numbers are not known.
    """
    architecture = _ARCHITECTURES.get(platform.machine())
    if architecture is None:
        raise OSError(errno.ENOSYS, f"no table of system calls for {platform.machine()}")
    code = program(architecture, allows_unix_sockets=allows_unix_sockets, allows_ipv4=allows_ipv4)
    filters = (_Filter * len(code))(*(_Filter(*one) for one in code))
    whole = _Program(len(code), filters)
    number = system_calls.SECCOMP[architecture.index]
    stopped_at = call(number, _SET_MODE_FILTER, _ALL_THREADS, ctypes.byref(whole))
    if stopped_at:
        raise OSError(errno.ESRCH, f"thread {stopped_at} could not be included")


_Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, value


def program(
    architecture: _Architecture, *, allows_unix_sockets: bool, allows_ipv4: bool = False
) -> list[_Instruction]:
    """Each rule is whole in itself: it ends the program, or goes on to the next."""
    at = architecture.index
    code = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        *_unless(_IF_EQUAL, architecture.audit, errno.EPERM),
        (_LOAD, 0, 0, _NUMBER_AT),
    ]
    if architecture.has_x32:
        code += _if(_IF_AT_LEAST, _X32, errno.EPERM)
    for numbers in system_calls.DENIED.values():
        number = numbers[at]
        if number is not None:
            code += _if(_IF_EQUAL, number, errno.EPERM)
    # its flags lie in memory, where no filter can see them: C libraries then use clone
    code += _if(_IF_EQUAL, system_calls.CLONE3[at], errno.ENOSYS)
    code += _when(system_calls.CLONE[at], 0, list(_if(_IF_ANY_BIT, _NEW_NAMESPACES, errno.EPERM)))
    typing = [one for request in _TERMINAL_INPUT for one in _if(_IF_EQUAL, request, errno.EPERM)]
    code += _when(system_calls.IOCTL[at], 1, typing)
    families = [_AF_UNIX] if allows_unix_sockets else []
    families += [_AF_INET] if allows_ipv4 else []
    if families:
        code += _when(system_calls.SOCKET[at], 0, list(_only(families, errno.EPERM)))
    else:
        code += _if(_IF_EQUAL, system_calls.SOCKET[at], errno.EPERM)
    return [*code, (_RETURN, 0, 0, _ALLOW)]


def _if(test: int, value: int, error: int) -> Iterator[_Instruction]:
    yield test, 0, 1, value
    yield _RETURN, 0, 0, _FAIL | error


def _unless(test: int, value: int, error: int) -> Iterator[_Instruction]:
    yield test, 1, 0, value
    yield _RETURN, 0, 0, _FAIL | error


def _only(values: Sequence[int], error: int) -> Iterator[_Instruction]:
    """Goes on with one of these values; else fails."""
    for left, value in zip(range(len(values) - 1, -1, -1), values, strict=True):
        yield _IF_EQUAL, left + 1, 0, value
    yield _RETURN, 0, 0, _FAIL | error


def _when(number: int, argument: int, then: list[_Instruction]) -> Iterator[_Instruction]:
    """`then` looks at the low half of an argument of this call, and is allowed to be passed."""
    body = [
        (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * argument + _low_half()),
        *then,
        (_RETURN, 0, 0, _ALLOW),
    ]
    yield _IF_EQUAL, 0, len(body), number
    yield from body


def _low_half() -> int:
    return 0 if struct.pack("=H", 1) == b"\1\0" else 4
