"""The helpers that a model may use, as they answer now.

Knows no plan and no protocol.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from appliance.errors import BadSettings
from appliance.fit.machine.rpc_helpers import HelperList, ask_helpers
from appliance.llama.checks.rpc import NOT_BUILT, has_rpc

_log = logging.getLogger(__name__)


def find_helpers(addresses: Sequence[str]) -> HelperList:
    """Asked anew for each load: one may be back, or gone. Those that do not answer are told
    in the log and left out.

    Raises `BadSettings` where llama.cpp is built without RPC, or a helper is of another
    version.
    """
    if not addresses:
        return HelperList()
    if not has_rpc():
        raise BadSettings(f"--rpc {','.join(addresses)}: {NOT_BUILT}, or leave out --rpc.")
    found = ask_helpers(addresses)
    if found.refused:
        raise BadSettings(f"--rpc: {'; '.join(found.refused)}, or leave it out of --rpc.")
    for one in found.missing:
        _log.warning("%s: going on without it", one)
    for device in found.devices:
        link = device.link
        if link is not None:
            _log.info(
                "%s (%s): %.1f GiB free, %.2f ms and %.0f MB/s away",
                device.description,
                device.name,
                device.memory_free_bytes / (1 << 30),
                1e3 * link.round_trip_s,
                link.bytes_per_s / 1e6,
            )
    return found
