"""/v1/models is Anthropic's for who sends its header, and OpenAI's for everybody else."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.api.app import create_app
from appliance.gateway.accounts.admission import Admission
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.router import Router, ServedModel
from tests.api.scripted_client import CREATED, ScriptedClient, http_around, http_to

VERSION = {"anthropic-version": "2023-06-01"}
NOVELS = {
    "type": "model",
    "id": "novels",
    "display_name": "novels",
    "created_at": "2023-11-14T22:13:20Z",
    "max_input_tokens": 2048,
    "max_tokens": 2048,
    "lifecycle": "active",
}


async def test_in_the_shape_of_the_header() -> None:
    async with http_around(ScriptedClient()) as http:
        page = (await http.get("/v1/models", headers=VERSION)).json()
        one = (await http.get("/v1/models/org/novels", headers=VERSION)).json()
        openai = (await http.get("/v1/models")).json()
    assert page == {"data": [NOVELS], "has_more": False, "first_id": "novels", "last_id": "novels"}
    assert one == NOVELS
    assert openai["object"] == "list"


@pytest.mark.parametrize(
    ("params", "ids", "has_more"),
    [
        ({}, "abcd", False),
        ({"limit": 2}, "ab", True),
        ({"limit": 2, "after_id": "b"}, "cd", False),
        ({"limit": 1, "after_id": "b"}, "c", True),
        ({"limit": 2, "before_id": "d"}, "bc", True),
        ({"limit": 3, "before_id": "d"}, "abc", False),
        ({"after_id": "d"}, "", False),
        ({"after_id": "unknown"}, "abcd", False),
    ],
)
async def test_pages(params: dict[str, Any], ids: str, has_more: bool) -> None:
    models = [ServedModel(id=each, client=ScriptedClient(), created=CREATED) for each in "abcd"]
    async with http_to(create_app(Gateway(Router(models), Admission()))) as http:
        page = (await http.get("/v1/models", params=params, headers=VERSION)).json()
    assert ("".join(each["id"] for each in page["data"]), page["has_more"]) == (ids, has_more)
    assert (page["first_id"], page["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))
