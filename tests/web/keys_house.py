"""Keys as the page shows them, of a server on a socket. Knows no page's inside."""

from __future__ import annotations

import json
from typing import Any

from playwright.async_api import Page

from tests.api.keys_house import KeysHouse
from tests.api.serving import Serve
from tests.web.visits import Visits


async def open_keys(
    visits: Visits, serve: Serve, house: KeysHouse, name: str = "root", **options: Any
) -> Page:
    """The view of keys, with the key of that name kept for the tab."""
    stored = f"sessionStorage.setItem('appliance.key', {json.dumps(house.keys[name])})"
    script = f"if (!sessionStorage.getItem('appliance.key')) {stored}"
    return await visits.open(f"{serve(house.app)}/#/usage", script=script, **options)
