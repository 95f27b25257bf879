"""Requests to /v1/messages of a scripted model, and what comes of them. Knows no field."""

from __future__ import annotations

import json
from typing import Any

import httpx

from appliance.protocol.requests import ChatPrompt, GenerateRequest
from tests.api.scripted_client import ANSWER, ScriptedClient, http_around

HI = {"role": "user", "content": "Hi"}


async def post(client: ScriptedClient, **fields: Any) -> httpx.Response:
    async with http_around(client) as http:
        body = {"model": "novels", "max_tokens": 9, "messages": [HI], **fields}
        return await http.post("/v1/messages", json=body)


async def asked(**fields: Any) -> GenerateRequest:
    """What reaches the model."""
    client = ScriptedClient(*ANSWER)
    response = await post(client, **fields)
    assert response.status_code == 200, response.text
    return client.requests[0]


async def shown(**fields: Any) -> list[dict[str, Any]]:
    """The messages that its template reads."""
    prompt = (await asked(**fields)).prompt
    assert isinstance(prompt, ChatPrompt)
    return prompt.messages


async def answered(*steps: Any, **fields: Any) -> dict[str, Any]:
    answer: dict[str, Any] = (await post(ScriptedClient(*steps), **fields)).json()
    return answer


async def streamed(*steps: Any, **fields: Any) -> list[dict[str, Any]]:
    """The events, each named by its type."""
    text = (await post(ScriptedClient(*steps), stream=True, **fields)).text
    events = []
    for frame in text.split("\n\n")[:-1]:
        name, data = frame.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    return events


async def refused(**fields: Any) -> str:
    """The message of a 400."""
    client = ScriptedClient(*ANSWER)
    response = await post(client, **fields)
    body = response.json()
    assert (response.status_code, client.requests) == (400, [])
    assert (body["type"], body["error"]["type"]) == ("error", "invalid_request_error")
    assert response.headers["request-id"] == body["request_id"]
    message: str = body["error"]["message"]
    return message
