"""Responses in the background, with OpenAI's client: asked for, followed, cancelled,
deleted, and what is left of them when the server is stopped.
"""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest

from appliance.api.openai.responses import background, event_log
from appliance.errors import QueueFull, WorkerLost
from appliance.gateway.stored_responses.database_store import DatabaseStore
from tests.api.scripted_client import ANSWER, ScriptedClient
from tests.api.stored_responses.conftest import ApiTo

ASKED: dict[str, Any] = {"model": "novels", "input": "Hello", "background": True}


async def ended(api: openai.AsyncOpenAI, response_id: str) -> Any:
    """As clients poll, but without their pauses."""
    while (response := await api.responses.retrieve(response_id)).status in (
        "queued",
        "in_progress",
    ):
        await asyncio.sleep(0)
    return response


async def test_it_is_asked_for_until_it_has_ended(api_to: ApiTo) -> None:
    gate = asyncio.Event()
    client = ScriptedClient(*ANSWER[:2], gate, *ANSWER[2:])
    async with api_to(client) as api:
        asked = await api.responses.create(**ASKED)
        assert (asked.status, asked.background, asked.output) == ("queued", True, [])
        await client.reached_wait.wait()
        running = await api.responses.retrieve(asked.id)
        assert (running.status, running.output_text) == ("in_progress", "It was")
        gate.set()
        whole = await ended(api, asked.id)
        assert (whole.id, whole.status, whole.output_text) == (
            asked.id,
            "completed",
            "It was a café…",
        )
        # and it is continued like any other
        second = await api.responses.create(
            model="novels", input="And?", previous_response_id=asked.id
        )
        assert second.output_text == "It was a café…"


async def test_one_that_has_not_ended_is_not_continued(api_to: ApiTo) -> None:
    client = ScriptedClient(*ANSWER[:2], asyncio.Event(), *ANSWER[2:])
    async with api_to(client) as api:
        asked = await api.responses.create(**ASKED)
        with pytest.raises(openai.BadRequestError, match="has not ended yet") as refused:
            await api.responses.create(model="novels", input="A", previous_response_id=asked.id)
        assert refused.value.param == "previous_response_id"
        await api.responses.cancel(asked.id)


async def test_it_is_cancelled_and_its_slot_is_free(api_to: ApiTo) -> None:
    client = ScriptedClient(*ANSWER[:2], asyncio.Event(), *ANSWER[2:])
    async with api_to(client) as api:
        asked = await api.responses.create(**ASKED)
        await client.reached_wait.wait()
        cancelled = await api.responses.cancel(asked.id)
        assert client.closed.is_set()
        assert (cancelled.status, cancelled.output_text) == ("cancelled", "It was")
        assert cancelled.output[0].status == "incomplete"  # type: ignore[union-attr]
        assert await api.responses.cancel(asked.id) == cancelled
        assert await api.responses.retrieve(asked.id) == cancelled


async def test_only_what_runs_in_the_background_is_cancelled(api_to: ApiTo) -> None:
    async with api_to(ScriptedClient(*ANSWER)) as api:
        whole = await api.responses.create(model="novels", input="Hello")
        with pytest.raises(openai.BadRequestError, match="created with 'background'"):
            await api.responses.cancel(whole.id)
        done = await ended(api, (await api.responses.create(**ASKED)).id)
        assert (await api.responses.cancel(done.id)).status == "completed"


async def test_what_fails_is_failed(api_to: ApiTo) -> None:
    for steps, code in (
        ((QueueFull("full"),), "queue_full"),
        ((*ANSWER[:2], WorkerLost("gone")), "worker_lost"),
        ((ZeroDivisionError(),), "internal_error"),
    ):
        async with api_to(ScriptedClient(*steps)) as api:
            response = await ended(api, (await api.responses.create(**ASKED)).id)
        assert (response.status, response.error.code) == ("failed", code)


async def test_what_the_request_has_wrong_is_said_at_once(api_to: ApiTo) -> None:
    client = ScriptedClient(*ANSWER)
    async with api_to(client) as api:
        for fields, param in (
            ({"store": False}, "background"),
            ({"temperature": 9}, "temperature"),
            ({"tool_choice": "required"}, "tool_choice"),
        ):
            with pytest.raises(openai.BadRequestError) as refused:
                await api.responses.create(**{**ASKED, **fields})
            assert refused.value.param == param
        with pytest.raises(openai.NotFoundError):
            await api.responses.create(**{**ASKED, "model": "other"})
    assert client.requests == []


