"""An HTTP response in one piece whose computing ends when the client leaves.

Knows no wire format.

A client that stays but takes nothing is given up after the application's
`client_timeout_s`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from appliance.api.auto_route import route_headers
from appliance.api.transport.client_watch import impatient, unless_disconnected
from appliance.api.transport.completed_choice import ChoiceEvents, completed_choices
from appliance.api.transport.unenforced import unenforced_headers
from appliance.api.transport.wire_format import WireFormat, WireRecord

Computed = WireRecord | Sequence[WireRecord]


class ComputedResponse(Response):
    """`compute` gives the record to be sent; it is cancelled when the client leaves,
    and what it raises is raised.
    """

    # Like Starlette's own streaming responses it leaves out Response.__init__, which
    # wants a body at once.
    def __init__(self, compute: Callable[[], Awaitable[Computed]]) -> None:
        self.status_code = 200
        self.media_type = "application/json"
        self.background = None
        self.init_headers(None)
        self._compute = compute

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        timeout_s: float = scope["app"].state.client_timeout_s
        await unless_disconnected(receive, self._write(impatient(send, timeout_s)))

    async def _write(self, send: Send) -> None:
        body = msgspec.json.encode(await self._compute())
        headers = [*self.raw_headers, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})


class WholeResponse(ComputedResponse):
    """All choices, once they are complete."""

    def __init__(self, events: ChoiceEvents, wire_format: WireFormat) -> None:
        async def compute() -> Computed:
            choices = await completed_choices(events)
            self.headers.update(unenforced_headers(choices[0].unenforced))
            self.headers.update(route_headers(choices[0].route))
            return wire_format.whole(choices)

        super().__init__(compute)
