"""Whether each CPU path lives and computes right, found out in child processes.

Knows no speed and no rule.
"""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

import numpy as np
import numpy.typing as npt

from appliance.llama.checks.child import describe_end
from appliance.llama.checks.memory import PathMemory
from appliance.llama.checks.paths import CpuPaths, PathResult

PROBE = (sys.executable, "-m", "appliance.llama.probe")
_TIMEOUT_S = 300.0
# Ctrl-C and a service manager's stop reach the whole group: no word about the CPU
_ENDED_BY_OTHERS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
# nats; kernels that round differently stay under 0.005, broken ones are above 1
_MAX_MEAN_KL = 0.05


def _for_ever() -> float:
    return math.inf


@dataclass(frozen=True)
class _Run:
    """One child's outcome: its log-probabilities, or why there are none."""

    log_probs: npt.NDArray[np.float32] | None
    failure: str = ""


def find_cpu_paths(
    models: Sequence[Path],
    threads: int,
    memory: PathMemory,
    probe: Sequence[str] = PROBE,
    left_s: Callable[[], float] = _for_ever,
) -> CpuPaths:
    """What `memory` knows; else what `probe_paths` finds, which is then remembered.

    What there was no time for is tested the next time.
    """
    known = memory.recall()
    if known is not None and not known.untested:
        return known
    if known is not None:
        models = [model for model in models if model.name in known.untested]
    paths = probe_paths(models, threads, probe, left_s)
    if known is not None:
        paths = paths.after(known)
    memory.remember(paths)
    return paths


def probe_paths(
    models: Sequence[Path],
    threads: int,
    probe: Sequence[str] = PROBE,
    left_s: Callable[[], float] = _for_ever,
) -> CpuPaths:
    """Runs both paths on each of `models` (one per quantization: each has kernels of
    its own), side by side, and compares.

    `probe` is the command line to which model, path, threads and output file are
    appended. Once `left_s` says 0, the rest is left untested: then plain weights count
    as working, unless they have failed, in which case all is tested.
    """
    runs: list[tuple[_Run, _Run]] = []
    # both at once: most of a child's time is spent on starting, by one thread
    with ThreadPoolExecutor(2) as pool:
        for model in models:
            limit_s = left_s()
            begun = pool.submit(_probe, probe, model, "on", threads, limit_s)
            plain = _probe(probe, model, "off", threads, limit_s)
            extra = begun.result()
            if plain is not None and plain.log_probs is None:
                left_s = _for_ever
                extra = extra or _probe(probe, model, "on", threads, left_s())
            if plain is None or extra is None:
                break
            runs.append((plain, extra))
    untested = tuple(model.name for model in models[len(runs) :])
    plain_runs = [plain for plain, _ in runs]
    extra_bufts = _judge([extra for _, extra in runs], plain_runs)
    waits_for = "not all of it has been tested yet, for there was no time" if untested else ""
    return CpuPaths(_judge(plain_runs), replace(extra_bufts, waits_for=waits_for), untested)


def _probe(
    probe: Sequence[str],
    model: Path,
    extra_bufts: str,
    threads: int,
    left_s: float,
) -> _Run | None:
    """None where the time was up, or somebody stopped it, before it ended."""
    limit_s = min(_TIMEOUT_S, left_s)
    if limit_s <= 0:
        return None
    with tempfile.TemporaryDirectory(prefix="appliance-probe-") as folder:
        out = Path(folder) / "log_probs.npy"
        command = [*probe, str(model), extra_bufts, str(threads), str(out)]
        try:
            child = subprocess.run(
                command, capture_output=True, text=True, timeout=limit_s, check=False
            )
        except subprocess.TimeoutExpired:
            if limit_s < _TIMEOUT_S:
                return None
            return _Run(None, f"did not finish within {_TIMEOUT_S:.0f} s on {model.name}")
        if -child.returncode in _ENDED_BY_OTHERS:
            return None
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
    return PathResult(True, "works" if runs else "not tested yet")


def _mean_kl(reference: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    """Mean over positions of KL(reference || other), both log-probabilities [positions,
    vocabulary], in nats.
    """
    return float((np.exp(reference) * (reference - other)).sum(axis=1).mean())
