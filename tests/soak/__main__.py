"""Serves the embedded model under load and faults, and prints what should not have been.

Usage: python -m tests.soak --minutes 30 [--seed N] [--fault NAME ...] [--calm-s S]
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.soak.faults.table import FAULTS
from tests.soak.house import exit_on_sigterm, house_in
from tests.soak.soak import Plan, Report, Soak


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fault", choices=FAULTS, action="append", help="only this one")
    parser.add_argument("--calm-s", type=float, default=20, help="of each calm phase")
    parser.add_argument("--log", type=Path, help="where to leave the server's log")
    given = parser.parse_args()
    exit_on_sigterm()
    plan = Plan(
        seconds=60 * given.minutes,
        calm_s=given.calm_s,
        faults=[FAULTS[name] for name in given.fault or FAULTS],
        seed=given.seed,
    )
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, house_in(Path(folder)) as house:
        run = Soak(house, plan)
        try:
            asyncio.run(run.run())
        finally:
            if given.log is not None:
                given.log.write_text("\n".join([*house.lines, *house.server.lines]))
            print_report(run.report)
    return len(run.report.findings) > 0


def print_report(report: Report) -> None:
    for name, why in report.not_tried.items():
        print(f"NOT TRIED: {name}: {why}")
    print(f"{len(report.ledger.entries)} requests")
    for ending, count in sorted(report.ledger.endings().items()):
        print(f"{count:7} {ending}")
    for calm in report.calms:
        print(
            f"calm behind {calm.behind or 'nothing'}: back after {calm.back_s:.1f} s, "
            f"{calm.tokens_per_s:.0f} tokens/s, {calm.resident_bytes >> 10} KiB"
        )
    print(f"the parent's memory grew by {report.growth:.1%}")
    print(f"before: {report.before}")
    print(f"after:  {report.after}")
    for finding in report.findings:
        print(f"FOUND: {finding}")
    print(f"{len(report.findings)} findings")


if __name__ == "__main__":
    sys.exit(main())
