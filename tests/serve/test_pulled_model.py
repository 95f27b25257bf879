"""`appliance serve org/repo` fetches what it serves, once."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.conftest import Embedded
from tests.serve.conftest import StartServer
from tests.store.hub_server import running_hub

REPO = "org/novels-GGUF"


def test_a_repository_is_pulled_and_served_and_then_served_without_its_hub(
    start_server: StartServer, embedded: Embedded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = ("--models-dir", str(tmp_path / "models"))
    with running_hub() as hub:
        hub.add(REPO, {embedded.files[quant].name: embedded.files[quant].read_bytes() for quant in ("Q4_K_M", "Q2_K")})
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        first = start_server(REPO, *models)
        assert hub.downloads() == [("novels-6m-Q4_K_M.gguf", None)]
        assert _answers(first.url) == 8
        first.end()

    again = start_server(REPO, *models)
    assert _answers(again.url) == 8


def _answers(url: str) -> int:
    """The number of tokens of one answer."""
    request = {"model": "novels-GGUF", "prompt": "The old house", "max_tokens": 8, "temperature": 0}
    answer = httpx.post(f"{url}/v1/completions", json=request, timeout=60).json()
    tokens: int = answer["usage"]["completion_tokens"]
    return tokens
