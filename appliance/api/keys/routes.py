"""GET and POST /keys, and what is done with one key: /keys/{name}, .../rotate, .../revoke.

Knows no file. Ours, not OpenAI's. Whoever makes keys needs one, an administrator's: where
no key is needed yet, the first one would shut everybody out, and so is made on the machine.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import Path
from starlette.responses import Response

from appliance.api.format_router import FormatRouter
from appliance.api.keys.fields import KeyTermsRequest, NewKeyRequest
from appliance.api.transport.caller import RequestCaller
from appliance.api.transport.record_response import RecordResponse
from appliance.errors import BadRequest, NotAllowed
from appliance.gateway.accounts.administration import KeyAdministration
from appliance.gateway.accounts.caller import ANONYMOUS, Caller
from appliance.gateway.accounts.key_description import KeyDescription
from appliance.gateway.accounts.key_records import no_key
from appliance.gateway.lifecycle import Gateway

KeyName = Annotated[str, Path(max_length=64)]


class ListedKey(KeyDescription, kw_only=True):
    """What was used is null where the server keeps no usage."""

    requests_today: int | None = None
    last_used_s: float | None = None


class KeyList(msgspec.Struct, kw_only=True):
    """`may_change`: whether whoever asks may make and change keys."""

    keys: list[ListedKey]
    may_change: bool


class NewKey(msgspec.Struct, kw_only=True):
    """The key itself, which is not to be had again."""

    name: str
    key: str


def key_routes(gateway: Gateway) -> FormatRouter:
    router = FormatRouter("keys")

    @router.get("/keys", response_class=Response, responses=router.returns(KeyList))
    async def keys(caller: RequestCaller) -> Response:
        """Terms, state and use of every key, revoked and expired ones too; who is no
        administrator sees its own. Tokens of the day are those that count for its limit; of a
        key without one, those of this server's usage.
        """
        found = await _records(gateway)
        own = [each for each in found if caller.is_admin or each.name == caller.id]
        return RecordResponse(KeyList(keys=own, may_change=_may_change(caller)))

    @router.post("/keys", response_class=Response, responses=router.returns(NewKey))
    async def create(request: NewKeyRequest, caller: RequestCaller) -> Response:
        """Makes a key, for administrators. It is shown in this response alone: only its hash is
        kept.
        """
        administration = _administration(gateway, caller)
        key = await administration.create(request.name, request.given())
        return RecordResponse(NewKey(name=request.name, key=key))

    @router.patch("/keys/{name}", response_class=Response, responses=router.returns(ListedKey))
    async def change(name: KeyName, request: KeyTermsRequest, caller: RequestCaller) -> Response:
        """Changes the terms that are sent and keeps the others, for administrators."""
        administration = _administration(gateway, caller)
        if not request.given():
            raise BadRequest("Send what is to change, such as 'tokens_per_day'.")
        await administration.change(name, request.given())
        return RecordResponse(await _record(gateway, name))

    @router.post("/keys/{name}/rotate", response_class=Response, responses=router.returns(NewKey))
    async def rotate(name: KeyName, caller: RequestCaller) -> Response:
        """Another key on the same terms, for administrators; the old one ends at once. One that
        was revoked counts again.
        """
        key = await _administration(gateway, caller).rotate(name)
        return RecordResponse(NewKey(name=name, key=key))

    @router.post(
        "/keys/{name}/revoke", response_class=Response, responses=router.returns(ListedKey)
    )
    async def revoke(name: KeyName, caller: RequestCaller) -> Response:
        """Ends a key, for administrators. It stays in the list, and its name is its own."""
        await _administration(gateway, caller).revoke(name)
        return RecordResponse(await _record(gateway, name))

    return router


def _may_change(caller: Caller) -> bool:
    return caller.is_admin and caller is not ANONYMOUS


def _administration(gateway: Gateway, caller: Caller) -> KeyAdministration:
    """Raises `NotAllowed` for everybody but administrators, and `Unauthorized` where the key
    has ended since the request began.
    """
    present = gateway.admission.present(caller)
    if present is ANONYMOUS:
        raise NotAllowed(
            "This server needs no key yet, and the first one shuts everybody else out. Make it on "
            "the machine: 'appliance keys create NAME --admin'."
        )
    if not _may_change(present):
        raise NotAllowed(
            "Keys are made and changed with an administrator's key, as 'appliance keys create NAME "
            "--admin' makes them."
        )
    if gateway.keys is None:
        raise NotAllowed("This server makes no keys.")
    return gateway.keys


async def _record(gateway: Gateway, name: str) -> ListedKey:
    found = [each for each in await _records(gateway) if each.name == name]
    if not found:
        raise no_key(name)
    return found[0]


async def _records(gateway: Gateway) -> list[ListedKey]:
    if gateway.keys is None:
        return []
    uses = None if gateway.usage is None else await gateway.usage.key_uses()
    records = []
    for described in await gateway.keys.descriptions():
        record = ListedKey(**msgspec.structs.asdict(described))
        if uses is not None:
            use = uses.get(record.name)
            record.requests_today = 0 if use is None else use.num_requests_today
            record.last_used_s = None if use is None else use.last_used_s
            if record.tokens_per_day is None and use is not None:
                record.tokens_today = use.num_tokens_today
        records.append(record)
    return records
