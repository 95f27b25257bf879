"""A request together with what it continues: a stored response, a conversation, or
neither.

Knows no model and no events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NoReturn

import msgspec

from appliance.api.fields.chat_messages import MAX_MESSAGES
from appliance.api.openai.responses.request import ResponsesRequest
from appliance.api.openai.responses.stored_items import (
    StoredJson,
    read_items,
    shown_items,
    stored,
    stored_output,
)
from appliance.api.openai.responses.wire import ResponseRecord
from appliance.errors import BadRequest, NotFound, PreviousResponseNotFound
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.stored_responses.store import ResponseStore, StoredResponse

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode

NOTHING_IS_STORED = "This server stores no responses and no conversations (--store-responses off)."

_SEND_ALL = "Send all items again, without 'previous_response_id'."


def store_of(gateway: Gateway) -> ResponseStore:
    """Raises `NotFound` where nothing is stored."""
    if gateway.responses is None:
        raise NotFound(NOTHING_IS_STORED)
    return gateway.responses


@dataclass(frozen=True, kw_only=True)
class Turn:
    request: ResponsesRequest  # with all items, whoever sent them when
    earlier: Sequence[StoredJson] = ()  # of them, those from before this turn
    new: Sequence[StoredJson] = ()  # of this turn
    previous_id: str | None = None
    store: ResponseStore | None = field(default=None, repr=False)  # None: it is not stored
    owner: str = ""  # the caller's id

    @property
    def items(self) -> list[StoredJson]:
        return [*self.earlier, *self.new]

    @property
    def _conversation_id(self) -> str | None:
        conversation = self.request.conversation
        return None if conversation is None else conversation.id

    async def add(self, if_lost: ResponseRecord) -> None:
        """Has the response be there before it has ended; `if_lost`: what is true should
        it never end. Raises `StorageFailed`.
        """
        assert self.store is not None, "what is not stored does not run in the background"
        await self.store.add(self.owner, self._stored(if_lost, has_ended=False))

    def ended(self, record: ResponseRecord) -> None:
        """Keeps the response, if it is to be kept."""
        if self.store is None:
            return
        said = None
        if self._conversation_id is not None and record.status in ("completed", "incomplete"):
            said = [*stored(self.new), *stored_output(record.output)]
        self.store.save(self.owner, self._stored(record, has_ended=True), said)

    def _stored(self, record: ResponseRecord, *, has_ended: bool) -> StoredResponse:
        return StoredResponse(
            id=record.id,
            record=_encode(record),
            input_items=stored(self.new),
            previous_id=self.previous_id,
            earlier_items=() if self.previous_id is None else stored(self.earlier),
            conversation_id=self._conversation_id,
            has_ended=has_ended,
        )


async def turn_of(gateway: Gateway, owner: str, request: ResponsesRequest) -> Turn:
    """Reads what `request` continues. `owner`: the caller's id.

    Raises `BadRequest` and `NotFound`, and `StorageFailed`.
    """
    store = gateway.responses
    if request.previous_response_id is not None and request.conversation is not None:
        _refuse(
            "'conversation' cannot be combined with 'previous_response_id': send one of them.",
            "conversation",
        )
    if store is None and request.store is not False and request.conversation is not None:
        _refuse(NOTHING_IS_STORED, "conversation")
    if request.conversation is not None and request.store is False:
        _refuse("A conversation is stored: leave out 'store', or send all items yourself.", "store")
    earlier: list[StoredJson] = []
    if request.previous_response_id is not None:
        earlier = await _items_up_to(store, owner, request.previous_response_id)
    elif request.conversation is not None and store is not None:
        items = await store.items(owner, request.conversation.id)
        earlier = [_decode(item.content) for item in items]
    turn = with_earlier(request, earlier)
    is_stored = store is not None and request.store is not False
    return replace(
        turn,
        previous_id=request.previous_response_id,
        store=store if is_stored else None,
        owner=owner,
    )


def with_earlier(request: ResponsesRequest, earlier: Sequence[StoredJson]) -> Turn:
    """A turn that is not stored. Raises `BadRequest`."""
    own = request.items()
    if len(earlier) + len(own) > MAX_MESSAGES:
        _refuse(
            f"The conversation has {len(earlier) + len(own)} items, and at most {MAX_MESSAGES} are "
            "accepted: begin a new one with what is needed of it.",
            "input",
        )
    whole = request.model_copy(update={"input": [*read_items(earlier), *own]})
    return Turn(request=whole if earlier else request, earlier=earlier, new=shown_items(own))


def shown_history(turns: Sequence[StoredResponse]) -> list[StoredJson]:
    """All items that the last of these responses responds to."""
    before = [item for turn in turns[:-1] for item in _turn_items(turn)]
    return [*before, *_input_of(turns[-1])]


def _turn_items(turn: StoredResponse) -> list[StoredJson]:
    """What a stored response adds to those before it."""
    output: list[StoredJson] = _decode(turn.record)["output"]
    return [*_input_of(turn), *output]


def _input_of(turn: StoredResponse) -> list[StoredJson]:
    return [_decode(item.content) for item in turn.input_items]


async def _items_up_to(
    store: ResponseStore | None, owner: str, previous_id: str
) -> list[StoredJson]:
    if store is None:
        raise _not_found(previous_id, f"{NOTHING_IS_STORED} {_SEND_ALL}")
    try:
        turns = await store.history(owner, previous_id)
    except NotFound:
        raise _not_found(
            previous_id,
            f"It was not stored, was deleted, or is too old. {_SEND_ALL}",
        ) from None
    if not all(turn.has_ended for turn in turns):
        _refuse(
            f"The response '{previous_id[:100]}' has not ended yet, or was interrupted: there is "
            "nothing to continue.",
            "previous_response_id",
        )
    return [item for turn in turns for item in _turn_items(turn)]


def _not_found(previous_id: str, reason: str) -> PreviousResponseNotFound:
    return PreviousResponseNotFound(
        f"Previous response with id '{previous_id[:100]}' not found. {reason}",
        param="previous_response_id",
    )


def _refuse(message: str, param: str) -> NoReturn:
    raise BadRequest(message, param=param)
