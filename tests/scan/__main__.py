"""Scans a listening server, or two of our own, and prints what is open that should be shut.

Usage: python -m tests.scan --self [--part 1/4]
       python -m tests.scan http://127.0.0.1:8080 [--key KEY --other-key KEY] [--timeout-s 30]

With keys, or where none is needed, it sends what changes state (empty bodies to every path and
method): only to a server that may lose its responses, files and models.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.scan.requests import Keys, Request, Who
from tests.scan.rules import Rules
from tests.scan.scan import MAX_BODY_BYTES, Extent, scan, scan_own
from tests.scan.scanner import Findings, Scanner
from tests.scan.wire import Address

_MAX_SHOWN = 50


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.scan")
    parser.add_argument("url", nargs="?", help="of a listening server")
    parser.add_argument("--self", dest="own", action="store_true", help="servers of our own")
    parser.add_argument("--key", help="one of its keys")
    parser.add_argument("--other-key", help="one of somebody else")
    parser.add_argument("--timeout-s", type=float, default=30.0, help="its --client-timeout-s")
    parser.add_argument("--part", default="1/1", help="of the routes, such as 1/4")
    given = parser.parse_args()
    if given.own == (given.url is not None):
        parser.error("give either a URL or --self")
    number, num_parts = map(int, given.part.split("/"))
    extent = Extent(part=(number, num_parts))
    began_s = time.monotonic()
    if given.own:
        with tempfile.TemporaryDirectory(prefix="scan-") as name:
            folder = Path(name)
            report = asyncio.run(scan_own(folder / "home", folder, extent))
        findings = report.findings
        print(f"the server took {report.growth_bytes >> 20} MiB more, at most")
    else:
        findings = asyncio.run(_scan_url(given, extent))
    print(f"{findings.num_requests} requests in {time.monotonic() - began_s:.0f} s")
    print(", ".join(f"{status}: {count}" for status, count in sorted(findings.statuses.items())))
    print(f"{len(findings.broken)} findings")
    for finding in findings.broken[:_MAX_SHOWN]:
        print(f"  {finding}")
    return len(findings.broken) > 0


async def _scan_url(given: argparse.Namespace, extent: Extent) -> Findings:
    address = Address.of(given.url)
    sent = {Who.HOLDER: given.key, Who.OTHER: given.other_key}
    keys = Keys({who: key.encode() for who, key in sent.items() if key})
    models = Request(method=b"GET", target=b"/v1/models")
    response = await Scanner(address, Keys(), Rules(needs_key=False)).ask(models)
    needs_key = response is not None and response.status == 401
    print("a key is needed" if needs_key else "no key is needed: everything is open by intention")
    return await scan(
        address,
        keys,
        Rules(needs_key=needs_key, secrets=keys.by_holder.values()),
        extent,
        timeout_s=given.timeout_s,
        max_body_bytes=MAX_BODY_BYTES,
    )


if __name__ == "__main__":
    sys.exit(main())
