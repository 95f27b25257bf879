"""The requests that a worker has been sent and has not ended: whose event goes where.

Knows no process and no wire format.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from appliance.errors import ApplianceError
from appliance.protocol.events import Failed, Finished, Message
from appliance.worker.mailbox import Mailbox


class InFlight:
    """A mailbox for each request, by its id, and who is told that nothing is computed
    for it any more: once.
    """

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._mailboxes: dict[int, Mailbox] = {}
        self._listeners: dict[int, Callable[[], None]] = {}

    def open(self, on_computed: Callable[[], None]) -> tuple[int, Mailbox]:
        """For a new request, which gets an id that no other one has had."""
        request_id = next(self._ids)
        mailbox = self._mailboxes[request_id] = Mailbox()
        self._listeners[request_id] = on_computed
        return request_id, mailbox

    def close(self, request_id: int) -> None:
        """Nobody reads its events any more; unknown ids are ignored."""
        self._mailboxes.pop(request_id, None)
        self._tell(request_id)

    def deliver(self, event: Message) -> bool:
        """False: its reader is too slow, and the request has ended for it."""
        mailbox = self._mailboxes.get(event.request_id)
        if isinstance(event, Finished | Failed):
            self._tell(event.request_id)
        # None: cancelled here while the event was on its way.
        if mailbox is None or mailbox.put(event):
            return True
        self.close(event.request_id)
        return False

    def end_all(self, error: Callable[[], ApplianceError]) -> None:
        """Each request gets an error of its own."""
        for mailbox in self._mailboxes.values():
            mailbox.put(error())
        self._mailboxes.clear()
        for request_id in [*self._listeners]:
            self._tell(request_id)

    def _tell(self, request_id: int) -> None:
        if (on_computed := self._listeners.pop(request_id, None)) is not None:
            on_computed()
