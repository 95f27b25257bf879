"""Sends so many cases to a real worker, and prints how to repeat what harmed it.

Usage: python -m tests.fuzz 100000 [--seed N] [--first NUMBER]
       python -m tests.fuzz --only NUMBER [--seed N]
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.conftest import CHECKPOINT
from tests.fuzz.cases import case_of
from tests.fuzz.fuzzing import Findings, fuzz, harm_of
from tests.worker.running import config_of

BATCH = 2000  # with each a new worker


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("count", nargs="?", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only", type=int, help="the one case with this number")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        config = config_of(_converted(Path(folder)))
        if given.only is not None:
            case = case_of(given.seed, given.only)
            print(f"{case.kind} {case.path} {case.body}")
            reason = asyncio.run(harm_of(config, case))
            print(reason or "no harm")
            return reason is not None
        num_harmful = 0
        for first in range(given.first, given.first + given.count, BATCH):
            began_s = time.monotonic()
            numbers = range(first, min(first + BATCH, given.first + given.count))
            findings = asyncio.run(fuzz(config, given.seed, numbers))
            _report(findings, given.seed, numbers, time.monotonic() - began_s)
            num_harmful += len(findings.harmful)
    print(f"{given.count} cases, {num_harmful} of them harmful")
    return num_harmful > 0


def _converted(folder: Path) -> Path:
    command = [sys.executable, "-m", "convert", str(CHECKPOINT), "--out", str(folder)]
    subprocess.run([*command, "--types", "Q4_K_M"], check=True, stdout=subprocess.DEVNULL)
    return folder / "novels-6m-Q4_K_M.gguf"


def _report(findings: Findings, seed: int, numbers: range, seconds: float) -> None:
    statuses = ", ".join(
        f"{count} x {status}" for status, count in sorted(findings.statuses.items())
    )
    slowest = ", ".join(
        f"{took_s:.1f} s (case {number})" for took_s, number in findings.slowest[:3]
    )
    which = f"cases {numbers.start} to {numbers.stop - 1}"
    print(f"{which} in {seconds:.0f} s: {statuses}; slowest {slowest}", flush=True)
    for case, reason in findings.harmful:
        print(f"HARMFUL: {reason}\n  {case.kind} {case.path} {case.body[:2000]}")
        print(f"  again: python -m tests.fuzz --seed {seed} --only {case.number}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
