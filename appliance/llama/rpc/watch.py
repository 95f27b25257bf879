"""Whether the helpers that this process computes on are still there.

Knows no model. llama.cpp itself ends the process where one is gone, but only once it wants
something of it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from appliance.errors import HelperLost
from appliance.llama import use_all_cpus
from appliance.llama.rpc.keep_alive import connections, keep_alive, lost_peers

# in the words of llama.cpp's assertions: the file with its code
RPC_SOURCE = "ggml-rpc"
_EVERY_S = 1.0


def watch_connections(
    endpoints: Sequence[tuple[str, int]], on_lost: Callable[[HelperLost], object]
) -> None:
    """From now on, on a thread of its own; also a peer that vanished without a word is
    noticed. The connections must be open.
    """
    for one in connections():
        with one:
            keep_alive(one)

    def watch() -> None:
        use_all_cpus()
        while not lost_peers(endpoints):
            time.sleep(_EVERY_S)
        on_lost(helper_lost(endpoints))

    threading.Thread(target=watch, name="helpers", daemon=True).start()


def helper_lost(endpoints: Sequence[tuple[str, int]]) -> HelperLost:
    """Names those that are gone, or all where that is not known."""
    gone = lost_peers(endpoints) or [f"{host}:{port}" for host, port in endpoints]
    return HelperLost(f"{' and '.join(gone)}, which computed some of the model's layers, is gone")
