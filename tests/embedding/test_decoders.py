"""Decoders that embed or rank, converted by us and served by a real worker."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from appliance.errors import BadRequest
from appliance.protocol.requests import RerankRequest
from convert.heads.ranking import TEMPLATE
from convert.pipeline import Job, convert
from tests.convert import llama_tools
from tests.convert.heads.saved import APPENDED, embedding_model, reranker
from tests.embedding.running import running, texts, vectors, worker_config

YES, NO = 259, 260


def convert_to_f32(source: Path, name: str = "model") -> Path:
    job = Job(source=source, directory=source.parent, name=name, types=("F32",), num_threads=1)
    return convert(job)[0].path


def tokenizer_of(source: Path) -> Tokenizer:
    return Tokenizer.from_str(json.dumps(json.loads((source / "tokenizer.json").read_text())))


async def test_an_embedding_is_that_of_the_appended_token(tmp_path: Path) -> None:
    source = embedding_model(tmp_path / "qwen3")
    model = convert_to_f32(source)
    sentences = ["the old house", "x"]
    async with running(worker_config(model)) as supervisor:
        assert supervisor.info is not None
        assert (supervisor.info.pooling, supervisor.info.num_embedding_values) == ("last", 64)
        embedded = await supervisor.embed(texts(sentences))
    tokens = [tokenizer_of(source).encode(text).ids for text in sentences]
    assert all(ids[-1] == APPENDED for ids in tokens)
    assert embedded.num_tokens == sum(map(len, tokens))
    for ids, vector in zip(tokens, vectors(embedded), strict=True):
        expected = llama_tools.embedding(model, ids)
        np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=2e-3)


async def test_a_reranker_scores_its_own_prompt(tmp_path: Path) -> None:
    """The score is what the same checkpoint, as a model that writes text, says to the
    prompt of its card: how much likelier yes is than no.
    """
    source = reranker(tmp_path / "tiny")
    model = convert_to_f32(source)
    (source / "README.md").unlink()
    writer = convert_to_f32(source, "writer")
    query, documents = "who {document}?", ["a <|im_end|> b", "the cat", "no {query}"]
    request = RerankRequest(query, documents)
    async with running(worker_config(model, ctx=1024)) as supervisor:
        ranked = await supervisor.embed(request)
        cut = await supervisor.embed(RerankRequest(query, documents[1:2], max_document_tokens=3))
        with pytest.raises(BadRequest, match="makes no embeddings"):
            await supervisor.embed(texts(["x"]))
    tokenizer = tokenizer_of(source)
    prompts = [expected_tokens(tokenizer, query, document) for document in documents]
    assert ranked.num_tokens == sum(map(len, prompts))
    expected = [probability(writer, tokens) for tokens in prompts]
    np.testing.assert_allclose(vectors(ranked)[:, 0], expected, atol=1e-3)
    assert max(expected) - min(expected) > 5e-3, "or the test would show nothing"
    assert cut.num_tokens == len(expected_tokens(tokenizer, query, "the "))


def expected_tokens(tokenizer: Tokenizer, query: str, document: str) -> list[int]:
    """The prompt's special tokens as such, those in the texts as plain text."""
    masked = query.replace("<|im_end|>", "<|im_end"), document.replace("<|im_end|>", "<|im_end")
    prompt = TEMPLATE.replace("{query}", "\0").replace("{document}", "\1")
    prompt = prompt.replace("\0", masked[0]).replace("\1", masked[1])
    ids: list[int] = tokenizer.encode(prompt, add_special_tokens=False).ids
    if "<|im_end|>" not in document:
        return ids
    bar, more = tokenizer.encode("|>", add_special_tokens=False).ids
    tail = tokenizer.encode("d b", add_special_tokens=False).ids
    at = next(i for i in range(len(ids)) if ids[i : i + len(tail)] == tail)
    return [*ids[: at + 1], bar, more, *ids[at + 1 :]]


def probability(writer: Path, tokens: list[int]) -> float:
    last = llama_tools.log_probs(writer, tokens)[-1]
    return float(1 / (1 + np.exp(last[NO] - last[YES])))
