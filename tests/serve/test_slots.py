"""/slots of a real server, while it streams."""

from __future__ import annotations

import httpx

from tests.serve.server import StartServer

ENDLESS = {
    "max_tokens": 1_000_000,
    "ignore_eos": True,
    "context_shift": True,
    "stream": True,
    "temperature": 0,
}


def test_a_stream_is_seen_in_its_slot_and_leaves_it(start_server: StartServer) -> None:
    with httpx.Client(base_url=start_server("novels-6m", "--slots", "2").url, timeout=60) as http:
        num_tokens = len(http.post("/tokenize", json={"content": "The old house"}).json()["tokens"])
        with http.stream(
            "POST", "/v1/completions", json={"prompt": "The old house", **ENDLESS}
        ) as stream:
            for _ in stream.iter_lines():
                slots = http.get("/slots").json()
                if busy := [slot for slot in slots if slot["is_processing"]]:
                    break
        [slot] = busy
        assert [slot["id"] for slot in slots] == [0, 1]
        assert (slot["state"], slot["n_prompt_tokens"], slot["params"]) == (
            "decode",
            num_tokens,
            {"n_predict": 1_000_000},
        )
        decoded = slot["next_token"]["n_decoded"]
        assert decoded > 0
        assert slot["next_token"]["n_remain"] == 1_000_000 - decoded
        assert "old" not in str(slots)
        while any(slot["is_processing"] for slot in http.get("/slots").json()):
            pass  # until the next heartbeat
