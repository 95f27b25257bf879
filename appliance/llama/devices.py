"""Runs in a child process:
lists the devices that ggml sees, what the library was built for, and which of its back
ends suit this CPU.

Uses none of them.

Usage: python -m appliance.llama.devices
Prints a JSON object as `appliance.llama.checks.LibraryInfo` reads it.
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import llama_cpp
from llama_cpp._ggml import libggml  # the binding offers no device list of its own

from appliance.llama import library
from appliance.llama.checks.library import may_have_gpus

# ggml-backend.h, enum ggml_backend_dev_type, in its order.
_KINDS = ("CPU", "GPU", "IGPU", "ACCEL", "META")


class _DlInfo(ctypes.Structure):
    """dlfcn.h, Dl_info."""

    _fields_ = [
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("symbol", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    ]


def _declare() -> None:
    """The signatures of ggml-backend.h; a handle is an opaque pointer, which ctypes
    would cut to an int.
    """
    libggml.ggml_backend_dev_count.restype = ctypes.c_size_t
    libggml.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    libggml.ggml_backend_dev_get.restype = ctypes.c_void_p
    for name in ("ggml_backend_dev_name", "ggml_backend_dev_description"):
        getattr(libggml, name).argtypes = [ctypes.c_void_p]
        getattr(libggml, name).restype = ctypes.c_char_p
    libggml.ggml_backend_dev_type.argtypes = [ctypes.c_void_p]
    libggml.ggml_backend_dev_type.restype = ctypes.c_int
    size = ctypes.POINTER(ctypes.c_size_t)
    libggml.ggml_backend_dev_memory.argtypes = [ctypes.c_void_p, size, size]
    libggml.ggml_backend_dev_memory.restype = None
    libggml.ggml_backend_dev_backend_reg.argtypes = [ctypes.c_void_p]
    libggml.ggml_backend_dev_backend_reg.restype = ctypes.c_void_p
    libggml.ggml_backend_reg_get_proc_address.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    libggml.ggml_backend_reg_get_proc_address.restype = ctypes.c_void_p


def _devices() -> Iterator[dict[str, object]]:
    for at in range(libggml.ggml_backend_dev_count()):
        handle = libggml.ggml_backend_dev_get(at)
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        libggml.ggml_backend_dev_memory(handle, ctypes.byref(free), ctypes.byref(total))
        yield {
            "name": libggml.ggml_backend_dev_name(handle).decode(),
            "description": libggml.ggml_backend_dev_description(handle).decode(),
            "kind": _KINDS[libggml.ggml_backend_dev_type(handle)],
            "memory_total_bytes": total.value,
            "memory_free_bytes": free.value,
            "splits_rows": _splits_rows(handle),
            "library": _library_of(handle).name,
        }


def _splits_rows(handle: int) -> bool:
    """Whether the device's backend has split buffers, as llama-model.cpp
    (`make_gpu_buft_list`) asks it.
    """
    backend = libggml.ggml_backend_dev_backend_reg(handle)
    return bool(
        libggml.ggml_backend_reg_get_proc_address(backend, b"ggml_backend_split_buffer_type")
    )


def _library_of(handle: int) -> Path:
    """The file with the device's code; a device begins with the address of a function
    of its own (ggml-backend-impl.h).
    """
    info = _DlInfo()
    function = ctypes.c_void_p.from_address(handle)
    found = ctypes.CDLL(None).dladdr(function, ctypes.byref(info))
    return Path(info.file.decode()) if found else Path()


def _cpu_scores() -> dict[str, int]:
    """How well each of several back ends suits this CPU, as it says itself: 0 where it
    cannot run here, else the more the better. Empty where there is only one.
    """
    files = sorted((Path(llama_cpp.__file__).parent / "lib").glob("libggml-cpu-*.so"))
    return {file.name: ctypes.CDLL(str(file)).ggml_backend_score() for file in files}


def main() -> int:
    library.start()
    _declare()
    info = {
        "system_info": library.system_info(),
        # of a library that has RPC, llama.cpp always says so
        "supports_gpu_offload": llama_cpp.llama_supports_gpu_offload() and may_have_gpus(),
        "devices": list(_devices()),
        "cpu_scores": _cpu_scores(),
    }
    print(json.dumps(info))  # noqa: T201 - the answer to the parent
    return 0


if __name__ == "__main__":
    sys.exit(main())
