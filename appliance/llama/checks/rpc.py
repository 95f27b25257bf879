"""The parent's side of llama.cpp's RPC backend: whether it is there, and the command of its
server.

Knows no address.
"""

from __future__ import annotations

import sys
from pathlib import Path

from appliance.llama.checks.library import library_folder

RPC_SERVER = (sys.executable, "-m", "appliance.llama.rpc.server")
NOT_BUILT = (
    "this build of llama.cpp has no RPC backend, which computing on helpers needs. Run "
    "./install.sh again"
)


def has_rpc(folder: Path | None = None) -> bool:
    """Whether the library in `folder` was built with its RPC backend; no process is
    started for it.
    """
    folder = folder or library_folder()
    return folder is not None and any(folder.glob("*ggml-rpc*"))
