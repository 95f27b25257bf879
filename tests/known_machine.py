"""What takes a server seconds to find out about its machine, known to it from the start.

How it is found out is tested where it is done: `tests/llama/checks`, `tests/launch`.
Our kernels are compared with llama.cpp's once for all tests.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from appliance.fit.machine.device import measure_device
from appliance.launch.cpu_paths import path_memory
from appliance.launch.kernels import examine_kernels, kernel_memory
from appliance.llama.checks import CpuPaths, PathResult, find_kernels


def know_machine(state_dir: Path) -> None:
    """A state directory as another server has left it there: both CPU paths work, and
    our kernels were compared. What is there already stays.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    for name, content in _findings().items():
        if not (state_dir / name).exists():
            (state_dir / name).write_bytes(content)


def know_machine_at(home: Path) -> None:
    """The same for servers whose HOME this is, and that are told of no other place."""
    know_machine(home / ".local" / "state" / "appliance")


@cache
def _findings() -> dict[str, bytes]:
    """Content by the file's name."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        works = PathResult(True, "works")
        path_memory(folder).remember(CpuPaths(works, works))
        library = find_kernels()
        if not isinstance(library, str):
            examine_kernels(library, measure_device().threads, kernel_memory(folder))
        return {path.name: path.read_bytes() for path in folder.iterdir()}
