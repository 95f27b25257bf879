"""A real embedding model, converted by us, in a real worker: its vectors are the
original's, alone and in a batch.
"""

from __future__ import annotations

import asyncio

import numpy as np
import psutil
import pytest

from appliance.errors import BadRequest, PromptTooLong, WorkerLost
from appliance.protocol.questions import Tokenize
from appliance.protocol.requests import (
    EmbedRequest,
    GenerateRequest,
    RerankRequest,
    TextPrompt,
    TokenPrompt,
)
from tests.conftest import Embedded as EmbeddedModel
from tests.conftest import MiniLm
from tests.embedding.bert_reference import BertReference
from tests.embedding.running import running, texts, vectors, worker_config

TEXTS = (
    "The cat sits outside.",
    "A man is playing guitar",
    "Vermögen: naïve café, 12,300.50 € — ok?",
    "I love pasta, and the new movie is awesome!",
    "What is the population of the largest city of the country in which they speak Dutch? " * 8,
    "x",
)


@pytest.mark.parametrize(("kind", "most_lost"), [("F32", 1e-5), ("Q8_0", 1.5e-3)])
async def test_vectors_are_those_of_the_original(
    minilm: MiniLm, kind: str, most_lost: float
) -> None:
    reference = BertReference.read(minilm.checkpoint)
    async with running(worker_config(minilm.files[kind])) as supervisor:
        embedded = await supervisor.embed(texts(TEXTS))
    tokens = [reference.tokens(text) for text in TEXTS]
    assert embedded.num_tokens == sum(map(len, tokens))
    expected = np.stack([reference.embed(each) for each in tokens])
    got = vectors(embedded)
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-5)
    assert (1 - (got * expected).sum(axis=1)).max() < most_lost


async def test_a_batch_gives_the_vectors_of_each_text_alone(minilm: MiniLm) -> None:
    async with running(worker_config(minilm.files["F32"])) as supervisor:
        together = vectors(await supervisor.embed(texts(TEXTS)))
        alone = [vectors(await supervisor.embed(texts([text])))[0] for text in TEXTS]
        tokens = (await supervisor.ask(Tokenize(TextPrompt(TEXTS[0])))).tokens
        by_tokens = vectors(await supervisor.embed(EmbedRequest([TokenPrompt([*tokens, 102])])))
    np.testing.assert_allclose(together, np.stack(alone), atol=5e-4)
    np.testing.assert_allclose(by_tokens[0], alone[0], atol=1e-6)


async def test_what_an_embedding_model_refuses(minilm: MiniLm) -> None:
    async with running(worker_config(minilm.files["Q8_0"], ctx=64)) as supervisor:
        assert supervisor.info is not None
        assert (supervisor.info.pooling, supervisor.info.num_embedding_values) == ("mean", 384)
        with pytest.raises(
            PromptTooLong, match=r"64 tokens\. However, 66 .* in input 1\."
        ) as too_long:
            await supervisor.embed(texts(["short", "sea " * 64]))
        assert too_long.value.param == "input"
        with pytest.raises(BadRequest, match=r"between 0 and 30521 \(got 40000\)"):
            await supervisor.embed(EmbedRequest([TokenPrompt([40000])]))
        with pytest.raises(BadRequest, match="embedding model: it does not generate text"):
            await anext(supervisor.generate(GenerateRequest(prompt=TextPrompt("Once"))))
        assert vectors(await supervisor.embed(texts(["sea " * 62]))).shape == (1, 384)


async def test_a_model_that_writes_text_refuses_to_embed(embedded: EmbeddedModel) -> None:
    config = worker_config(embedded.files["Q8_0"], embeds=False, kv_cells=512)
    async with running(config) as supervisor:
        with pytest.raises(BadRequest, match="not an embedding model") as refused:
            await supervisor.embed(texts(["Once"]))
    assert refused.value.param == "model"


async def test_cosines_rank_documents(minilm: MiniLm) -> None:
    documents = ["Stocks fell on Monday.", "A kitten sleeps in the garden.", "The train is late."]
    async with running(worker_config(minilm.files["Q8_0"])) as supervisor:
        scores = vectors(await supervisor.embed(RerankRequest("Where is the cat?", documents)))
        pair = vectors(await supervisor.embed(texts(["Where is the cat?", documents[1]])))
    assert scores.shape == (3, 1)
    assert scores[:, 0].argmax() == 1
    assert scores[1, 0] == pytest.approx(float(pair[0] @ pair[1]), abs=1e-2)


async def test_who_leaves_is_not_computed_and_who_is_lost_gets_an_error(minilm: MiniLm) -> None:
    """Cancelled requests leave nothing behind; one in flight when the worker dies goes on
    with the next one, and ends in an error when that dies too.
    """
    async with running(worker_config(minilm.files["Q8_0"], ctx=512)) as supervisor:
        large = texts(["sea " * 400] * 100)
        leaving = asyncio.create_task(supervisor.embed(large))
        await supervisor.embed(texts(["first"]))
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        staying = asyncio.create_task(supervisor.embed(large))
        for text in ("second", "third"):
            await supervisor.embed(texts([text]))  # takes its turn after one input of the large one
            assert not staying.done()
            pid = supervisor.health().pid
            assert pid is not None
            psutil.Process(pid).kill()
            while supervisor.health().pid == pid:
                await asyncio.sleep(0)
        with pytest.raises(WorkerLost):
            await staying
        assert len(vectors(await supervisor.embed(texts(["again"])))) == 1
