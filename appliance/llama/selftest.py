"""Which CPU path of llama.cpp lives on this machine, found out in child processes and remembered.

A path is how weights are laid out: plain, or in extra buffer types (repacked, AMX tiles). On some virtual machines the
CPU offers AMX and the hypervisor loses its state: llama.cpp then dies at its first decode, or computes garbage.
Knows no settings and calls nothing native itself: a crash costs a child. Times are the probe's; choosing by speed and
demoting a path after a later crash are not done here.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from appliance.errors import NoUsableCpuPath

_log = logging.getLogger(__name__)
_TIMEOUT_S = 300.0
_PROBE = (sys.executable, "-m", "appliance.llama.probe")
_MAX_MEAN_KL = 0.05  # nats; kernels that round differently stay under 0.005, broken ones are above 1


@dataclass(frozen=True)
class PathResult:
    """What the probe found of one path; times in milliseconds of 64 prefilled rows and of one decoded row."""

    usable: bool
    reason: str
    prefill_ms: float | None = None
    decode_ms: float | None = None


@dataclass(frozen=True)
class CpuPaths:
    """Both paths of one CPU and one library."""

    plain: PathResult
    extra_bufts: PathResult

    def use_extra_bufts(self) -> bool:
        """Plain where it lives: weights then stay mapped once. Raises `NoUsableCpuPath` if neither does."""
        if self.plain.usable:
            return False
        if self.extra_bufts.usable:
            return True
        raise NoUsableCpuPath(
            "llama.cpp works on no CPU path of this machine: plain weights: "
            f"{self.plain.reason}; extra buffer types: {self.extra_bufts.reason}. Build it again with ./install.sh."
        )


@dataclass(frozen=True)
class _Run:
    """One child's outcome: its log-probabilities, or why there are none."""

    log_probs: npt.NDArray[np.float32] | None
    failure: str = ""
    prefill_ms: float = 0.0
    decode_ms: float = 0.0


def find_cpu_paths(models: Sequence[Path], threads: int, state_file: Path, probe: Sequence[str] = _PROBE) -> CpuPaths:
    """Probes both paths with each of `models` (one per quantization: each has kernels of its own), or remembers.

    The result is kept in `state_file`, keyed by CPU and library: either changed, it is found anew. `probe` is the
    command line to which model, path, threads and output file are appended.
    """
    key = _machine_key()
    known = _read_state(state_file)
    if key in known:
        return known[key]
    runs = [(_probe(probe, model, "off", threads), _probe(probe, model, "on", threads)) for model in models]
    paths = CpuPaths(_judge([plain for plain, _ in runs]), _judge([extra for _, extra in runs], [p for p, _ in runs]))
    _log.info("CPU paths: plain: %s; extra buffer types: %s", paths.plain.reason, paths.extra_bufts.reason)
    _write_state(state_file, {**known, key: paths})
    return paths


def _probe(probe: Sequence[str], model: Path, extra_bufts: str, threads: int) -> _Run:
    with tempfile.TemporaryDirectory(prefix="appliance-probe-") as folder:
        out = Path(folder) / "log_probs.npy"
        command = [*probe, str(model), extra_bufts, str(threads), str(out)]
        try:
            child = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            return _Run(None, f"did not finish within {_TIMEOUT_S:.0f} s on {model.name}")
        if child.returncode != 0:
            return _Run(None, f"{_describe(child)} on {model.name}")
        times = json.loads(child.stdout)
        return _Run(np.load(out), prefill_ms=times["prefill_ms"], decode_ms=times["decode_ms"])


def _judge(runs: Sequence[_Run], references: Sequence[_Run] = ()) -> PathResult:
    """Usable if every run ended well and, where there is a reference, computed the same."""
    for run in runs:
        if run.log_probs is None:
            return PathResult(False, run.failure)
        if not np.isfinite(run.log_probs).all():
            return PathResult(False, "its logits are not finite")
    for run, reference in zip(runs, references, strict=False):
        if run.log_probs is not None and reference.log_probs is not None:
            mean_kl = _mean_kl(reference.log_probs, run.log_probs)
            if mean_kl > _MAX_MEAN_KL:
                return PathResult(False, f"its logits differ from those of plain weights (mean KL {mean_kl:.3g} nats)")
    return PathResult(True, "works", sum(run.prefill_ms for run in runs), sum(run.decode_ms for run in runs))


def _mean_kl(reference: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    """Mean over positions of KL(reference || other), both log-probabilities [positions, vocabulary], in nats."""
    return float((np.exp(reference) * (reference - other)).sum(axis=1).mean())


def _describe(child: subprocess.CompletedProcess[str]) -> str:
    if child.returncode < 0:
        return f"died of {signal.Signals(-child.returncode).name}"
    last_line = (child.stderr.strip().splitlines() or ["no message"])[-1]
    return f"failed with status {child.returncode}: {last_line}"


def _machine_key() -> str:
    """Changes with the CPU (model and features) and with the library's files."""
    digest = hashlib.sha256(_cpu_description().encode())
    spec = importlib.util.find_spec("llama_cpp")
    assert spec is not None
    assert spec.origin is not None
    for library in sorted((Path(spec.origin).parent / "lib").glob("lib*")):
        digest.update(library.name.encode())
        if not library.is_symlink():
            digest.update(library.read_bytes())
    return digest.hexdigest()


def _cpu_description() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:  # macOS
        return f"{platform.machine()} {platform.processor()}"
    wanted = ("model name", "flags", "CPU implementer", "CPU part", "Features")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))


def _read_state(state_file: Path) -> dict[str, CpuPaths]:
    """What was found before; a file that cannot be read as such counts as none."""
    try:
        entries = json.loads(state_file.read_text())
        return {
            key: CpuPaths(PathResult(**entry["plain"]), PathResult(**entry["extra_bufts"]))
            for key, entry in entries.items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        _log.warning("%s is not readable (%s); probing anew", state_file, error)
        return {}


def _write_state(state_file: Path, paths: dict[str, CpuPaths]) -> None:
    state_file.parent.mkdir(parents=True, exist_ok=True)
    temporary = state_file.with_name(f"{state_file.name}.{os.getpid()}")
    temporary.write_text(json.dumps({key: asdict(value) for key, value in paths.items()}, indent=1))
    temporary.replace(state_file)
