"""`--cache-reuse` with the embedded model: behind another time of day, only that and the
last token are computed, unless the request may expect the whole prompt to be.
"""

from __future__ import annotations

import httpx

from appliance.engine.cache.host_prefixes import num_common
from tests.serve.server import StartServer

STORY = "The old house by the sea had stood empty for many years, and nobody came. " * 6
OLD, NEW = "It was nine in the morning. ", "It was half past four in the afternoon of that day. "


def test_behind_a_changed_line_cells_are_moved_for_who_wants_no_exact_answer(
    start_server: StartServer,
) -> None:
    server = start_server("novels-6m", "--cache-reuse", "32", "--kv-type", "f16")
    with httpx.Client(base_url=server.url, timeout=60) as http:

        def cached(prompt: str, **fields: object) -> int:
            body = {"prompt": prompt, "max_tokens": 2, **fields}
            response = http.post("/v1/completions", json=body)
            assert response.status_code == 200, response.text
            details = response.json()["usage"]["prompt_tokens_details"]
            num_cached: int = details["cached_tokens"]
            return num_cached

        def tokens(text: str) -> list[int]:
            found: list[int] = http.post("/tokenize", json={"content": text}).json()["tokens"]
            return found

        def moved() -> int:
            lines = http.get("/metrics").text.splitlines()
            name = "appliance_moved_prompt_tokens_total"
            return round(sum(float(line.split()[-1]) for line in lines if line.startswith(name)))

        old, new = tokens(OLD + STORY), tokens(NEW + STORY)
        num_equal = num_common(old, new, len(old))
        num_moved = num_common(old[::-1], new[::-1], len(old)) - 1  # but for the last one
        [model] = http.get("/ps").json()["models"]
        assert cached(OLD + STORY) == 0
        # without our kernels' exact rows, what repeats itself takes whole blocks alone
        assert cached(NEW + STORY, seed=7) == (num_equal if model["exact_rows"] else 0)
        assert cached(NEW + STORY + " ", temperature=0) < len(new)
        assert moved() == 0
        other = NEW.replace("four", "five") + STORY
        assert cached(other) >= num_equal + num_moved
        assert moved() == num_moved


def test_a_model_whose_cells_stay_is_served_without_and_the_log_says_why(
    start_server: StartServer,
) -> None:
    server = start_server("novels-6m", "--cache-reuse", "32", "--kv-type", "q8_0")
    server.await_line("--cache-reuse 32 is ignored: llama.cpp cannot turn q8_0 keys")
