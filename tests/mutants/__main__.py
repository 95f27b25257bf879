"""Sends so many files with faults through the appliance, and prints how to repeat what harmed.

Usage: python -m tests.mutants 5000 [--seed N] [--first NUMBER] [--folder FOLDER]
       python -m tests.mutants --only NUMBER [--seed N] [--keep FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import resource
import sys
import tempfile
import time
from pathlib import Path

from tests.mutants.cases import Case, Findings, case_of, run_cases
from tests.mutants.sources import write_sources
from tests.mutants.trial import Outcome, Verdict, machine_of, nursery, try_file

_BATCH = 100
_PARENT_HANGS_AFTER_S = 300.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants")
    parser.add_argument("count", nargs="?", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only", type=int, help="the one case with this number")
    parser.add_argument("--keep", type=Path, help="where to leave its file")
    parser.add_argument("--folder", type=Path, help="keeps the sound files for further runs")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        folder = given.folder or Path(name)
        sources = sorted(folder.glob("sound/*.gguf")) or write_sources(folder / "sound")
        if given.only is not None:
            case = case_of(sources, given.seed, given.only)
            if given.keep is not None:
                given.keep.write_bytes(case.data)
            verdict = asyncio.run(_verdict_of(case, folder))
            print(f"{case.source} {case.what}: {verdict.outcome.value} {verdict.reason}")
            return not verdict.outcome.is_allowed
        numbers = range(given.first, given.first + given.count)
        findings = asyncio.run(_run(sources, given.seed, numbers, folder))
    print(f"{len(numbers)} cases, {len(findings.harmful)} of them harmful")
    print(f"the parent took {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB at most")
    for outcome in Outcome:
        print(f"{findings.outcomes[outcome]:6} {outcome.value}")
    return len(findings.harmful) > 0


async def _verdict_of(case: Case, folder: Path) -> Verdict:
    path = folder / "mutant.gguf"
    path.write_bytes(case.data)
    async with nursery(folder / "state") as children:
        return await try_file(path, children, machine_of(children))


async def _run(sources: list[Path], seed: int, numbers: range, folder: Path) -> Findings:
    findings = Findings()
    async with nursery(folder / "state") as children:
        machine = machine_of(children)
        for first in range(numbers.start, numbers.stop, _BATCH):
            began_s, batch = time.monotonic(), range(first, min(first + _BATCH, numbers.stop))
            cases = (case_of(sources, seed, number) for number in batch)
            known = len(findings.harmful)
            # no case waits so long for anything but this process itself
            faulthandler.dump_traceback_later(_PARENT_HANGS_AFTER_S * len(batch), exit=True)
            await run_cases(cases, children, machine, folder, findings)
            faulthandler.cancel_dump_traceback_later()
            took_s = time.monotonic() - began_s
            print(f"cases {batch.start} to {batch.stop - 1} in {took_s:.0f} s", flush=True)
            for case, verdict in findings.harmful[known:]:
                print(f"HARMFUL: {verdict.outcome.value}: {verdict.reason[:600]}")
                print(f"  {case.source}: {case.what}")
                print(f"  again: python -m tests.mutants --seed {seed} --only {case.number}")
    return findings


if __name__ == "__main__":
    sys.exit(main())
