"""/slots: llama-server's shape, of what the last heartbeat told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx

from appliance.protocol.health import Heartbeat, Slot, WorkerHealth
from tests.api.scripted_client import ScriptedClient, http_around

PREFILLING = Slot(
    id=1,
    request_id=70,
    state="prefill",
    num_prompt_tokens=100,
    num_prefilled_tokens=60,
    num_cached_tokens=40,
    num_new_tokens=0,
    max_new_tokens=16,
)
DECODING = Slot(
    id=3,
    request_id=71,
    state="decode",
    num_prompt_tokens=5,
    num_prefilled_tokens=5,
    num_cached_tokens=0,
    num_new_tokens=7,
    max_new_tokens=50,
)


class BeatingClient(ScriptedClient):
    def __init__(self, *slots: Slot, beats: bool = True) -> None:
        super().__init__()
        self._beat = (
            Heartbeat(
                num_running=len(slots),
                num_waiting=0,
                num_steps=9,
                num_used_cells=100,
                step_age_s=0.0,
                slots=[*slots],
            )
            if beats
            else None
        )

    def health(self) -> WorkerHealth:
        return replace(super().health(), heartbeat=self._beat)


async def get(client: ScriptedClient, **params: str) -> httpx.Response:
    async with http_around(client) as http:
        return await http.get("/slots", params=params)


async def test_idle_and_busy_slots() -> None:
    client = BeatingClient(PREFILLING, DECODING)
    idle: dict[str, Any] = {
        "id_task": -1,
        "n_ctx": 2048,
        "speculative": False,
        "is_processing": False,
        "state": "idle",
    }
    busy = {**idle, "is_processing": True}
    assert (await get(client, model="novels")).json() == [
        {"id": 0, **idle},
        {
            **busy,
            "id": 1,
            "id_task": 70,
            "state": "prefill",
            "params": {"n_predict": 16},
            "n_prompt_tokens": 100,
            "n_prompt_tokens_processed": 20,
            "n_prompt_tokens_cache": 40,
            "next_token": {"has_next_token": True, "n_remain": 16, "n_decoded": 0},
        },
        {"id": 2, **idle},
        {
            **busy,
            "id": 3,
            "id_task": 71,
            "state": "decode",
            "params": {"n_predict": 50},
            "n_prompt_tokens": 5,
            "n_prompt_tokens_processed": 5,
            "n_prompt_tokens_cache": 0,
            "next_token": {"has_next_token": True, "n_remain": 43, "n_decoded": 7},
        },
    ]
    assert client.questions == [], "nobody is asked, so nobody waits"


async def test_before_the_first_heartbeat_all_are_idle() -> None:
    assert [slot["state"] for slot in (await get(BeatingClient(beats=False))).json()] == [
        "idle"
    ] * 4


async def test_a_model_that_is_not_loaded_has_none_and_stays_so() -> None:
    client = BeatingClient(beats=False)
    client.info = None
    assert (await get(client)).json() == []
    assert (await get(client, fail_on_no_slot="1")).status_code == 503


async def test_no_free_slot_is_503_for_who_asks() -> None:
    full = BeatingClient(
        *(
            Slot(
                id=at,
                request_id=at,
                state="decode",
                num_prompt_tokens=1,
                num_prefilled_tokens=1,
                num_cached_tokens=0,
                num_new_tokens=1,
                max_new_tokens=2,
            )
            for at in range(4)
        )
    )
    response = await get(full, fail_on_no_slot="1")
    assert (response.status_code, response.json()["error"]["code"]) == (503, 503)
    assert (await get(full)).status_code == 200
    assert (await get(BeatingClient(DECODING), fail_on_no_slot="1")).status_code == 200


async def test_an_unknown_model_is_named() -> None:
    assert (await get(BeatingClient(), model="nobody")).status_code == 404
