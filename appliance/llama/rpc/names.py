"""Names of helpers' devices, as a plan has them: `ADDRESS:PORT`, or `ADDRESS:PORT#NUMBER` for
another device of the same helper.

Knows no library.
"""

from __future__ import annotations

from collections.abc import Sequence


def is_helper(name: str) -> bool:
    """Whether a device's name is that of a helper."""
    return ":" in name


def endpoints_of(devices: Sequence[str]) -> list[tuple[str, int]]:
    """(address, port) of each helper among the devices, once."""
    found = dict.fromkeys(name.partition("#")[0] for name in devices if is_helper(name))
    return [(address, int(port)) for address, _, port in (one.rpartition(":") for one in found)]


def buffers_of(name: str) -> str:
    """What ggml calls the buffers on a plan's device (`ggml_backend_rpc_buffer_type`)."""
    if not is_helper(name):
        return name
    endpoint, _, number = name.partition("#")
    return f"RPC{number or 0}[{endpoint}]"
