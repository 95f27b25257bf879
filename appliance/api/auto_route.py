"""What answers say of the model `auto`: which one answered, and why. In headers, and in every
format that has a record of usage.

Knows no format and no model.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from appliance.protocol.events import Route, Usage

AUTO_MODEL_HEADER = "x-auto-model"
AUTO_REASON_HEADER = "x-auto-reason"
_MAX_CHARS = 1000


class AutoRecord(msgspec.Struct, kw_only=True):
    """Of a request for the model `auto`; nobody else's."""

    model: Annotated[str, Meta(description="That answered.")]
    score: Annotated[int, Meta(description="Of the request, out of 100.")]
    reason: Annotated[str, Meta(description="In words: what gave the score.")]
    asked: Annotated[list[str], Meta(description="All models that were asked, in their order.")]

    @classmethod
    def of(cls, usage: Usage) -> AutoRecord | UnsetType:
        """Left out where the request named its model."""
        route = usage.route
        if route is None:
            return UNSET
        return cls(model=route.model, score=route.score, reason=route.reason, asked=route.asked)


def route_headers(route: Route | None) -> dict[str, str]:
    """Printable ASCII alone, as headers are."""
    if route is None:
        return {}
    return {AUTO_MODEL_HEADER: _plain(route.model), AUTO_REASON_HEADER: _plain(route.reason)}


def _plain(text: str) -> str:
    return "".join(each if " " <= each <= "~" else "?" for each in text[:_MAX_CHARS])
