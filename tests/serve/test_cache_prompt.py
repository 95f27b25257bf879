"""`cache_prompt` with the real model: false takes nothing from the cache and leaves
nothing there.
"""

from __future__ import annotations

import httpx

from tests.serve.server import StartServer

PROMPT = "The old house by the sea had stood empty for many years, " * 12


def test_a_prompt_is_computed_whole_where_it_must_not_be_cached(start_server: StartServer) -> None:
    with httpx.Client(base_url=start_server("novels-6m").url, timeout=60) as http:

        def cached(path: str = "/v1/completions", **fields: object) -> int:
            prompt = (
                {"messages": [{"role": "user", "content": PROMPT}]}
                if "chat" in path
                else {"prompt": PROMPT}
            )
            response = http.post(path, json={**prompt, "max_tokens": 2, **fields})
            assert response.status_code == 200, response.text
            body = response.json()
            num_cached: int = body["usage"]["prompt_tokens_details"]["cached_tokens"]
            return num_cached

        num_tokens = len(http.post("/tokenize", json={"content": PROMPT}).json()["tokens"])
        assert cached(cache_prompt=False) == 0
        assert cached() == 0, "nothing was left"
        assert cached(cache_prompt=True) == num_tokens - 1
        assert cached(cache_prompt=False) == 0
        assert cached("/v1/chat/completions", cache_prompt=False) == 0
