"""Reports to the service manager how we are: ready, alive, stopping.

Knows its protocol and nothing of what is served.

The protocol is systemd's (sd_notify(3)): lines NAME=VALUE in one datagram to a Unix
socket.
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket

from appliance.settings.service_manager import ServiceManager

_log = logging.getLogger(__name__)
_STOP_MARGIN_S = 15  # beyond the drain, for the worker and the connections to end


class Notifier:
    """Every method does nothing where no service manager listens, and warns where it
    cannot be reached.
    """

    def __init__(self, manager: ServiceManager) -> None:
        self._address = manager.notify_socket
        self._watchdog_s = manager.watchdog_s

    def ready(self, status: str) -> None:
        """The start is over; `status` is one line for people."""
        self._send(f"READY=1\nSTATUS={_one_line(status)}")

    def stopping(self, drain_s: float) -> None:
        """The end has begun: answers in flight may take `drain_s` seconds, whatever the
        unit's own limit is.
        """
        limit_us = math.ceil((drain_s + _STOP_MARGIN_S) * 1e6)
        self._send(
            f"STOPPING=1\nSTATUS=Waiting for answers in progress\nEXTEND_TIMEOUT_USEC={limit_us}"
        )

    async def keep_alive(self) -> None:
        """Reports life twice per watchdog period until cancelled; returns at once where
        there is no watchdog.

        Runs on the event loop that it vouches for: a loop that hangs goes silent.
        """
        if self._watchdog_s is None:
            return
        while True:
            self._send("WATCHDOG=1")
            await asyncio.sleep(self._watchdog_s / 2)

    def _send(self, message: str) -> None:
        if self._address is None:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                # Never wait for a manager that does not read: serving comes first.
                sock.setblocking(False)
                sock.sendto(message.encode(), address)
        except OSError as error:
            _log.warning(
                "cannot send %r to the service manager at %s: %s", message, self._address, error
            )


def _one_line(text: str) -> str:
    return " ".join(text.split())
