"""Models that are made, unloaded and kept from clients, with Ollama's official client."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ollama
import pytest

from tests.conftest import CHECKPOINT, Embedded
from tests.serve.ollama_talk import GREEDY, HELLO, PROSE, names
from tests.serve.server import StartServer


def test_models_are_made_of_checkpoints_and_unloaded_when_asked(
    start_server: StartServer, embedded: Embedded, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    server = start_server(str(embedded.files["Q4_K_M"]), "--models-dir", str(models))
    with ollama.Client(server.url) as client:

        def quantization(name: str) -> str | None:
            details = client.show(name).details
            assert details is not None
            return details.quantization_level

        # of files that are sent, and of a path on the server
        sent = {file.name: client.create_blob(file) for file in CHECKPOINT.iterdir()}
        client.create("sent", files=sent, quantize="q8_0")
        told = [*client.create("here", from_=str(CHECKPOINT), quantize="Q4_0", stream=True)]
        assert told[-1].status == "success"
        assert (quantization("sent"), quantization("here")) == ("Q8_0", "Q4_0")
        assert client.generate("here", PROSE, raw=True, options=GREEDY).eval_count == 4
        with pytest.raises(ollama.ResponseError, match="is not quantized anew"):
            client.create("other", from_="here", quantize="Q2_K")
        with pytest.raises(ollama.ResponseError, match="Q9_9"):
            client.create("other", from_=str(CHECKPOINT), quantize="Q9_9")

        with pytest.raises(ollama.ResponseError, match="does not begin with GGUF"):
            client.create("other", from_=str(CHECKPOINT / "config.json"))
        gguf = {"x.gguf": client.create_blob(embedded.files["Q4_K_M"])}
        with pytest.raises(ollama.ResponseError, match="only a checkpoint is quantized"):
            client.create("other", files=gguf, quantize="Q2_K")
        assert not (models / "other").exists()
        gguf = {"x.gguf": client.create_blob(embedded.files["Q2_K"])}
        client.create("small", files=gguf, quantize="Q2_K")

        # after an answer, and without one
        assert client.chat("sent", HELLO, options=GREEDY, keep_alive=0).done_reason == "length"
        server.await_line("sent is unloaded: it is kept only while it is used")
        assert client.generate("here", "", keep_alive=0).done_reason == "unload"
        server.await_line("here is unloaded: it is kept only while it is used")
        assert [model.model for model in client.ps().models] == ["novels-6m-Q4_K_M:latest"]
        assert client.generate("here", "", keep_alive="10m").done_reason == "load"
        assert server.states() == {
            "novels-6m-Q4_K_M": "loaded",
            "sent": "unloaded",
            "here": "loaded",
            "small": "unloaded",
        }


OPEN = ("--host", "0.0.0.0", "--insecure")


@pytest.mark.parametrize("flags", [("--model-changes", "off"), OPEN])
def test_models_are_kept_from_clients(
    start_server: StartServer, embedded: Embedded, flags: tuple[str, ...]
) -> None:
    file = embedded.files["Q4_K_M"]
    server = start_server(str(file), *flags)
    with ollama.Client(server.url) as client:
        [name] = names(client)
        assert name is not None
        changes: list[Callable[[], object]] = [
            lambda: client.pull("hf.co/org/novels"),
            lambda: client.create("other", from_=name),
            lambda: client.create_blob(file),
            lambda: client.copy(name, "other"),
            lambda: client.delete(name),
        ]
        for change in changes:
            with pytest.raises(ollama.ResponseError, match="--model-changes") as refused:
                change()
            assert refused.value.status_code == 403
        assert names(client) == [name]
        assert client.generate(name, "", keep_alive=0).done_reason == "unload"


def test_models_change_for_whoever_is_let(start_server: StartServer, embedded: Embedded) -> None:
    server = start_server(str(embedded.files["Q4_K_M"]), *OPEN, "--model-changes", "on")
    with ollama.Client(server.url) as client:
        [name] = names(client)
        assert name is not None
        client.copy(name, "other")
        assert names(client) == [name, "other:latest"]
        client.delete("other")
        assert names(client) == [name]
