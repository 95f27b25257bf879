"""Speculation through a real server: answers stay, it is told what was brought, a draft
that cannot is refused.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from bench.made_models import make_slowed
from tests.conftest import Embedded
from tests.llama.rewritten_gguf import other_token, rewritten
from tests.serve.server import Server, StartServer, environment, free_port

NUM_BLOCKS = 60
MOST_ANSWERS = 20
PROMPT = (
    "The old house by the sea had stood empty for many years, and nobody in the village would go "
    "near it. "
)


@pytest.fixture(scope="module")
def slow(embedded: Embedded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model with the cost of a larger one: drafts pay on any machine."""
    file = tmp_path_factory.mktemp("slow") / "slow-Q8_0.gguf"
    make_slowed(embedded.files["Q8_0"], NUM_BLOCKS, file)
    return file


def answer(server: Server, **parameters: Any) -> dict[str, Any]:
    body = {
        "model": "slow-Q8_0",
        "prompt": PROMPT,
        "max_tokens": 100,
        "temperature": 0,
        "ignore_eos": True,
        **parameters,
    }
    response = httpx.post(f"{server.url}/v1/completions", json=body, timeout=120)
    assert response.status_code == 200, response.text
    completion: dict[str, Any] = response.json()
    return completion


@pytest.mark.alone  # what drafting brings is measured
def test_what_was_said_before_is_drafted_and_the_answer_stays_the_same(
    start_server: StartServer, slow: Path
) -> None:
    plain = start_server(str(slow), "--ctx", "512", "--prompt-lookup", "off")
    expected = answer(plain)
    assert "completion_tokens_details" not in expected["usage"]
    plain.end()
    server = start_server(str(slow), "--ctx", "512", "--draft", "auto", "--repeatable", "off")
    first, again = answer(server), answer(server)
    assert (
        first["choices"][0]["text"] == again["choices"][0]["text"] == expected["choices"][0]["text"]
    )
    details = again["usage"]["completion_tokens_details"]
    assert details["accepted_prediction_tokens"] > 50, "of 100: the same was said a moment ago"
    assert again["usage"]["speculation"]["gain_ms"] > 0
    [model] = server.processes()["models"]
    assert model["speculation"] == "prompt lookup", "nobody knows a sibling of this file"


@pytest.mark.alone  # what drafting brings is measured
def test_a_draft_model_drafts_and_what_it_brings_is_counted(
    start_server: StartServer, slow: Path
) -> None:
    flags = ("--ctx", "512", "--prompt-lookup", "off", "--repeatable", "off")
    server = start_server(str(slow), *flags, "--draft", "novels-draft")
    [model] = server.processes()["models"]
    assert model["speculation"] == "draft model novels-draft-Q8_0"
    num_accepted = 0
    for seed in range(MOST_ANSWERS):  # on a busy machine it may not pay at first
        usage = answer(server, seed=seed, temperature=0.8)["usage"]
        assert usage["completion_tokens"] == 100
        details = usage.get("completion_tokens_details", {"accepted_prediction_tokens": 0})
        num_accepted += details["accepted_prediction_tokens"]
        if num_accepted > 40:
            break
    else:
        raise AssertionError(f"nothing was drafted:\n{server.log}")


def test_a_draft_with_another_vocabulary_is_refused_with_the_first_difference(
    home: Path, slow: Path, tmp_path: Path
) -> None:
    command = [
        sys.executable,
        "-m",
        "convert",
        "models/embedded/novels-draft",
        "--out",
        str(tmp_path),
        "--types",
        "Q8_0",
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[2])
    other = rewritten(tmp_path / "novels-draft-Q8_0.gguf", tmp_path / "other.gguf", other_token)
    serve = [
        sys.executable,
        "-m",
        "appliance",
        "serve",
        str(slow),
        "--no-tune",
        "--port",
        str(free_port()),
    ]
    ended = subprocess.run(
        [*serve, "--draft", str(other)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=environment(home),
        cwd=tmp_path,
    )
    assert ended.returncode != 0
    assert "other.gguf cannot draft for this model: the target's token 2000 (" in ended.stderr
