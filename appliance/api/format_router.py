"""The routes of one wire format: how they take bodies, write errors and are described.

Knows no endpoint. Errors are OpenAI's unless a format says otherwise.
"""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import APIRouter
from starlette.routing import Route, WebSocketRoute

from appliance.api.description import Responses, error_responses, success_responses
from appliance.api.errors import ErrorShape, ErrorShapes
from appliance.api.openai.errors import OPENAI_ERRORS
from appliance.api.transport.body import StrictJsonRoute
from appliance.api.transport.streamed_response import SERVER_SENT_EVENTS, Framing
from appliance.api.transport.wire_format import EndMark


class FormatRouter(APIRouter):
    """`error_shape` is that of its routes and,
    where it has a `prefix`, of all paths below; with a `header` also of all requests that
    have it.
    """

    def __init__(
        self,
        tag: str,
        *,
        prefix: str = "",
        error_shape: ErrorShape = OPENAI_ERRORS,
        header: str = "",
        route_class: type[StrictJsonRoute] = StrictJsonRoute,
    ) -> None:
        super().__init__(
            prefix=prefix,
            tags=[tag],
            route_class=route_class,
            responses=error_responses(error_shape.record_type),
        )
        self.error_shape = error_shape
        self._header = header

    def returns(
        self,
        record: Any,
        *,
        stream: type[msgspec.Struct] | None = None,
        end_mark: EndMark | None = None,
        may_be_partial: bool = False,
        framing: Framing = SERVER_SENT_EVENTS,
    ) -> Responses:
        """For a route's `responses`; see `success_responses`."""
        return success_responses(
            record,
            error=self.error_shape.record_type,
            stream=stream,
            end_mark=end_mark,
            may_be_partial=may_be_partial,
            framing=framing,
        )

    def claim_paths(self, shapes: ErrorShapes) -> None:
        if self.prefix:
            shapes.claim(self.prefix, self.error_shape)
        if self._header:
            shapes.claim_header(self._header, self.error_shape)
            return
        for route in self.routes:
            if isinstance(route, Route | WebSocketRoute):
                static, _, _ = route.path.partition("{")
                shapes.claim(static, self.error_shape)
