"""Computing with all kernels of our own, however quick they are on this machine."""

from __future__ import annotations

import ctypes

from appliance.llama.checks import find_kernels
from appliance.llama.kernels.loading import use_kernels
from appliance.protocol.kernel_use import KernelUse


def use_all_kernels() -> None:
    """In a child process, before its first model, where the library is there."""
    library = find_kernels()
    assert not isinstance(library, str), f"our own kernels {library}"
    list_kernels = ctypes.CDLL(str(library.path)).appliance_kernels_list
    list_kernels.restype = ctypes.c_char_p
    names = list_kernels().decode().splitlines()
    use_kernels(KernelUse(str(library.path), library.build, tuple(names)))
