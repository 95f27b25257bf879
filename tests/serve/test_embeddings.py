"""OpenAI's own client on a real embedding model in a real server: vectors, batches,
ranks and refusals.
"""

from __future__ import annotations

import asyncio
import base64
import re

import httpx
import numpy as np
import openai
import pytest

from tests.conftest import MiniLm
from tests.embedding.bert_reference import BertReference
from tests.serve.server import StartServer

MODEL = "minilm-Q8_0"


def test_vectors_of_a_served_model(start_server: StartServer, minilm: MiniLm) -> None:
    server = start_server(str(minilm.files["Q8_0"]))
    text = "The cat sits outside."
    reference = BertReference.read(minilm.checkpoint)
    expected = reference.embed(reference.tokens(text))
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as api:
        by_default = api.embeddings.create(model=MODEL, input=text)  # the client asks for base64
        as_floats = api.embeddings.create(
            model=MODEL, input=[text, "other"], encoding_format="float"
        )
        as_base64 = api.embeddings.create(model=MODEL, input=text, encoding_format="base64")
        short = api.embeddings.create(model=MODEL, input=text, dimensions=64)
        by_tokens = api.embeddings.create(model=MODEL, input=[reference.tokens(text)])
        with pytest.raises(openai.BadRequestError, match="length is 512 tokens") as too_long:
            api.embeddings.create(model=MODEL, input="sea " * 600)
        with pytest.raises(openai.BadRequestError, match="384 dimensions"):
            api.embeddings.create(model=MODEL, input=text, dimensions=385)
        with pytest.raises(openai.BadRequestError, match="it does not generate text"):
            api.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hi"}])
        with pytest.raises(openai.BadRequestError, match="it does not generate text"):
            api.completions.create(model=MODEL, prompt="Once", stream=True)
    assert too_long.value.param == "input"
    vector = np.array(by_default.data[0].embedding)
    assert vector @ expected > 0.999
    assert (
        by_default.usage.prompt_tokens
        == by_default.usage.total_tokens
        == len(reference.tokens(text))
    )
    coded = as_base64.data[0].embedding
    assert isinstance(coded, str), "the client leaves what was asked for as it came"
    np.testing.assert_allclose(np.frombuffer(base64.b64decode(coded), "<f4"), vector, atol=1e-6)
    np.testing.assert_allclose(by_tokens.data[0].embedding, vector, atol=1e-6)
    assert np.array(as_floats.data[0].embedding) @ vector > 0.999
    cut = vector[:64] / np.linalg.norm(vector[:64])
    np.testing.assert_allclose(short.data[0].embedding, cut, atol=1e-6)
    [model] = server.processes()["models"]
    assert (model["pooling"], model["num_embedding_values"], model["kv_cells"]) == ("mean", 384, 0)


async def test_concurrent_clients_share_steps(start_server: StartServer, minilm: MiniLm) -> None:
    """Two clients with 100 short texts each: their 200 texts take 4 steps, or one more
    where one came first.
    """
    server = await asyncio.to_thread(
        start_server, str(minilm.files["Q8_0"]), "--log-level", "debug"
    )
    texts = [f"Sentence number {at}." for at in range(100)]
    async with openai.AsyncOpenAI(
        base_url=f"{server.url}/v1", api_key="none", max_retries=0
    ) as api:
        answers = await asyncio.gather(
            *(api.embeddings.create(model=MODEL, input=texts) for _ in range(2))
        )
        [alone] = (await api.embeddings.create(model=MODEL, input=texts[42])).data
    assert [each.index for each in answers[0].data] == list(range(100))
    for answer in answers:
        assert np.dot(answer.data[42].embedding, alone.embedding) > 0.999
    async with httpx.AsyncClient(base_url=server.url) as http:
        query = {
            "query": "Where is the cat?",
            "documents": ["Stocks fell.", "A kitten sleeps outside."],
        }
        ranked = (await http.post("/v1/rerank", json=query)).json()
    assert [result["index"] for result in ranked["results"]] == [1, 0]
    assert server.states() == {MODEL: "loaded"}
    steps = [
        tuple(map(int, step))
        for step in re.findall(r"embedding step: (\d+) inputs of (\d+) requests", server.log)
    ]
    assert sum(num_inputs for num_inputs, _ in steps) == 2 * 100 + 1 + 3
    assert len(steps) <= 8, "64 inputs fit into a step"


def test_a_model_that_writes_refuses_and_says_how_to_get_one(start_server: StartServer) -> None:
    server = start_server("novels-6m")
    answer = httpx.post(f"{server.url}/v1/embeddings", json={"input": "x"})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "model"
    assert "not an embedding model" in answer.json()["error"]["message"]
    ranked = httpx.post(f"{server.url}/v1/rerank", json={"query": "x", "documents": ["y"]})
    assert ranked.status_code == 400
