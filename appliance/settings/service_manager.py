"""What a service manager passes to this process in the environment.

Knows no socket and sends nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ServiceManager:
    """Where and how often it wants to hear from us; both None where nobody does."""

    # a path, or `@` and the name of an abstract socket (sd_notify(3))
    notify_socket: str | None = None
    # after so many seconds of silence it takes the service for hung
    # (sd_watchdog_enabled(3))
    watchdog_s: float | None = None


def service_manager(environ: Mapping[str, str] | None = None) -> ServiceManager:
    """Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID
    of `environ` (None: this process's own).

    A watchdog that is meant for another process, or that is no positive number, counts
    as none.
    """
    environ = os.environ if environ is None else environ
    microseconds = environ.get("WATCHDOG_USEC", "")
    is_ours = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    has_watchdog = (
        is_ours and microseconds.isascii() and microseconds.isdigit() and int(microseconds) > 0
    )
    return ServiceManager(
        notify_socket=environ.get("NOTIFY_SOCKET") or None,
        watchdog_s=int(microseconds) / 1e6 if has_watchdog else None,
    )
