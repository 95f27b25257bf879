"""A real server with caches: the same bytes again, also after a restart, and counted."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance.llama.checks import find_kernels
from tests.conftest import MiniLm
from tests.serve.server import Server, StartServer

CHAT = {
    "messages": [{"role": "user", "content": "Tell me about the sea."}],
    "temperature": 0,
    "max_tokens": 24,
    "logprobs": True,
}
_PASSING = re.compile(r'"(id|created)":("[^"]*"|\d+)')


# which of our own are used may differ from start to start on a busy machine
SAME_KERNELS = ("--kernels", "off")
BOTH = {**CHAT, "seed": 3, "temperature": 1, "n": 2}  # beside each other
_KERNELS = find_kernels()
with_kernels = pytest.mark.skipif(isinstance(_KERNELS, str), reason=f"our own kernels {_KERNELS}")


def posted(server: Server, path: str, body: Any) -> tuple[str | None, str]:
    """What the cache had, and the response but for what is another's each time."""
    response = httpx.post(f"{server.url}{path}", json=body, timeout=120)
    assert response.status_code == 200, response.text
    text = re.sub(r"(?m)^id: .*$", "", response.text)
    return response.headers.get("x-cache"), _PASSING.sub("", text)


def stop(server: Server) -> None:
    """In good order: then everything is written."""
    server.process.terminate()
    assert server.process.wait(timeout=30) == 0


def test_an_answer_is_computed_once(start_server: StartServer, tmp_path: Path) -> None:
    flags = ("novels-6m", "--response-cache", "1h", "--state-dir", str(tmp_path / "state"))
    flags = (*flags, *SAME_KERNELS)
    server = start_server(*flags)
    streamed = {**CHAT, "stream": True}
    use, text = posted(server, "/v1/chat/completions", streamed)
    assert use == "miss"
    assert posted(server, "/v1/chat/completions", streamed) == ("hit", text)
    drawn = {"messages": CHAT["messages"], "max_tokens": 4}
    assert posted(server, "/v1/chat/completions", drawn)[0] is None
    metrics = httpx.get(f"{server.url}/metrics").text
    hits = 'appliance_cache_requests_total{cache="response",model="novels-6m",result="hit"} 1.0'
    assert hits in metrics
    stop(server)

    server = start_server(*flags)
    assert posted(server, "/v1/chat/completions", streamed) == ("hit", text)
    assert posted(server, "/v1/chat/completions", CHAT)[0] == "hit"
    stop(server)

    server = start_server(*flags, "--ctx", "1024")
    assert posted(server, "/v1/chat/completions", streamed)[0] == "miss"


def test_without_exact_rows_only_what_ran_alone_is_kept(start_server: StartServer) -> None:
    server = start_server("novels-6m", "--response-cache", "-1", *SAME_KERNELS)
    use, text = posted(server, "/v1/chat/completions", CHAT)
    assert use == "miss"
    assert posted(server, "/v1/chat/completions", CHAT) == ("hit", text)
    assert [posted(server, "/v1/chat/completions", BOTH)[0] for _ in range(2)] == ["miss", "miss"]


@with_kernels
def test_with_exact_rows_all_are(start_server: StartServer) -> None:
    server = start_server("novels-6m", "--response-cache", "-1", "--kernels", "on")
    use, text = posted(server, "/v1/chat/completions", BOTH)
    assert use == "miss"
    assert posted(server, "/v1/chat/completions", BOTH) == ("hit", text)


def test_a_vector_is_computed_once(
    start_server: StartServer, minilm: MiniLm, tmp_path: Path
) -> None:
    flags = (str(minilm.files["Q8_0"]), "--embedding-cache", "30d")
    flags = (*flags, "--state-dir", str(tmp_path / "state"), *SAME_KERNELS)
    server = start_server(*flags)
    cat, both = {"input": "The cat sits outside."}, {"input": ["A dog.", "The cat sits outside."]}
    use, text = posted(server, "/v1/embeddings", cat)
    assert use == "miss"
    use, of_both = posted(server, "/v1/embeddings", both)
    assert use == "miss"
    stop(server)

    server = start_server(*flags)
    assert posted(server, "/v1/embeddings", cat) == ("hit", text)
    assert posted(server, "/v1/embeddings", both) == ("hit", of_both)
