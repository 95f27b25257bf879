"""A store in memory, and OpenAI's client of an application that has it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager

import openai
import pytest

from appliance.api.app import create_app
from appliance.database.database import Database
from appliance.database.files import WhenDamaged
from appliance.gateway.stored_responses.database_store import DatabaseStore
from appliance.gateway.stored_responses.schema import MIGRATIONS
from tests.api.scripted_client import ScriptedClient, gateway_around
from tests.api.serving import Serve

KEYS = ("ann", "bob")
ApiTo = Callable[..., AbstractAsyncContextManager[openai.AsyncOpenAI]]


@pytest.fixture
async def store() -> AsyncGenerator[DatabaseStore, None]:
    database = Database(None, MIGRATIONS, when_damaged=WhenDamaged.REFUSE)
    yield DatabaseStore(database, lifetime_s=3600, max_bytes=1 << 30)
    assert database.num_lost == 0
    await database.close()


@pytest.fixture
def api_to(serve: Serve, store: DatabaseStore) -> ApiTo:
    """OpenAI's client of an application around a scripted client; its key is `KEYS[0]`."""

    def connect(client: ScriptedClient) -> openai.AsyncOpenAI:
        app = create_app(gateway_around(client, KEYS, store))
        return openai.AsyncOpenAI(base_url=f"{serve(app)}/v1", api_key=KEYS[0], max_retries=0)

    return connect
