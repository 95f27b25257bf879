"""Requests that are answered, and what of them reaches the model. Knows no parameter."""

from __future__ import annotations

from typing import Any

import httpx

from appliance.protocol.requests import GenerateRequest
from tests.api.scripted_client import ANSWER, ScriptedClient, http_around

HI = {"role": "user", "content": "hi"}
BODIES: dict[str, dict[str, Any]] = {  # by path below /v1
    "chat/completions": {"messages": [HI]},
    "completions": {"prompt": "a"},
    "responses": {"input": "hi"},
}


async def answered(path: str, body: dict[str, Any]) -> tuple[httpx.Response, GenerateRequest]:
    client = ScriptedClient(*ANSWER)
    async with http_around(client) as http:
        response = await http.post(f"/v1/{path}", json=body)
    assert response.status_code == 200, response.text
    return response, client.requests[0]
