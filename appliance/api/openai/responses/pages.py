"""Lists of items, a page at a time. Knows no store.

Source: https://platform.openai.com/docs/api-reference/responses/input-items
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from fastapi import Depends, Query

from appliance.api.openai.responses.stored_items import StoredJson
from appliance.errors import BadRequest

_MAX_ITEMS = 100
_DEFAULT_ITEMS = 20


class ItemList(msgspec.Struct, kw_only=True):
    object: Literal["list"] = "list"
    data: list[Any]
    first_id: str | None
    last_id: str | None
    has_more: bool


@dataclass(frozen=True, kw_only=True)
class Page:
    """Which items are wanted."""

    order: Literal["asc", "desc"]
    limit: int
    after: str | None

    def of(self, items: Sequence[StoredJson]) -> ItemList:
        """`items`: all, the first one first. Raises `BadRequest` where `after` is none of
        them.
        """
        ordered = [*items] if self.order == "asc" else [*reversed(items)]
        start = 0
        if self.after is not None:
            ids = [item["id"] for item in ordered]
            if self.after not in ids:
                raise BadRequest(
                    f"There is no item with id '{self.after[:100]}' in the list.", param="after"
                )
            start = ids.index(self.after) + 1
        return item_list(ordered[start : start + self.limit], len(ordered) > start + self.limit)


def item_list(items: Sequence[StoredJson], has_more: bool = False) -> ItemList:
    return ItemList(
        data=[*items],
        first_id=items[0]["id"] if items else None,
        last_id=items[-1]["id"] if items else None,
        has_more=has_more,
    )


async def _page(
    order: Literal["asc", "desc"] = "desc",
    limit: Annotated[int, Query(ge=1, le=_MAX_ITEMS)] = _DEFAULT_ITEMS,
    after: Annotated[str | None, Query(max_length=256)] = None,
) -> Page:
    """A dependency; async, for FastAPI would call a plain function in a thread."""
    return Page(order=order, limit=limit, after=after)


RequestedPage = Annotated[Page, Depends(_page)]
