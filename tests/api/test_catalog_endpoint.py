"""GET /catalog and /catalog/plan: what fits, before anything is fetched, and who is told."""

from __future__ import annotations

import httpx

from appliance.api.app import create_app
from appliance.gateway.accounts.admission import Admission
from appliance.gateway.accounts.caller import CallerLimits
from appliance.gateway.accounts.key_records import KeyTerms
from appliance.gateway.accounts.keyring import Keyring
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.router import Router, ServedModel
from tests.api.scripted_client import CREATED, ScriptedClient, http_to
from tests.api.scripted_library import LARGE, MIB, NAME, ScriptedLibrary
from tests.gateway.accounts.made_keys import MadeKeys

TERMS = {"alice": KeyTerms(), "guest": KeyTerms(limits=CallerLimits(models=("novels",)))}


async def asked(path: str, name: str = "alice") -> httpx.Response:
    made = MadeKeys(TERMS)
    library = ScriptedLibrary()
    router = Router([ServedModel(id="novels", client=ScriptedClient(), created=CREATED)])
    gateway = Gateway(router, Admission(keyring=Keyring(made.records)), library=library)
    async with http_to(create_app(gateway), authorization=f"Bearer {made.keys[name]}") as http:
        response = await http.get(path)
    assert library.pulled == []
    return response


async def test_what_fits_is_listed_with_what_does_not() -> None:
    found = (await asked("/catalog")).json()
    assert (found["usable_bytes"], found["may_pull"]) == (2048 * MIB, True)
    assert [(each["name"], each["fits"]) for each in found["models"]] == [
        (NAME, True),
        (LARGE, False),
    ]
    assert found["models"][0]["sizes"] == {"Q8_0": 200 * MIB}


async def test_a_pull_is_planned_before_it_is_done() -> None:
    found = (await asked(f"/catalog/plan?model={NAME}")).json()
    assert (found["quantization"], found["download_bytes"]) == ("Q8_0", 200 * MIB)
    assert (found["fits"], found["is_here"]) == (True, False)
    nothing = (await asked(f"/catalog/plan?model={LARGE}")).json()
    assert (nothing["fits"], nothing["choice"]) == (False, None)
    assert nothing["reason"].startswith("Nothing fits")


async def test_a_name_is_needed() -> None:
    for path in ("/catalog/plan", "/catalog/plan?model="):
        response = await asked(path)
        assert (response.status_code, response.json()["error"]["param"]) == (400, "model")


async def test_a_key_for_some_models_is_told_neither() -> None:
    for path in ("/catalog", f"/catalog/plan?model={NAME}"):
        response = await asked(path, "guest")
        assert (response.status_code, response.json()["error"]["code"]) == (403, "not_allowed")
