"""How a child process ended, in words. Knows no child's work."""

from __future__ import annotations

import signal


def describe_end(status: int, stderr: str) -> str:
    """`status` as `subprocess` gives it: negative for a signal;
    of `stderr`, the last line.
    """
    if status < 0:
        names = {int(known): known.name for known in signal.Signals}
        return f"died of {names.get(-status, f'signal {-status}')}"
    last_line = (stderr.strip().splitlines() or ["no message"])[-1]
    return f"failed with status {status}: {last_line}"
