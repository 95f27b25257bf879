"""`keep_alive` on a real server:
the model goes after the answer that says so, and comes again.
"""

from __future__ import annotations

import httpx

from tests.serve.server import StartServer


def test_a_model_is_unloaded_after_an_answer_and_loaded_by_the_next(
    start_server: StartServer,
) -> None:
    server = start_server("novels-6m")
    with httpx.Client(base_url=server.url, timeout=60) as http:

        def ask(**fields: object) -> None:
            answer = http.post(
                "/v1/completions", json={"prompt": "The old house", "max_tokens": 4, **fields}
            )
            assert answer.status_code == 200, answer.text

        ask(keep_alive=0)
        server.await_line("is unloaded: it is kept only while it is used")
        ask(keep_alive="10m")
        [model] = server.processes()["models"]
        assert model["state"] == "loaded"
        assert 590 < model["unload_in_s"] <= 600
