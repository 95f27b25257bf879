"""What llama.cpp would reserve for a model at given sizes, asked in a child process.

Knows no plan.

What was answered once is remembered in a file, by the model file, the sizes, the CPU
and the library.
"""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from appliance.llama.checks.child import describe_end
from appliance.llama.checks.memory import machine_key
from appliance.protocol.context_sizes import ContextSizes
from appliance.protocol.kernel_use import NO_KERNELS, KernelUse

DRY_LOAD = (sys.executable, "-m", "appliance.llama.dry_load")
_TIMEOUT_S = 120.0
_MAX_REMEMBERED = 500

_log = logging.getLogger(__name__)


class ReservedBytes(msgspec.Struct, frozen=True):
    """KV cache with recurrent states, and compute buffers."""

    kv_bytes: int
    compute_bytes: int


class DryLoads:
    """Asks and remembers; `file` need not be there."""

    def __init__(
        self,
        file: Path,
        command: Sequence[str] = DRY_LOAD,
        kernels: KernelUse = NO_KERNELS,
        confine: str = "auto",
    ) -> None:
        self._file = file
        self._command = command
        self._kernels = kernels
        self._confine = confine

    def reserved(self, model: Path, sizes: ContextSizes) -> ReservedBytes | str:
        """What llama.cpp says; or in words why it does not: it refused the sizes or the
        model, or died of them.
        """
        key = _key(model, sizes, self._kernels)
        known = self._read().get(key)
        if known is not None:
            return known
        answer = _ask(self._command, model, sizes, self._kernels, self._confine)
        if isinstance(answer, ReservedBytes):
            self._remember(key, answer)
        return answer

    def _read(self) -> dict[str, ReservedBytes]:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=dict[str, ReservedBytes])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError) as error:
            _log.warning("%s cannot be used and will be rewritten: %s", self._file, error)
            return {}

    def _remember(self, key: str, answer: ReservedBytes) -> None:
        """Written by rename.

        A directory that cannot be written to costs the memory, not the plan.
        """
        known = dict(list(self._read().items())[1 - _MAX_REMEMBERED :])
        temporary = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(msgspec.json.encode({**known, key: answer}))
            temporary.replace(self._file)
        except OSError as error:
            _log.warning("what llama.cpp reserves cannot be saved: %s", error)


def _key(model: Path, sizes: ContextSizes, kernels: KernelUse) -> str:
    stat = model.stat()
    file = (str(model.resolve()), stat.st_size, stat.st_mtime_ns)
    parts = (*file, *_deciding(sizes), machine_key(), kernels.identity)
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _deciding(sizes: ContextSizes) -> tuple[int | str | None, ...]:
    """What of them decides the buffers, as the child is told; threads do not."""
    return (
        sizes.kv_cells,
        sizes.slots,
        sizes.max_rows,
        sizes.ubatch_rows,
        sizes.kv_type,
        "on" if sizes.flash_attention else "off",
        sizes.max_draft_rows,
        sizes.rollback_states,
    )


def _ask(
    command: Sequence[str], model: Path, sizes: ContextSizes, kernels: KernelUse, confine: str
) -> ReservedBytes | str:
    try:
        done = subprocess.run(
            [
                *command,
                str(model.absolute()),
                *map(str, _deciding(sizes)),
                msgspec.json.encode(kernels).decode(),
                confine,
            ],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
            env={**os.environ, "GGML_NO_BACKTRACE": "1"},
        )
    except subprocess.TimeoutExpired:
        return f"did not answer within {_TIMEOUT_S:.0f} s"
    if done.returncode != 0:
        return describe_end(done.returncode, done.stderr)
    return msgspec.json.decode(done.stdout, type=ReservedBytes)
