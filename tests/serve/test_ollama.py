"""`appliance serve` and Ollama's official client: answers, and models that come and go."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import ollama
import pytest

from tests.conftest import Embedded
from tests.serve.ollama_talk import GREEDY, HELLO, PROSE, names
from tests.serve.server import StartServer
from tests.store.hub_server import running_hub


def test_answers(start_server: StartServer, embedded: Embedded) -> None:
    server = start_server(str(embedded.files["Q4_K_M"]))
    with ollama.Client(server.url) as client:
        [name] = names(client)
        assert name == "novels-6m-Q4_K_M:latest"
        whole = client.chat(name, HELLO, options=GREEDY)
        pieces = [*client.chat(name, HELLO, options=GREEDY, stream=True)]
        assert "".join(piece.message.content or "" for piece in pieces) == whole.message.content
        last = pieces[-1]
        assert (last.done_reason, last.eval_count) == ("length", 4)
        assert last.total_duration is not None
        assert last.load_duration is not None
        assert last.prompt_eval_duration is not None
        assert last.eval_duration is not None
        parts = last.load_duration + last.prompt_eval_duration + last.eval_duration
        assert 0 < last.eval_duration < parts <= last.total_duration
        schema = {
            "type": "object",
            "properties": {"a": {"type": "boolean"}},
            "required": ["a"],
            "additionalProperties": False,
        }
        told = client.generate(name, "Hello", format=schema, options={"temperature": 0})
        assert json.loads(told.response or "").keys() == {"a"}
        raw = client.generate(name, PROSE, raw=True, options=GREEDY)
        assert (raw.eval_count, raw.context) == (4, None)
        shown = client.show(name)
        assert shown.details is not None
        assert (shown.details.family, shown.details.quantization_level) == ("llama", "Q4_K_M")


def test_models_come_and_go(
    start_server: StartServer, embedded: Embedded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = ("--models-dir", str(tmp_path / "models"))
    repo, quant = "org/novels-GGUF", "Q2_K"
    file = embedded.files[quant]
    with running_hub() as hub:
        hub.add(repo, {file.name: file.read_bytes()})
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        server = start_server(str(embedded.files["Q4_K_M"]), *models)
        pulled = f"hf.co/{repo}:{quant}"
        planned = httpx.get(f"{server.url}/catalog/plan", params={"model": pulled}, timeout=60)
        plan = planned.raise_for_status().json()
        assert (plan["fits"], plan["quantization"], plan["is_here"]) == (True, quant, False)
        assert plan["download_bytes"] == plan["sizes"][quant] == file.stat().st_size
        assert hub.downloads() == []
        with ollama.Client(server.url) as client:
            told = [*client.pull(pulled, stream=True)]
            assert told[-1].status == "success"
            assert max(each.completed or 0 for each in told) == file.stat().st_size
            assert names(client) == ["novels-6m-Q4_K_M:latest", "novels-GGUF:latest"]
            with pytest.raises(ollama.ResponseError, match="no repository of a hub"):
                client.pull("unheard-of")
    with ollama.Client(server.url) as client:
        answer = client.generate(f"hf.co/{repo}:{quant}", PROSE, raw=True, options=GREEDY)
        assert answer.eval_count == 4

        client.create("mario", from_="novels-GGUF", system="Be Mario.", parameters={"top_k": 1})
        shown = client.show("mario")
        assert "top_k                          1" in (shown.parameters or "")
        prompt = client.chat("mario", HELLO, options=GREEDY)
        plain = client.chat("novels-GGUF", HELLO, options=GREEDY)
        assert (prompt.prompt_eval_count or 0) > (plain.prompt_eval_count or 0)

        digest = client.create_blob(file)
        client.create("sent", files={"x.gguf": digest})
        assert client.generate("sent", PROSE, raw=True, options=GREEDY).eval_count == 4

        client.copy("mario", "luigi")
        client.delete("mario")
        assert names(client)[1:] == ["novels-GGUF:latest", "sent:latest", "luigi:latest"]
        client.delete("sent")
        assert not (tmp_path / "models" / "sent").exists()
        with pytest.raises(ollama.ResponseError, match="'sent' not found"):
            client.show("sent")
    server.end()

    again = start_server("novels-GGUF", "--all-models", *models)
    with ollama.Client(again.url) as client:
        assert "luigi:latest" in names(client)
        assert "Be Mario." in (client.show("luigi").modelfile or "")
