"""What SIGTERM and SIGINT do: before the event loop runs, and while it does.

Knows no model and no socket.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from types import FrameType

from appliance.gateway.lifecycle import Gateway

_log = logging.getLogger(__name__)


class StopSignal(BaseException):
    """SIGTERM or SIGINT, while nothing runs yet that could be ended in a better way."""


def raise_on_stop_signals() -> None:
    """Until the event loop sets its own handlers, a stop ends whatever is going on, so
    that children are ended too.
    """

    def stop(_number: int, _frame: FrameType | None) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            # asked once: the clean-up itself is not to be interrupted
            signal.signal(number, signal.SIG_IGN)
        raise StopSignal

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def on_stop_signal(stop: asyncio.Event, gateway: Gateway, delay_s: float) -> None:
    """Drains, where `delay_s` is not 0 so much later (whoever awaits `stop` sees to it)
    and announced by /health until then; asked twice, it waits for nobody.
    """
    if stop.is_set():
        # The worker sees its channel close, and ends.
        _log.warning("stopping immediately")
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)
    if delay_s > 0:
        _log.info("stopping: /health says so, and in %g s new requests are refused", delay_s)
        gateway.announce_end()
    else:
        _log.info("stopping: waiting for answers in progress (%d)", gateway.num_requests)
        gateway.begin_drain()
    stop.set()
