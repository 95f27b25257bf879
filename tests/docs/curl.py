"""What a `curl` on a page asks for. Knows the flags that the pages use, and no endpoint."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from urllib.parse import urlsplit

_HERE = ("127.0.0.1", "localhost")
_SWITCHES = ("-f", "-s", "-S", "-N", "--no-buffer", "-k")
_VALUES = ("--max-time", "--unix-socket", "--cacert", "-o")


@dataclass(frozen=True, kw_only=True)
class Asked:
    method: str
    path: str  # with what stands behind the question mark
    headers: dict[str, str]
    body: str | None


def asked(words: list[str]) -> Asked | None:
    """Of `curl` with these words; None: of another server than the one that the pages are
    about. Raises `SystemExit` at a flag that curl may have and the pages do not use.
    """
    parser = argparse.ArgumentParser(prog="curl", allow_abbrev=False)
    for flag in _SWITCHES:
        parser.add_argument(flag, action="store_true")
    for flag in _VALUES:
        parser.add_argument(flag)
    parser.add_argument("-X", dest="method")
    parser.add_argument("-H", dest="headers", action="append", default=[])
    parser.add_argument("-d", "--data", dest="body")
    parser.add_argument("url")
    args = parser.parse_args(words)
    url = urlsplit(args.url if "//" in args.url else f"http://{args.url}")
    if url.hostname not in _HERE:
        return None
    return Asked(
        method=args.method or ("GET" if args.body is None else "POST"),
        path=url.path + (f"?{url.query}" if url.query else ""),
        headers=dict(header.split(": ", 1) for header in args.headers),
        body=args.body,
    )
