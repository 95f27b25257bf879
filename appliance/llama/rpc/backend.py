"""llama.cpp's RPC backend: devices of other machines, by the names that a plan has.

Knows no memory and makes no choice.

Import this only in a child process: where a helper goes away, llama.cpp ends the process.
"""

from __future__ import annotations

import ctypes

from llama_cpp._ggml import libggml  # the binding offers no back ends

from appliance.errors import LoadFailed
from appliance.llama.checks.rpc import NOT_BUILT


def helper_device(name: str) -> int:
    """ggml's handle of a helper's device; connects to the helper.

    Raises `LoadFailed` where llama.cpp is built without its RPC backend; where the helper
    does not answer, llama.cpp ends the process.
    """
    endpoint, _, number = name.partition("#")
    add_server = rpc_function("ggml_backend_rpc_add_server")
    add = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_char_p)(add_server)
    registry: int | None = add(endpoint.encode())
    libggml.ggml_backend_reg_dev_count.argtypes = [ctypes.c_void_p]
    libggml.ggml_backend_reg_dev_count.restype = ctypes.c_size_t
    libggml.ggml_backend_reg_dev_get.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    libggml.ggml_backend_reg_dev_get.restype = ctypes.c_void_p
    at = int(number or 0)
    if registry is None or at >= libggml.ggml_backend_reg_dev_count(registry):
        raise LoadFailed(f"The helper {endpoint} no longer has the device {at}.")
    handle: int = libggml.ggml_backend_reg_dev_get(registry, at)
    return handle


def rpc_function(name: str) -> int:
    """The address of a function of the RPC backend. Raises `LoadFailed` where there is none."""
    libggml.ggml_backend_reg_by_name.argtypes = [ctypes.c_char_p]
    libggml.ggml_backend_reg_by_name.restype = ctypes.c_void_p
    libggml.ggml_backend_reg_get_proc_address.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    libggml.ggml_backend_reg_get_proc_address.restype = ctypes.c_void_p
    registry: int | None = libggml.ggml_backend_reg_by_name(b"RPC")
    address: int | None = (
        libggml.ggml_backend_reg_get_proc_address(registry, name.encode()) if registry else None
    )
    if address is None:
        raise LoadFailed(f"{NOT_BUILT[0].upper()}{NOT_BUILT[1:]}.")
    return address
