"""Which answers are kept, whose they are, and that a replay is the same answer again."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime

import msgspec
import pytest

from appliance.gateway.accounts.caller import Caller
from appliance.gateway.answer_cache.answers import AnswerCache
from appliance.gateway.router import ServedModel
from appliance.protocol.events import CacheUse, Delta, Event, Finished, Stages, Started
from appliance.protocol.requests import ChatPrompt, GenerateRequest, TextPrompt
from appliance.protocol.sampling import SamplingParams
from tests.api.scripted_client import ANSWER, CREATED, ScriptedClient
from tests.gateway.answer_cache.house import (
    KNOWN,
    client_of,
    entries_in_memory,
    repeating,
)

ANN, BOB = Caller("ann"), Caller("bob")
GREEDY = SamplingParams(temperature=0.0)
REQUEST = GenerateRequest(prompt=TextPrompt("Once"), sampling=GREEDY)
CHAT = GenerateRequest(
    prompt=ChatPrompt(messages=[{"role": "user", "content": "Hello"}]), sampling=GREEDY
)
MIDNIGHT = datetime(2026, 11, 30, 0, 0)  # noqa: DTZ001  # as local


class LocalTime:
    now = MIDNIGHT

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
async def cache() -> AsyncGenerator[AnswerCache, None]:
    cache = AnswerCache(entries_in_memory(), now=LocalTime())
    yield cache
    await cache.entries.close()


def served(client: ScriptedClient) -> ServedModel:
    return ServedModel(id="novels", client=client, created=CREATED)


async def answer(
    cache: AnswerCache,
    client: ScriptedClient,
    request: GenerateRequest = REQUEST,
    caller: Caller = ANN,
) -> list[Event]:
    events = cache.generate(caller, served(client), request, client.generate(request))
    return [event async for event in events]


def use_of(events: list[Event]) -> CacheUse:
    [started] = [event for event in events if isinstance(event, Started)]
    return started.cache


def unmarked(events: list[Event]) -> list[Event]:
    return [
        msgspec.structs.replace(event, cache=CacheUse.NONE)
        if isinstance(event, Started | Finished)
        else event
        for event in events
    ]


# --- hits -----------------------------------------------------------------------------


async def test_the_same_question_gets_the_same_events_and_asks_no_model(
    cache: AnswerCache,
) -> None:
    client = client_of()
    first = await answer(cache, client)
    second = await answer(cache, client)
    assert (use_of(first), use_of(second)) == (CacheUse.MISS, CacheUse.HIT)
    assert unmarked(first) == unmarked(second) == [*repeating()]
    assert len(client.requests) == 1


async def test_a_replay_took_no_time_of_the_models(cache: AnswerCache) -> None:
    stages = Stages(queue_ms=1.0, prefill_ms=2.0, decode_ms=3.0)
    end = msgspec.structs.replace(repeating()[-1], stages=stages)
    client = client_of(*ANSWER[:-1], end)
    await answer(cache, client)
    [*_, last] = await answer(cache, client)
    assert isinstance(last, Finished)
    assert last.stages == Stages(queue_ms=0.0, prefill_ms=0.0, decode_ms=0.0)
    assert last.stages.shares.total_ms == 0.0
    assert last.cache is CacheUse.HIT


@pytest.mark.parametrize(
    "other",
    [
        {"prompt": TextPrompt("Twice")},
        {"max_tokens": 7},
        {"stop": ["."]},
        {"reports_tokens": True},
        {"sampling": SamplingParams(temperature=0.0, num_top_logprobs=2)},
        {"sampling": SamplingParams(seed=1)},
    ],
)
async def test_another_question_is_another_one(cache: AnswerCache, other: object) -> None:
    client = client_of()
    await answer(cache, client)
    found = await answer(cache, client, msgspec.structs.replace(REQUEST, **other))
    assert use_of(found) is CacheUse.MISS


async def test_what_has_no_part_in_the_answer_makes_no_difference(cache: AnswerCache) -> None:
    client = client_of()
    await answer(cache, client)
    asked = msgspec.structs.replace(REQUEST, keep_alive_s=5.0, resume_id="x")
    assert use_of(await answer(cache, client, asked)) is CacheUse.HIT


async def test_a_hit_counts_as_use_of_its_model(cache: AnswerCache) -> None:
    client, stays = client_of(), []

    async def stay(keep_alive_s: float | None) -> None:
        stays.append(keep_alive_s)

    model = ServedModel(id="novels", client=client, created=CREATED, stay=stay)
    request = msgspec.structs.replace(REQUEST, keep_alive_s=7.0)
    for _ in range(2):
        events = cache.generate(ANN, model, request, client.generate(request))
        assert len([event async for event in events]) == len(ANSWER)
    assert stays == [7.0]


# --- whose they are -------------------------------------------------------------------


async def test_callers_have_their_own(cache: AnswerCache) -> None:
    client = client_of()
    await answer(cache, client)
    assert use_of(await answer(cache, client, caller=BOB)) is CacheUse.MISS
    assert use_of(await answer(cache, client, caller=BOB)) is CacheUse.HIT


async def test_unless_they_are_shared() -> None:
    cache, client = AnswerCache(entries_in_memory(), is_shared=True), client_of()
    await answer(cache, client)
    assert use_of(await answer(cache, client, caller=BOB)) is CacheUse.HIT
    await cache.entries.close()


# --- what is not kept -----------------------------------------------------------------


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingParams(),
        SamplingParams(temperature=0.0, xtc_probability=0.5),
        SamplingParams(temperature=0.0, dynatemp_range=0.5),
        SamplingParams(temperature=0.0, samplers=("top_k",)),
        SamplingParams(temperature=0.0, mirostat=2),
    ],
)
async def test_nobody_looks_where_chance_has_a_part(
    cache: AnswerCache, sampling: SamplingParams
) -> None:
    client, request = client_of(), msgspec.structs.replace(REQUEST, sampling=sampling)
    for _ in range(2):
        assert use_of(await answer(cache, client, request)) is CacheUse.NONE
    assert len(client.requests) == 2


async def test_nor_where_the_clock_ends_the_answer(cache: AnswerCache) -> None:
    client, request = client_of(), msgspec.structs.replace(REQUEST, max_text_ms=500)
    assert use_of(await answer(cache, client, request)) is CacheUse.NONE


async def test_nor_for_who_wants_nothing_of_a_cache(cache: AnswerCache) -> None:
    client = client_of()
    await answer(cache, client)
    request = msgspec.structs.replace(REQUEST, uses_cache=False)
    assert use_of(await answer(cache, client, request)) is CacheUse.NONE


async def test_an_answer_that_may_not_come_again_is_not_kept(cache: AnswerCache) -> None:
    client = client_of(*ANSWER)
    for _ in range(2):
        assert use_of(await answer(cache, client)) is CacheUse.MISS


async def test_half_an_answer_is_not_kept(cache: AnswerCache) -> None:
    client = client_of()
    computed = client.generate(REQUEST)
    async with aclosing(cache.generate(ANN, served(client), REQUEST, computed)) as events:
        assert isinstance(await anext(events), Started)
        assert isinstance(await anext(events), Delta)
    assert [event async for event in computed] == []  # it has been closed
    assert use_of(await answer(cache, client)) is CacheUse.MISS


async def test_a_long_answer_is_not_kept() -> None:
    cache = AnswerCache(entries_in_memory(max_bytes=1 << 20))
    long = Delta(request_id=1, text="x" * (128 << 10), num_tokens=1)
    client = client_of(ANSWER[0], long, repeating()[-1])
    for _ in range(2):
        assert use_of(await answer(cache, client)) is CacheUse.MISS
    await cache.entries.close()


async def test_what_no_worker_could_be_sent_is_left_to_it(cache: AnswerCache) -> None:
    prompt = ChatPrompt(messages=[{"role": "user", "content": "Hello"}], arguments={"x": 1 << 70})
    request = msgspec.structs.replace(REQUEST, prompt=prompt)
    assert use_of(await answer(cache, client_of(), request)) is CacheUse.NONE


# --- another model, another worker ----------------------------------------------------


async def test_another_file_or_kernel_answers_anew(cache: AnswerCache) -> None:
    client = client_of()
    await answer(cache, client)
    client.info = msgspec.structs.replace(KNOWN, fingerprint="another file")
    assert use_of(await answer(cache, client)) is CacheUse.MISS
    client.info = KNOWN
    assert use_of(await answer(cache, client)) is CacheUse.HIT


async def test_of_a_model_that_is_not_known_nothing_is_kept(cache: AnswerCache) -> None:
    client = client_of()
    client.info = msgspec.structs.replace(KNOWN, fingerprint="")
    for _ in range(2):
        assert use_of(await answer(cache, client)) is CacheUse.NONE


class Changing(ScriptedClient):
    """Is another model from its `change_at`-th event on, and none before its first."""

    def __init__(self, change_at: int) -> None:
        super().__init__(*repeating())
        self.info = None
        self._change_at = change_at

    async def generate(
        self, request: GenerateRequest, on_computed: object = None
    ) -> AsyncGenerator[Event, None]:
        at = 0
        async for event in super().generate(request):
            fingerprint = "b" if at >= self._change_at else "a"
            self.info = msgspec.structs.replace(KNOWN, fingerprint=fingerprint)
            at += 1
            yield event


async def test_a_model_that_is_loaded_for_it_is_known_by_then(cache: AnswerCache) -> None:
    client = Changing(change_at=99)
    assert use_of(await answer(cache, client)) is CacheUse.MISS
    assert use_of(await answer(cache, client)) is CacheUse.HIT


async def test_an_answer_that_another_worker_took_over_is_not_kept(cache: AnswerCache) -> None:
    client = Changing(change_at=3)
    await answer(cache, client)
    for fingerprint in ("a", "b"):
        client.info = msgspec.structs.replace(KNOWN, fingerprint=fingerprint)
        events = cache.generate(ANN, served(client), REQUEST, client_of().generate(REQUEST))
        assert use_of([event async for event in events]) is CacheUse.MISS


# --- templates that show the time -----------------------------------------------------


async def test_a_prompt_that_shows_the_day_is_another_one_tomorrow() -> None:
    time, client = LocalTime(), client_of()
    client.info = msgspec.structs.replace(KNOWN, clock_formats=["%d %b %Y"])
    cache = AnswerCache(entries_in_memory(), now=time)
    await answer(cache, client, CHAT)
    time.now = MIDNIGHT.replace(hour=23)
    assert use_of(await answer(cache, client, CHAT)) is CacheUse.HIT
    time.now = MIDNIGHT.replace(day=29)
    assert use_of(await answer(cache, client, CHAT)) is CacheUse.MISS
    await cache.entries.close()


async def test_at_midnight_it_is_not_kept() -> None:
    """Nobody knows on which day it was rendered."""
    moments = [MIDNIGHT.replace(day=29), MIDNIGHT]
    cache, client = AnswerCache(entries_in_memory(), now=lambda: moments.pop(0)), client_of()
    client.info = msgspec.structs.replace(KNOWN, clock_formats=["%d %b %Y"])
    assert use_of(await answer(cache, client, CHAT)) is CacheUse.NONE
    moments += [MIDNIGHT, MIDNIGHT]
    assert use_of(await answer(cache, client, CHAT)) is CacheUse.MISS
    await cache.entries.close()


async def test_nor_where_nobody_can_tell_what_it_shows(cache: AnswerCache) -> None:
    client = client_of()
    client.info = msgspec.structs.replace(KNOWN, clock_formats=None)
    for _ in range(2):
        assert use_of(await answer(cache, client, CHAT)) is CacheUse.NONE
    await answer(cache, client)
    assert use_of(await answer(cache, client)) is CacheUse.HIT  # no template


# --- replays that are left ------------------------------------------------------------


async def test_a_replay_goes_on_where_it_was_left(cache: AnswerCache) -> None:
    client = client_of()
    await answer(cache, client)
    request = msgspec.structs.replace(REQUEST, resume_id="x")
    seen = []
    async with aclosing(
        cache.generate(ANN, served(client), request, client.generate(request))
    ) as events:
        seen += [await anext(events), await anext(events)]
    resumed = cache.resume("x")
    assert resumed is not None
    async with aclosing(resumed):
        seen.append(await anext(resumed))
    assert cache.resume("y") is None
    resumed = cache.resume("x")
    assert resumed is not None
    seen += [event async for event in resumed]
    assert unmarked(seen) == [*repeating()]
    assert cache.resume("x") is None
    assert len(client.requests) == 1


async def test_one_that_is_forgotten_does_not(cache: AnswerCache) -> None:
    client = client_of()
    await answer(cache, client)
    request = msgspec.structs.replace(REQUEST, resume_id="x")
    async with aclosing(
        cache.generate(ANN, served(client), request, client.generate(request))
    ) as events:
        await anext(events)
    cache.forget("x")
    assert cache.resume("x") is None
