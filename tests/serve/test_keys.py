"""Keys of a running server: made, limited and revoked by the command, and what OpenAI's
client is told.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import openai
import pytest

from tests.serve.server import Server, StartServer, environment

PATIENCE_S = 60.0
PROMPT = {"model": "novels-6m", "prompt": "It was a dark night", "max_tokens": 20}


def client(server: Server, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)


def eventually(is_so: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline_s, "the server did not follow"


def test_keys_come_are_limited_and_go_while_serving_and_a_day_outlives_a_kill(
    start_server: StartServer, home: Path, tmp_path: Path
) -> None:
    state = tmp_path / "state"

    def keys(*words: str) -> str:
        command = [sys.executable, "-m", "appliance", "keys", *words, "--state-dir", str(state)]
        done = subprocess.run(
            command, env=environment(home), check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    server = start_server("novels-6m", "--state-dir", str(state))

    def status(key: str = "") -> int:
        headers = {"x-api-key": key} if key else {}
        return httpx.get(f"{server.url}/v1/models", headers=headers, timeout=10).status_code

    assert status() == 200
    alices = keys("create", "alice", "--tokens-per-day", "60", "--models", "novels-6m")
    eventually(lambda: status() == 401)
    assert (status(alices), status("ak-00000000-" + "0" * 32)) == (200, 401)

    with client(server, alices) as api:
        raw = api.completions.with_raw_response.create(**PROMPT)
        usage = raw.parse().usage
        assert usage is not None
        assert raw.headers["x-ratelimit-limit-tokens-day"] == "60"
        left = 60 - usage.total_tokens
        models = api.models.with_raw_response.list()
        assert models.headers["x-ratelimit-remaining-tokens-day"] == str(left)
        with pytest.raises(openai.RateLimitError, match=f"{left} are left until 00:00 UTC"):
            api.completions.create(**{**PROMPT, "max_tokens": 60})

    eventually(lambda: f'"tokens_today": {60 - left}' in keys("show", "alice", "--json"))
    server.end()
    server = start_server("novels-6m", "--state-dir", str(state))
    with client(server, alices) as api:
        models = api.models.with_raw_response.list()
        assert models.headers["x-ratelimit-remaining-tokens-day"] == str(left)

    keys("set", "alice", "--tokens-per-day", "none", "--requests-per-minute", "1")
    with client(server, alices) as api:
        eventually(
            lambda: "x-ratelimit-limit-requests" in api.models.with_raw_response.list().headers
        )
        api.completions.create(**PROMPT)
        with pytest.raises(openai.RateLimitError) as raised:
            api.completions.create(**PROMPT)
        assert 50 < int(raised.value.response.headers["retry-after"]) <= 60
        keys("revoke", "alice")
        eventually(lambda: status(alices) == 401)
        with pytest.raises(openai.AuthenticationError, match="'alice' was revoked on"):
            api.models.list()
    assert status() == 401, "the last key's end opens nothing"
