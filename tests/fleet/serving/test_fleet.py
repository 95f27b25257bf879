"""A real fleet: Ray Serve on three machines, each with a door and a replica.

The machines are network namespaces. What many faults do to many requests is in
`bench/fleet/faults.py`, which is the full form of the last tests here.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import aclosing

import httpx
import pytest

from tests.fleet.serving.load import ANSWERED, BROKEN, REFUSED, Load, Outcomes
from tests.fleet.serving.machines import ROOT, Fleet, Machine

pytestmark = pytest.mark.timeout(900)
BODY = {"prompt": "Once upon a time", "max_tokens": 12, "temperature": 0, "ignore_eos": True}


async def during(load: Load, num_before: int, act: Callable[[], object]) -> Outcomes:
    """Does `act` once so many requests have ended."""
    running = asyncio.create_task(load.run())
    while load.num_done < num_before and not running.done():
        await asyncio.sleep(0.02)
    await asyncio.to_thread(act)
    return await running


def complete(machine: Machine, **fields: object) -> httpx.Response:
    return httpx.post(f"{machine.url}/v1/completions", json={**BODY, **fields}, timeout=60)


def keys(fleet: Fleet, *arguments: str) -> str:
    """What `appliance keys` says on the head."""
    command = [sys.executable, "-m", "appliance", "keys", *arguments]
    command += ["--state-dir", str(fleet.head.state_dir)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout


def test_every_machine_answers_alike(fleet: Fleet) -> None:
    responses = [complete(machine) for machine in fleet.machines]
    assert len({each.json()["choices"][0]["text"] for each in responses}) == 1
    assert [len(each.headers.get_list("x-request-id")) for each in responses] == [1, 1, 1]


def test_several_answers_to_one_request_all_come(fleet: Fleet) -> None:
    prompts = ["It was a dark night", "Once upon a time", "The river"]
    alone = [complete(fleet.head, prompt=prompt).json()["choices"][0]["text"] for prompt in prompts]
    for machine in fleet.machines * 3:
        choices = complete(machine, prompt=prompts, n=2).json()["choices"]
        assert [each["text"] for each in choices] == [text for text in alone for _ in range(2)]


def test_a_stream_comes_in_pieces(fleet: Fleet) -> None:
    with httpx.stream(
        "POST", f"{fleet.machines[1].url}/v1/completions", json={**BODY, "stream": True}, timeout=60
    ) as response:
        lines = [line for line in response.iter_lines() if line]
    texts = [json.loads(line[6:])["choices"][0]["text"] for line in lines[:-1]]
    assert lines[-1] == "data: [DONE]"
    assert "".join(texts) == complete(fleet.machines[0]).json()["choices"][0]["text"]
    assert sum(map(bool, texts)) > 2


def test_the_list_of_models_tells_each_replica_and_its_plan(fleet: Fleet) -> None:
    record = httpx.get(f"{fleet.machines[2].url}/v1/models").json()["data"][0]
    assert (record["id"], record["state"], record["slots"]) == ("novels-6m", "ready", 12)
    assert [each["quantization"] for each in record["replicas"]] == ["Q8_0"] * 3
    assert all(each["choice"].startswith("Q8_0, context 2048") for each in record["replicas"])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"prompt": "night " * 3000}, "maximum context length is 2048 tokens"),
        ({"temperature": -1}, "temperature"),
        ({"model": "nobody"}, "is not served here"),
    ],
)
def test_what_is_wrong_is_said_as_by_a_server(
    fleet: Fleet, fields: dict[str, object], words: str
) -> None:
    response = complete(fleet.machines[1], **fields)
    assert response.status_code in (400, 404)
    assert words in response.json()["error"]["message"]


async def test_a_client_that_leaves_frees_its_slot(fleet: Fleet) -> None:
    url = f"{fleet.head.url}/v1/completions"
    async with httpx.AsyncClient(timeout=60) as http:
        for _ in range(12):  # as many as all replicas have slots
            async with (
                http.stream(
                    "POST", url, json={**BODY, "max_tokens": 1500, "stream": True}
                ) as response,
                aclosing(response.aiter_lines()) as lines,
            ):
                await anext(lines)
        began_s = time.monotonic()
        answer = await http.post(url, json=BODY)
    assert answer.status_code == 200
    # one answer of 1,500 tokens takes longer than that, and twelve were begun
    assert answer.json()["usage"]["completion_tokens"] == 12
    assert began_s > 0


async def test_chats_stay_where_they_were_computed(fleet: Fleet) -> None:
    """The next turn of each of five chats."""
    cached = []
    async with httpx.AsyncClient(timeout=120) as http:
        for number in range(5):
            text = f"Chapter {number}. " + f"The house of number {number} stood by the sea. " * 30
            for turn in range(2):
                body = {**BODY, "prompt": text + "And then " * turn}
                answer = await http.post(f"{fleet.head.url}/v1/completions", json=body)
                usage = answer.json()["usage"]
                if turn:
                    cached.append(
                        usage["prompt_tokens_details"]["cached_tokens"] / usage["prompt_tokens"]
                    )
    assert min(cached) > 0.9


# --- faults ---------------------------------------------------------------------------


async def test_a_machine_that_dies_costs_its_own_streams_alone(fleet: Fleet) -> None:
    victim = fleet.machines[2]
    found = await during(Load([fleet.head.url], 60, 6), 15, victim.kill)
    assert found.counts[BROKEN] == 0, found.errors
    # of six at once three are streams, and only those that the machine had begun are lost
    assert found.counts[REFUSED] <= 3, found.errors
    assert found.counts[ANSWERED] + found.counts[REFUSED] == 60
    assert all(len(texts) == 1 for texts in found.texts.values())
    fleet.start(victim)
    await asyncio.to_thread(fleet.await_replicas, 3)
    assert complete(victim).status_code == 200


async def test_nobody_notices_a_cable_that_was_out_for_5_seconds(fleet: Fleet) -> None:
    victim = fleet.machines[2]

    def pull() -> None:
        victim.pull_cable()
        time.sleep(5)
        victim.plug_cable()

    found = await during(Load([fleet.head.url], 40, 6), 10, pull)
    assert (found.counts[ANSWERED], found.errors) == (40, {})


async def test_nobody_waits_for_a_replica_that_hangs(fleet: Fleet) -> None:
    victim = fleet.machines[1]
    found = await during(
        Load([fleet.head.url], 60, 6), 15, lambda: victim.signal("Replica", signal.SIGSTOP)
    )
    victim.signal("", signal.SIGCONT)
    assert found.counts[BROKEN] == 0, found.errors
    assert found.counts[REFUSED] <= 3, found.errors
    await asyncio.to_thread(fleet.await_replicas, 3)


async def test_answers_go_on_while_the_head_is_started_anew(fleet: Fleet) -> None:
    def restart() -> None:
        fleet.head.kill()
        fleet.start(fleet.head)

    found = await during(Load([fleet.machines[1].url], 100, 6), 15, restart)
    assert found.counts[BROKEN] == 0, found.errors
    assert found.counts[REFUSED] <= 3, found.errors
    await asyncio.to_thread(fleet.await_replicas, 3)
    assert complete(fleet.head).status_code == 200


# --- keys: behind everything else, for from the first key on nobody is let in without one ---


def test_a_key_and_its_limits_hold_at_every_door(fleet: Fleet) -> None:
    """What is taken at one door is missing at the others, a second or two later."""
    key = keys(fleet, "create", "ann", "--tokens-per-day", "60").split()[-1]
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(timeout=60, headers=headers) as http:
        left = []
        for machine in fleet.machines:  # each takes 5 tokens of a prompt and 12 of an answer
            until_left(http, fleet, 60 - 17 * len(left))
            answer = http.post(f"{machine.url}/v1/completions", json=BODY)
            left.append(answer.json()["usage"]["total_tokens"])
        until_left(http, fleet, 60 - 17 * 3)
        refused = [
            http.post(f"{machine.url}/v1/completions", json=BODY) for machine in fleet.machines
        ]
        usage = http.get(f"{fleet.head.url}/usage?by=key").json()
    assert left == [17] * 3
    assert [each.status_code for each in refused] == [429] * 3
    assert "9 are left until 00:00 UTC" in refused[0].json()["error"]["message"]
    assert complete(fleet.head).status_code == 401
    assert usage["total"]["completion_tokens"] == 36


def until_left(http: httpx.Client, fleet: Fleet, num: int) -> None:
    """Until every door says that the key has so many tokens left today."""
    for machine in fleet.machines:
        while True:
            response = http.get(f"{machine.url}/v1/models")
            if response.headers.get("x-ratelimit-remaining-tokens-day") == str(num):
                break
            time.sleep(0.1)
