"""Runs in a child process: has llama.cpp plan a context without allocating it, and
prints what it would reserve.

Knows neither weights (they are in the file's table) nor what becomes resident of what
is reserved.

Usage: python -m appliance.llama.dry_load MODEL.gguf CELLS SLOTS ROWS UBATCH_ROWS
    KV_TYPE {on|off} DRAFT_ROWS ROLLBACK_STATES [KERNELS {auto|off}]: a
    `KernelUse` as JSON, and whether it confines itself
Prints a JSON object as `appliance.llama.checks.reserved` reads it, in bytes. Source of
the numbers: the log lines `llama_kv_cache: size = ` (llama-kv-cache.cpp),
`llama_memory_recurrent: size = ` (llama-memory-recurrent.cpp) and `... compute buffer
size = ` (llama-context.cpp), in MiB with two decimals.
"""

from __future__ import annotations

import ctypes
import json
import re
import sys
from pathlib import Path

import llama_cpp
import msgspec

from appliance.errors import ApplianceError
from appliance.llama.confining import confine_to_model
from appliance.llama.context import Context, ContextConfig
from appliance.llama.kernels.loading import use_kernels
from appliance.llama.library import readable_line
from appliance.llama.model import Model
from appliance.protocol.context_sizes import ContextSizes
from appliance.protocol.kernel_use import NO_KERNELS, KernelUse

_MIB = 1 << 20
# A model with sliding windows has two caches, a hybrid one a cache and a state: their
# sizes add up.
_KV = re.compile(r"(?:llama_kv_cache|llama_memory_recurrent): size = +([0-9.]+) MiB")
# Back ends that share a type of buffers share the buffer, and each names it.
_COMPUTE = re.compile(r"(\S+) compute buffer size = +([0-9.]+) MiB")


def main(argv: list[str]) -> int:
    cells, slots, rows, ubatch_rows = map(int, argv[1:5])
    config = ContextConfig(
        sizes=ContextSizes(
            kv_cells=cells,
            slots=slots,
            max_rows=rows,
            kv_type=argv[5],
            threads=1,
            flash_attention=argv[6] == "on",
            ubatch_rows=ubatch_rows,
            max_draft_rows=int(argv[7]),
            rollback_states=int(argv[8]),
            batch_threads=1,
        )
    )
    kernels = msgspec.json.decode(argv[9], type=KernelUse) if argv[9:] else NO_KERNELS
    if argv[10:] != ["off"]:
        confine_to_model(Path(argv[0]), kernels)
    use_kernels(kernels)
    lines: list[str] = []
    try:
        model = Model(Path(argv[0]), use_extra_bufts=False, is_dry=True)
        listener = _listen(lines)
        Context(model, config)
        llama_cpp.llama_log_set(listener, ctypes.c_void_p(0))  # keeps it alive until here
    except ApplianceError as error:
        print(error.message, file=sys.stderr)  # noqa: T201 - a program's own error output
        return 1
    log = "".join(lines)
    reserved = {"kv_bytes": _total_bytes(_KV, log), "compute_bytes": _compute_bytes(log)}
    print(json.dumps(reserved))  # noqa: T201 - the answer to the parent
    return 0


def _listen(lines: list[str]) -> object:
    @llama_cpp.llama_log_callback  # type: ignore[untyped-decorator] # llama_cpp has no types
    def on_log(_level: int, text: bytes, _user_data: ctypes.c_void_p) -> None:
        lines.append(f"{readable_line(text)}\n")

    llama_cpp.llama_log_set(on_log, ctypes.c_void_p(0))
    return on_log


def _compute_bytes(log: str) -> int:
    by_buffer_type: dict[str, float] = {}
    for name, mib in _COMPUTE.findall(log):
        by_buffer_type[name] = max(float(mib), by_buffer_type.get(name, 0.0))
    return sum(int(mib * _MIB) for mib in by_buffer_type.values())


def _total_bytes(pattern: re.Pattern[str], log: str) -> int:
    return sum(int(float(mib) * _MIB) for mib in pattern.findall(log))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
