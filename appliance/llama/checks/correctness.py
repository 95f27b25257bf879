"""Whether each CPU path lives and computes right, found out in child processes.

Knows no speed and no rule.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
import numpy.typing as npt

from appliance.llama.checks.child import describe_end
from appliance.llama.checks.memory import PathMemory
from appliance.llama.checks.paths import CpuPaths, PathResult

PROBE = (sys.executable, "-m", "appliance.llama.probe")
_TIMEOUT_S = 300.0
# nats; kernels that round differently stay under 0.005, broken ones are above 1
_MAX_MEAN_KL = 0.05


@dataclass(frozen=True)
class _Run:
    """One child's outcome: its log-probabilities, or why there are none."""

    log_probs: npt.NDArray[np.float32] | None
    failure: str = ""


def find_cpu_paths(
    models: Sequence[Path], threads: int, memory: PathMemory, probe: Sequence[str] = PROBE
) -> CpuPaths:
    """What `memory` knows; else what `probe_paths` finds, which is then remembered."""
    known = memory.recall()
    if known is not None:
        return known
    paths = probe_paths(models, threads, probe)
    memory.remember(paths)
    return paths


def probe_paths(models: Sequence[Path], threads: int, probe: Sequence[str] = PROBE) -> CpuPaths:
    """Runs both paths on each of `models` (one per quantization: each has kernels of
    its own) and compares.

    `probe` is the command line to which model, path, threads and output file are
    appended.
    """
    runs = [
        (_probe(probe, model, "off", threads), _probe(probe, model, "on", threads))
        for model in models
    ]
    plain = [plain for plain, _ in runs]
    return CpuPaths(_judge(plain), _judge([extra for _, extra in runs], plain))


def _probe(probe: Sequence[str], model: Path, extra_bufts: str, threads: int) -> _Run:
    with tempfile.TemporaryDirectory(prefix="appliance-probe-") as folder:
        out = Path(folder) / "log_probs.npy"
        command = [*probe, str(model), extra_bufts, str(threads), str(out)]
        try:
            child = subprocess.run(
                command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired:
            return _Run(None, f"did not finish within {_TIMEOUT_S:.0f} s on {model.name}")
        if child.returncode != 0:
            return _Run(None, f"{describe_end(child.returncode, child.stderr)} on {model.name}")
        return _Run(np.load(out))


def why_wrong(found: npt.NDArray[np.float32], reference: npt.NDArray[np.float32] | None) -> str:
    """Why log-probabilities, float32 [positions, vocabulary], are not what `reference`
    has; empty if they are.
    """
    if not np.isfinite(found).all():
        return "its logits are not finite"
    if reference is None:
        return ""
    mean_kl = _mean_kl(reference, found)
    return (
        f"its logits differ from the reference's (mean KL {mean_kl:.3g} nats)"
        if mean_kl > _MAX_MEAN_KL
        else ""
    )


def _judge(runs: Sequence[_Run], references: Sequence[_Run] = ()) -> PathResult:
    """Works if every run ended well and,
    where there is a reference, computed the same.
    """
    for run, reference in zip_longest(runs, references):
        if run.log_probs is None:
            return PathResult(False, run.failure)
        reason = why_wrong(run.log_probs, None if reference is None else reference.log_probs)
        if reason:
            return PathResult(False, reason)
    return PathResult(True, "works")


def _mean_kl(reference: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    """Mean over positions of KL(reference || other), both log-probabilities [positions,
    vocabulary], in nats.
    """
    return float((np.exp(reference) * (reference - other)).sum(axis=1).mean())
