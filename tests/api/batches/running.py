"""A server with files and batches around a scripted model, and its lines.

Knows no expectations: those are in the tests.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
from openai.types import Batch

from appliance.api.app import create_app
from appliance.gateway.batches.batches import open_batches
from appliance.gateway.lifecycle import Gateway
from tests.api.scripted_client import ScriptedClient, gateway_around
from tests.api.serving import Serve

CHAT = "/v1/chat/completions"
KEYS = ("ann", "bob")
AWAIT_S = 30.0
_UNFINISHED = ("validating", "in_progress", "finalizing", "cancelling")


@dataclass
class BatchServer:
    """One with two callers."""

    url: str
    gateway: Gateway

    def client(self, key: str = KEYS[0]) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0)


@asynccontextmanager
async def batch_server(
    serve: Serve, client: ScriptedClient, folder: Path, budget_bytes: int = 1 << 20
) -> AsyncIterator[BatchServer]:
    batches = open_batches(folder, budget_bytes)
    assert batches is not None
    gateway = gateway_around(client, KEYS, batches=batches)
    url = serve(create_app(gateway))
    running = asyncio.create_task(batches.run())
    try:
        yield BatchServer(url, gateway)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await batches.close()


def chat_line(custom_id: str, **body: Any) -> dict[str, Any]:
    asked = {"model": "novels", "messages": [{"role": "user", "content": custom_id}], **body}
    return line(custom_id, CHAT, asked)


def line(custom_id: str, url: str, body: dict[str, Any]) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


async def begin(
    api: openai.AsyncOpenAI, lines: Sequence[dict[str, Any] | str], endpoint: Any = CHAT
) -> Batch:
    """A batch of these lines; a text is written as it is."""
    texts = [each if isinstance(each, str) else json.dumps(each) for each in lines]
    file = await api.files.create(file=("lines.jsonl", "\n".join(texts).encode()), purpose="batch")
    return await api.batches.create(
        input_file_id=file.id, endpoint=endpoint, completion_window="24h"
    )


async def ended(api: openai.AsyncOpenAI, batch: Batch) -> Batch:
    async def wait() -> Batch:
        while True:
            found = await api.batches.retrieve(batch.id)
            if found.status not in _UNFINISHED:
                return found

    return await asyncio.wait_for(wait(), AWAIT_S)


async def results(api: openai.AsyncOpenAI, file_id: str | None) -> dict[str, dict[str, Any]]:
    """The lines of a result file by their custom ids."""
    if file_id is None:
        return {}
    text = (await api.files.content(file_id)).text
    found = [json.loads(each) for each in text.splitlines()]
    return {each["custom_id"]: each for each in found}
