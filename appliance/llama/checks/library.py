"""What the native library reports of itself and of the machine,
asked in a child process.

Knows no use of a device.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from appliance.llama.checks.child import describe_end

DEVICES = (sys.executable, "-m", "appliance.llama.devices")
_TIMEOUT_S = 60.0
# ggml builds each backend as a library of its own; those of the CPU come one for each
# of its generations.
_BACKEND = re.compile(r"(?:lib)?ggml-([a-z0-9]+)(?:-[a-z0-9_]+)?\.(?:so|dylib|dll)")
# None of them finds a GPU; that of RPC has only devices that it is told of.
_CPU_BACKENDS = frozenset({"base", "cpu", "blas", "zendnn", "rpc"})


@dataclass(frozen=True, kw_only=True)
class NativeDevice:
    """One of ggml's devices."""

    name: str
    description: str
    kind: str  # CPU, GPU, IGPU, ACCEL or META (ggml-backend.h)
    memory_total_bytes: int
    memory_free_bytes: int
    splits_rows: bool = False  # its backend has split buffers, so split mode `row` works on it
    library: str = ""  # the name of the file with its code

    @property
    def is_gpu(self) -> bool:
        return self.kind in ("GPU", "IGPU")


@dataclass(frozen=True)
class LibraryInfo:
    """How the library was built, and the devices that it sees."""

    system_info: str  # llama.cpp's own line on the instruction sets it was built for
    supports_gpu_offload: bool
    devices: list[NativeDevice]
    # of back ends for the CPU, by their files' names, where there are several: 0 for one
    # that cannot run here, else the more the better
    cpu_scores: dict[str, int] = field(default_factory=dict)

    @property
    def built_with_amx(self) -> bool:
        return "AMX_INT8 = 1" in self.system_info


def may_have_gpus(folder: Path | None = None) -> bool:
    """Whether asking the library for GPUs can find any, by its files in `folder`; no
    process is started for it.
    """
    folder = folder or library_folder()
    if folder is None:
        return False
    backends = {
        match[1]
        for path in folder.iterdir()
        if (match := _BACKEND.fullmatch(path.name)) is not None
    }
    # without a base of its own, all may be in one file
    return "base" not in backends or not backends <= _CPU_BACKENDS


def library_folder() -> Path | None:
    """Where llama.cpp's libraries are; None where it is not installed."""
    spec = importlib.util.find_spec("llama_cpp")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / "lib"


def inspect_library(command: Sequence[str] = DEVICES) -> LibraryInfo | str:
    """What the library reports, or why it reports nothing."""
    try:
        child = subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return f"did not answer within {_TIMEOUT_S:.0f} s"
    if child.returncode != 0:
        return describe_end(child.returncode, child.stderr.decode(errors="replace"))
    return msgspec.json.decode(child.stdout, type=LibraryInfo)
