"""`appliance serve org/repo` fetches what it serves, once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.conftest import ROOT, Embedded
from tests.serve.server import StartServer
from tests.store.hub_server import running_hub

REPO = "org/novels-GGUF"
DRAFT = ROOT / "models" / "embedded" / "novels-draft"


def test_a_repository_is_pulled_and_served_and_then_served_without_its_hub(
    start_server: StartServer, embedded: Embedded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = ("--models-dir", str(tmp_path / "models"))
    with running_hub() as hub:
        hub.add(
            REPO,
            {
                embedded.files[quant].name: embedded.files[quant].read_bytes()
                for quant in ("Q4_K_M", "Q2_K")
            },
        )
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


def test_a_draft_model_is_pulled_too(
    start_server: StartServer, embedded: Embedded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [
        sys.executable,
        "-m",
        "convert",
        str(DRAFT),
        "--out",
        str(tmp_path / "made"),
        "--types",
        "Q8_0",
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    file = tmp_path / "made" / "novels-draft-Q8_0.gguf"
    with running_hub() as hub:
        hub.add("org/small-GGUF", {file.name: file.read_bytes()})
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        flags = ("--models-dir", str(tmp_path / "models"), "--draft", "org/small-GGUF")
        server = start_server(str(embedded.files["Q4_K_M"]), *flags)
        assert hub.downloads() == [(file.name, None)]
    [model] = server.processes()["models"]
    assert model["speculation"] == "prompt lookup and draft model novels-draft-Q8_0"
