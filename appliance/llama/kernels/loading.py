"""Gives ggml the back end with our kernels, before a model is loaded.

Knows no model and no self-test. Import this only in a child process.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import llama_cpp
from llama_cpp.llama_cpp import _lib as libllama

from appliance.llama import library
from appliance.llama.checks.kernel_library import KernelLibrary
from appliance.protocol.kernel_use import KernelUse

_log = logging.getLogger(__name__)
# Two runtimes in one process would each keep threads that wait by computing.
_OPENMP_RUNTIMES = (b"libgomp.so", b"libomp.so", b"libiomp5.so")


class KernelsRefused(Exception):
    """Why the library cannot be used in this process."""


@dataclass(frozen=True)
class LoadedKernels:
    """What is loaded, and is never unloaded."""

    version: str  # as its sources have it
    variant: str  # the instruction set they were compiled for
    names: tuple[str, ...]  # of all, used or not
    backend: int  # ggml's handle of their back end (ggml_backend_reg_t)


_used: KernelUse | None = None  # in this process


def use_kernels(use: KernelUse) -> None:
    """Once in a process, before its first model. Where they cannot be used the log says
    so, and all is computed without.
    """
    global _used
    if not use.library or use == _used:
        return
    assert _used is None, "one choice for one process"
    try:
        _check_build(use)
        kernels = load(use.library)
    except KernelsRefused as refusal:
        _log.warning("computing without kernels of our own: %s", refusal)
        return
    functions = _declared(use.library)
    for name in kernels.names:
        functions.appliance_kernels_enable(name.encode(), int(name in use.names))
    _used = use
    _log.info(
        "kernels of our own, version %s for %s: %s",
        kernels.version,
        kernels.variant,
        ", ".join(use.names),
    )


def all_of(library: KernelLibrary) -> KernelUse:
    """Every kernel of a library, also those that lose on this machine.

    Raises `KernelsRefused` where it is not ours.
    """
    names = _declared(str(library.path)).appliance_kernels_list().decode().splitlines()
    return KernelUse(str(library.path), library.build, tuple(names))


def identity() -> str:
    """Changes with what is used: cells and times mean something to one choice only."""
    return "none" if _used is None else _used.identity


def foreign_count() -> int | None:
    """How many operations whose rows may depend on each other (products, experts,
    attention, recurrences) our back end has left to ggml in this process so far. None
    where it computes nothing, or cannot tell.
    """
    count = None if _used is None else _counter(_used.library)
    return None if count is None else int(count())


def foreign_operations(since: int | None) -> tuple[str, ...] | None:
    """What these were, by ggml's names, such as MUL_MAT; empty if there were none since
    the count was `since`, None where our back end computes nothing or cannot tell.
    """
    if since is None or _used is None:
        return None
    if foreign_count() == since:
        return ()
    names = _lister(_used.library)
    return ("others",) if names is None else tuple(names().decode().splitlines())


def _lister(path: str) -> Callable[[], bytes] | None:
    names = getattr(ctypes.CDLL(path), "appliance_kernels_foreign_list", None)
    if names is not None:
        names.restype = ctypes.c_char_p
    return names


def _counter(path: str) -> Callable[[], int] | None:
    count = getattr(ctypes.CDLL(path), "appliance_kernels_foreign_count", None)
    if count is not None:
        count.restype = ctypes.c_long
    return count


def _check_build(use: KernelUse) -> None:
    """Raises `KernelsRefused` where another file has taken the place of what was tested."""
    try:
        build = KernelLibrary.at(Path(use.library)).build
    except OSError as error:
        raise KernelsRefused(f"{use.library} cannot be read: {error.strerror}") from error
    if build != use.build:
        raise KernelsRefused(f"{use.library} is no longer the file that was tested")


def load(path: str) -> LoadedKernels:
    """Raises `KernelsRefused`."""
    library.start()
    _check_openmp(Path(path))
    backend = _load_backend(path)
    functions = _declared(path)
    return LoadedKernels(
        version=functions.appliance_kernels_version().decode(),
        variant=functions.appliance_kernels_variant().decode(),
        names=tuple(functions.appliance_kernels_list().decode().splitlines()),
        backend=backend,
    )


def _load_backend(path: str) -> int:
    """By the ggml that llama.cpp itself is linked to: a handle finds what its own
    libraries have. (Another file of the same ggml would have devices of its own.)
    """
    load_backend = getattr(libllama, "ggml_backend_load", None)
    if load_backend is None:
        raise KernelsRefused("this llama.cpp cannot load back ends")
    load_backend.argtypes, load_backend.restype = [ctypes.c_char_p], ctypes.c_void_p
    library.take_errors()
    handle: int | None = load_backend(path.encode())
    if not handle:
        raise KernelsRefused(
            f"ggml does not take {path}: "
            + (library.take_errors() or "it was written for another version, or another CPU")
        )
    return handle


def _declared(path: str) -> ctypes.CDLL:
    """Raises `KernelsRefused` where it is not ours."""
    functions = ctypes.CDLL(path)
    try:
        for name in ("version", "variant", "list"):
            getattr(functions, f"appliance_kernels_{name}").restype = ctypes.c_char_p
        functions.appliance_kernels_enable.argtypes = [ctypes.c_char_p, ctypes.c_int]
    except AttributeError as error:
        raise KernelsRefused(f"{path} is no library of kernels: {error}") from error
    return functions


def _check_openmp(path: Path) -> None:
    """Raises `KernelsRefused` where it would bring another runtime than ggml's."""
    theirs = sorted((Path(llama_cpp.__file__).parent / "lib").glob("libggml-cpu*.so"))
    try:
        ours, ggmls = _openmp_of(path), {_openmp_of(file) for file in theirs}
    except OSError as error:
        raise KernelsRefused(f"{error.filename} cannot be read: {error.strerror}") from error
    if ours and ggmls and ours not in ggmls:
        raise KernelsRefused(
            f"they were compiled with {ours}, and llama.cpp with "
            f"{', '.join(ggmls) or 'no OpenMP'}: install again with the same compiler"
        )


def _openmp_of(path: Path) -> str:
    content = path.read_bytes()
    return next((name.decode() for name in _OPENMP_RUNTIMES if name in content), "")
