"""Command line. Knows every part below it and is known by none.

`main` is the console script `appliance`. A subcommand is a module of this package;
`commands` lists them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from appliance.cli.network.hangups import hold_hangups

__all__ = ["main"]


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Runs `appliance ARGV` and returns its exit code; see `dispatch`."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["serve"]:
        hold_hangups()
    # After that: these imports take a second, in which a SIGHUP would end the process.
    from appliance.cli.dispatch import main as dispatch

    return dispatch(words, environ)
