"""Keys, limits and usage of several doors and their owner, without a network between."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import RateLimited, StorageFailed, Unauthorized
from appliance.fleet.serving.door_accounts import DoorAccounts, OwnerAway
from appliance.fleet.serving.owner import DoorReport, Owner, OwnerNews
from appliance.gateway.accounts.accounts import Accounts
from appliance.gateway.accounts.caller import Caller
from appliance.gateway.accounts.key_file import FileKeys
from appliance.gateway.usage.counts import Counts
from appliance.gateway.usage.keys import KeyUse
from appliance.gateway.usage.query import UsageQuery
from appliance.gateway.usage.report import UsageReport
from appliance.protocol.events import Finished, FinishReason, Usage
from appliance.protocol.requests import GenerateRequest, TokenPrompt

REQUEST = GenerateRequest(prompt=TokenPrompt([1] * 10), max_tokens=20)


class Line:
    """Implements `OwnerCalls`; it can be cut before the owner hears, or before it is heard."""

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.is_cut = self.loses_answers = False

    async def exchange(self, report: DoorReport) -> OwnerNews:
        if self.is_cut:
            raise OwnerAway("no line")
        news = await self.owner.exchange(report)
        if self.loses_answers:
            raise OwnerAway("the answer was lost")
        return news

    async def usage_report(self, query: UsageQuery) -> UsageReport:
        if self.is_cut:
            raise OwnerAway("no line")
        return await self.owner.usage_report(query)

    async def key_uses(self, now_s: float) -> dict[str, KeyUse]:
        return await self.owner.key_uses(now_s)


async def key_of(folder: Path, name: str, **terms: Any) -> str:
    accounts = Accounts(folder)
    made = await accounts.administration.create(name, terms)
    await accounts.close()
    return made


@asynccontextmanager
async def an_owner(folder: Path, file_keys: Sequence[bytes] = ()) -> AsyncGenerator[Owner, None]:
    owner = Owner(folder, file_keys)
    try:
        yield owner
    finally:
        await owner.close()


async def door(owner: Owner) -> tuple[DoorAccounts, Line]:
    line = Line(owner)
    made = DoorAccounts(line)
    await made.begin()
    return made, line


def answered(made: DoorAccounts, caller: Caller) -> None:
    """A request of 10 tokens, and 20 of its answer."""
    reservation = made.quotas.reserve(caller, REQUEST)
    assert reservation is not None
    with reservation as counted:
        counted.begun()
        usage = Usage(num_prompt_tokens=10, num_cached_tokens=0, num_completion_tokens=20)
        counted.event(Finished(request_id=0, reason=FinishReason.STOP, usage=usage))


async def enter(made: DoorAccounts, key: str) -> Caller:
    return await made.admission.authorize(f"Bearer {key}")


async def test_a_key_of_the_head_opens_every_door_and_none_is_open_without(tmp_path: Path) -> None:
    key = await key_of(tmp_path, "ann")
    async with an_owner(tmp_path) as owner:
        for _ in range(2):
            made, _ = await door(owner)
            assert (await enter(made, key)).id == "ann"
            with pytest.raises(Unauthorized):
                await made.admission.authorize(None)


async def test_keys_of_a_file_open_every_door(tmp_path: Path) -> None:
    file = tmp_path / "keys.txt"
    file.write_text("first-key\n")
    async with an_owner(tmp_path, FileKeys.from_file(file).digests) as owner:
        made, _ = await door(owner)
        assert (await enter(made, "first-key")).is_admin


async def test_requests_of_a_minute_are_counted_at_all_doors(tmp_path: Path) -> None:
    key = await key_of(tmp_path, "ann", requests_per_minute=3)
    async with an_owner(tmp_path) as owner:
        (one, _), (other, _) = await door(owner), await door(owner)
        caller = await enter(one, key)
        for _ in range(3):
            await other.exchange()
            answered(one, caller)
            await one.exchange()
        await other.exchange()
        with pytest.raises(RateLimited, match="3 requests a minute"):
            other.quotas.reserve(caller, REQUEST)


async def test_tokens_of_a_day_are_counted_at_all_doors_and_by_the_next_owner(
    tmp_path: Path,
) -> None:
    key = await key_of(tmp_path, "ann", tokens_per_day=70)
    async with an_owner(tmp_path) as owner:
        (one, _), (other, _) = await door(owner), await door(owner)
        caller = await enter(one, key)
        answered(one, caller)
        await one.exchange()
        await other.exchange()
        assert [each.left for each in other.quotas.standings(caller)] == [40]
        answered(other, await enter(other, key))
        await other.exchange()
        await one.exchange()
        assert [each.left for each in one.quotas.standings(caller)] == [10]
    async with an_owner(tmp_path) as owner:  # by then, all was written
        made, _ = await door(owner)
        caller = await enter(made, key)
        assert [(each.kind, each.left) for each in made.quotas.standings(caller)] == [
            ("tokens-day", 10)
        ]


async def test_requests_in_flight_elsewhere_count(tmp_path: Path) -> None:
    key = await key_of(tmp_path, "ann", concurrent_requests=1)
    async with an_owner(tmp_path) as owner:
        (one, _), (other, _) = await door(owner), await door(owner)
        caller = await enter(one, key)
        running = one.quotas.reserve(caller, REQUEST)
        assert running is not None
        await one.exchange()
        await other.exchange()
        with pytest.raises(RateLimited, match="1 requests in flight, and has 1"):
            other.quotas.reserve(caller, REQUEST)
        with running:
            pass
        await one.exchange()
        await other.exchange()
        answered(other, caller)


@pytest.mark.parametrize("fault", ["is_cut", "loses_answers"])
async def test_usage_is_told_once_whatever_the_line_does(tmp_path: Path, fault: str) -> None:
    async with an_owner(tmp_path) as owner:
        made, line = await door(owner)
        made.usage.add(1_800_000_000, "ann", "m", Counts(requests=1, prompt_tokens=7))
        setattr(line, fault, True)
        for _ in range(2):
            with pytest.raises(OwnerAway):
                await made.exchange()
        made.usage.add(1_800_000_001, "ann", "m", Counts(requests=1, prompt_tokens=5))
        setattr(line, fault, False)
        await made.exchange()
        await made.exchange()
        total = (await made.usage.report(UsageQuery())).total
        assert (total.requests, total.prompt_tokens) == (2, 12)


async def test_while_the_owner_is_away_usage_cannot_be_read_and_keys_stand(tmp_path: Path) -> None:
    key = await key_of(tmp_path, "ann")
    async with an_owner(tmp_path) as owner:
        made, line = await door(owner)
        line.is_cut = True
        with pytest.raises(OwnerAway):
            await made.exchange()
        with pytest.raises(StorageFailed, match="no line"):
            await made.usage.report(UsageQuery())
        assert (await enter(made, key)).id == "ann"
