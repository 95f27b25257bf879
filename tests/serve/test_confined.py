"""A server whose workers must be confined does all that it did: templates, grammars, drafts,
prefixes on disk, vectors.
"""

from __future__ import annotations

from pathlib import Path

import httpx
import psutil
import pytest

from appliance.confinement import landlock
from tests.conftest import MiniLm
from tests.serve.server import Server, StartServer

pytestmark = pytest.mark.skipif(landlock.version() == 0, reason="needs Landlock (Linux 5.13)")

PROMPT = "It was a dark night, and the wind blew over the moor while we sat by the fire. " * 8
GREEDY = {"temperature": 0, "max_tokens": 12}


def rights(process: psutil.Process) -> tuple[str, str]:
    """(no new privileges, mode of seccomp: 2 is a filter), as the kernel tells them."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    return fields["NoNewPrivs"], fields["Seccomp"]


def confined_server(start_server: StartServer, *flags: str) -> Server:
    server = start_server(*flags, "--confine", "on")
    assert f"confined: files (Landlock {landlock.version()}) and system calls" in server.log
    assert rights(server.worker()) == ("1", "2")
    return server


def test_a_confined_worker_writes_and_keeps_prefixes(
    start_server: StartServer, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    # what the second start decides for itself would make other cells
    fixed = ("--kernels", "off", "--kv-type", "f16", "--ctx", "1024")
    own = ("--slots", "1", "--draft", "auto", "--state-dir", str(state))
    flags = ("novels-6m", *fixed, *own)
    server = confined_server(start_server, *flags)
    with httpx.Client(base_url=server.url, timeout=60) as http:
        first = http.post("/v1/completions", json={"prompt": PROMPT, **GREEDY}).json()
        chat = {"messages": [{"role": "user", "content": "Who sat by the fire?"}], **GREEDY}
        assert http.post("/v1/chat/completions", json=chat).status_code == 200
        [renderer] = server.worker().children()
        assert rights(renderer) == ("1", "2")
        formed = {"prompt": "It", "guided_regex": "[a-z ]{3,9}", **GREEDY}
        assert http.post("/v1/completions", json=formed).status_code == 200
        http.post("/v1/completions", json={"prompt": PROMPT, **GREEDY}).raise_for_status()
        kept = http.post("/slots/0?action=save", json={"filename": "kept"}).json()
        assert kept["n_saved"] > 100
    assert len(list(state.glob("prefixes/*/named-*.prefix"))) == 1
    assert list(state.glob("step-times/*.json")) != []
    server.end()

    with httpx.Client(base_url=confined_server(start_server, *flags).url, timeout=60) as http:
        back = http.post("/slots/0?action=restore", json={"filename": "kept"}).json()
        assert back["n_restored"] == kept["n_saved"]
        again = http.post("/v1/completions", json={"prompt": PROMPT, **GREEDY}).json()
        assert again["choices"][0]["text"] == first["choices"][0]["text"]


def test_a_confined_worker_makes_vectors(start_server: StartServer, minilm: MiniLm) -> None:
    server = confined_server(start_server, str(minilm.files["Q8_0"]))
    [model] = httpx.get(f"{server.url}/v1/models", timeout=60).json()["data"]
    body = {"input": ["a text", "another"], "model": model["id"]}
    vectors = httpx.post(f"{server.url}/v1/embeddings", json=body, timeout=60).json()["data"]
    assert [len(vector["embedding"]) for vector in vectors] == [384, 384]


def test_without_confinement_nothing_is_taken(start_server: StartServer) -> None:
    server = start_server("novels-6m", "--confine", "off")
    assert rights(server.worker()) == rights(psutil.Process())
    assert "confined" not in server.log