async def test_its_events_are_followed_from_any_of_them(api_to: ApiTo) -> None:
    gate = asyncio.Event()
    client = ScriptedClient(*ANSWER[:2], gate, *ANSWER[2:])
    async with api_to(client) as api:
        first = await api.responses.create(**ASKED, stream=True)
        heard = [await anext(first) for _ in range(6)]
        await first.close()
        assert [event.type for event in heard[:3]] == [
            "response.created",
            "response.queued",
            "response.in_progress",
        ]
        response_id = heard[0].response.id
        last = heard[-1].sequence_number
        second = await api.responses.retrieve(response_id, stream=True, starting_after=last)
        gate.set()
        heard += [event async for event in second]
        assert [event.sequence_number for event in heard] == [*range(len(heard))]
        assert heard[-1].type == "response.completed"
        assert "".join(event.delta for event in heard if event.type.endswith(".delta")) == (
            "It was a café…"
        )
        # once it has ended too
        again = await api.responses.retrieve(response_id, stream=True)
        assert [event.to_dict() async for event in again] == [event.to_dict() for event in heard]
        nothing = await api.responses.retrieve(
            response_id, stream=True, starting_after=heard[-1].sequence_number
        )
        assert [event async for event in nothing] == []
        with pytest.raises(openai.BadRequestError, match="starting_after"):
            await api.responses.retrieve(response_id, stream=True, starting_after=2**63 - 1)


async def test_events_that_are_not_kept_any_more_are_not_made_up(
    api_to: ApiTo, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = asyncio.Event()
    async with api_to(ScriptedClient(*ANSWER[:2], gate, *ANSWER[2:])) as api:
        stream = await api.responses.create(**ASKED, stream=True)
        response_id = (await anext(stream)).response.id
        await stream.close()
        monkeypatch.setattr(event_log, "MAX_BYTES", 2000)
        gate.set()
        await ended(api, response_id)
        with pytest.raises(openai.APIStatusError, match="Event 0 is not kept any more") as gone:
            await api.responses.retrieve(response_id, stream=True)
        assert gone.value.status_code == 410
        last = await api.responses.retrieve(response_id, stream=True, starting_after=9)
        assert [event.type async for event in last] == ["response.completed"]


async def test_only_so_many_run_at_once(api_to: ApiTo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "MAX_UNFINISHED", 6)
    gate = asyncio.Event()
    client = ScriptedClient(*ANSWER[:1], gate, *ANSWER[1:])
    async with api_to(client) as api:
        ids = [(await api.responses.create(**ASKED)).id for _ in range(6)]
        with pytest.raises(openai.RateLimitError, match="6 responses run or wait"):
            await api.responses.create(**ASKED)
        states = [(await api.responses.retrieve(each)).status for each in ids]
        assert states == [*["in_progress"] * 4, *["queued"] * 2]
        assert len(client.requests) == 4
        assert (await api.responses.cancel(ids[4])).status == "cancelled"
        gate.set()
        assert [(await ended(api, each)).status for each in ids] == [
            *["completed"] * 4, "cancelled", "completed"
        ]  # fmt: skip
    assert len(client.requests) == 5


async def test_one_that_is_deleted_ends_and_does_not_come_back(api_to: ApiTo) -> None:
    client = ScriptedClient(*ANSWER[:2], asyncio.Event(), *ANSWER[2:])
    async with api_to(client) as api:
        asked = await api.responses.create(**ASKED)
        await client.reached_wait.wait()
        await api.responses.delete(asked.id)
        assert client.closed.is_set()
        with pytest.raises(openai.NotFoundError):
            await api.responses.retrieve(asked.id)


async def test_the_last_ones_alone_are_kept_with_their_events(
    api_to: ApiTo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "_MAX_ENDED", 1)
    async with api_to(ScriptedClient(*ANSWER)) as api:
        ids = []
        for _ in range(2):
            stream = await api.responses.create(**ASKED, stream=True)
            ids.append([event async for event in stream][-1].response.id)
        with pytest.raises(openai.BadRequestError, match="events of this response"):
            await api.responses.retrieve(ids[0], stream=True)
        assert (await api.responses.retrieve(ids[0])).status == "completed"
        events = await api.responses.retrieve(ids[1], stream=True)
        assert len([event async for event in events]) > 3


async def test_a_server_that_was_stopped_leaves_a_failure_and_no_promise(
    api_to: ApiTo, store: DatabaseStore
) -> None:
    client = ScriptedClient(*ANSWER[:2], asyncio.Event(), *ANSWER[2:])
    async with api_to(client) as api:
        asked = await api.responses.create(**ASKED)
        await client.reached_wait.wait()
    # another application with the same store is what a restart is
    async with api_to(ScriptedClient(*ANSWER)) as api:
        lost = await api.responses.retrieve(asked.id)
        assert (lost.status, lost.output) == ("failed", [])
        assert lost.error is not None
        assert (lost.error.code, "was stopped" in lost.error.message) == ("server_stopped", True)
        with pytest.raises(openai.BadRequestError, match="or was interrupted"):
            await api.responses.create(model="novels", input="A", previous_response_id=asked.id)
        assert (await api.responses.cancel(asked.id)).status == "failed"
