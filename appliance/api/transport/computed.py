"""An HTTP answer in one piece whose computing ends when the client leaves. Knows no wire format."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from appliance.api.transport.answer import impatient, unless_disconnected


class ComputedAnswer(Response):
    """`compute` gives the body, as JSON; it is cancelled when the client leaves, and
    what it raises is the answer's.
    """

    # Like Starlette's own streaming responses it leaves out Response.__init__, which
    # wants a body at once.
    def __init__(self, compute: Callable[[], Awaitable[bytes]]) -> None:
        self.status_code = 200
        self.media_type = "application/json"
        self.background = None
        self.init_headers(None)
        self._compute = compute

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        timeout_s: float = scope["app"].state.client_timeout_s
        await unless_disconnected(receive, self._write(impatient(send, timeout_s)))

    async def _write(self, send: Send) -> None:
        body = await self._compute()
        headers = [*self.raw_headers, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})
