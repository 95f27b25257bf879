"""The model `auto` of a real server: two models, of which a request gets the one it needs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Embedded
from tests.serve.server import StartServer

EASY: dict[str, Any] = {
    "model": "auto",
    "prompt": "It was a dark night",
    "temperature": 0,
    "ignore_eos": True,
}
HARD: dict[str, Any] = {
    "model": "auto",
    "prompt": "How many eggs per day remain? Calculate 16 - 3 - 4. def eggs():",
    "temperature": 0,
    "max_tokens": 20,
}


@pytest.fixture
def models(tmp_path: Path, embedded: Embedded) -> list[str]:
    """The embedded model in two quantizations, the larger one first."""
    paths = []
    for name, quantization in (("large", "Q8_0"), ("small", "Q4_K_M")):
        path = tmp_path / f"{name}.gguf"
        path.symlink_to(embedded.files[quantization])
        paths.append(str(path))
    return paths


@pytest.fixture
def api(start_server: StartServer, models: list[str]) -> Iterator[httpx.Client]:
    server = start_server(
        *models,
        *("--ctx", "512", "--slots", "2", "--prefix-host-bytes", "0"),
        *("--preload", "small", "--preload", "large", "--auto-min-probability", "0.000001"),
    )
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


def _auto(answer: httpx.Response) -> dict[str, Any]:
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()["usage"]["x_auto"]
    assert found["model"] == answer.json()["model"] == answer.headers["x-auto-model"]
    assert found["reason"] == answer.headers["x-auto-reason"]
    return found


def test_requests_get_the_model_that_they_need(api: httpx.Client) -> None:
    listed = {model["id"]: model for model in api.get("/v1/models").json()["data"]}
    assert list(listed) == ["large", "small", "auto"]
    assert (listed["auto"]["tiers"], listed["auto"]["loaded"]) == (["small", "large"], True)

    easy = _auto(api.post("/v1/completions", json={**EASY, "max_tokens": 20}))
    assert easy == {
        "model": "small",
        "score": 0,
        "reason": "score 0 of 100 (nothing in it): tier 1 of 2",
        "asked": ["small"],
    }
    answer = api.post("/v1/completions", json={**EASY, "max_tokens": 20}).json()
    assert answer["choices"][0]["logprobs"] is None, "they were only looked at"
    hard = _auto(api.post("/v1/completions", json=HARD))
    assert (hard["model"], hard["score"], hard["asked"]) == ("large", 30, ["large"])

    cut = api.post("/v1/completions", json={**EASY, "max_tokens": 64})
    assert _auto(cut) == {
        "model": "large",
        "score": 0,
        "reason": "score 0 of 100 (nothing in it): tier 1 of 2; "
        "small: its answer was cut after 64 tokens",
        "asked": ["small", "large"],
    }
    named = api.post("/v1/completions", json={**EASY, "model": "large", "max_tokens": 64})
    assert named.json()["choices"] == cut.json()["choices"], "it is the large model's answer"
    assert "x_auto" not in named.json()["usage"]

    lines = [
        line
        for line in api.post(
            "/v1/completions", json={**EASY, "stream": True, "max_tokens": 64}
        ).text.splitlines()
        if '"model"' in line
    ]
    assert all('"model":"small"' in line for line in lines), "a stream is not taken back"
    native = api.post("/completion", json={**HARD, "n_predict": 4})
    assert (native.json()["model"], native.headers["x-auto-model"]) == ("large", "large")
    ollama = api.post(
        "/api/generate",
        json={"model": "auto:latest", "prompt": "It was", "options": {"num_predict": 4}},
    )
    assert '"model":"small"' in ollama.text
    assert ollama.headers["x-auto-model"] == "small"
    used = api.get("/stats").json()
    assert "auto" not in str(used), "what is counted is counted for the models that computed"
