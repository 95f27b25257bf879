"""Vectors are computed once for each input, and a response is the same with them."""

from __future__ import annotations

import struct
from collections.abc import AsyncGenerator, Sequence

import msgspec
import pytest

from appliance.errors import PromptTooLong
from appliance.gateway.accounts.caller import Caller
from appliance.gateway.answer_cache.vectors import EmbeddingCache
from appliance.gateway.router import ServedModel
from appliance.protocol.events import CacheUse, EmbedResult
from appliance.protocol.requests import EmbedRequest, TextPrompt, TextRole, TokenPrompt
from tests.api.scripted_client import CREATED, ScriptedClient
from tests.gateway.answer_cache.house import KNOWN, entries_in_memory

ANN, BOB = Caller("ann"), Caller("bob")
Input = TextPrompt | TokenPrompt


class Model:
    """A vector of each input's length and its place among all that were ever computed, so
    that computing one again gives another; ten tokens for each letter.
    """

    def __init__(self, fingerprint: str = "file") -> None:
        self.client = ScriptedClient()
        self.client.info = msgspec.structs.replace(KNOWN, fingerprint=fingerprint)
        self.served = ServedModel(id="vectors", client=self.client, created=CREATED)
        self.computed: list[Input] = []

    async def compute(self, request: EmbedRequest) -> EmbedResult:
        sizes = [
            len(each.text if isinstance(each, TextPrompt) else each.tokens)
            for each in request.inputs
        ]
        if max(sizes) > 50:
            raise PromptTooLong(f"input {sizes.index(max(sizes))} is too long")
        rows = []
        for size, given in zip(sizes, request.inputs, strict=True):
            self.computed.append(given)
            rows.append(struct.pack("<2f", size, len(self.computed)))
        return EmbedResult(
            request_id=1,
            values=b"".join(rows),
            num_values=2,
            num_tokens=10 * sum(sizes),
            compute_ms=3.0,
            input_tokens=[10 * size for size in sizes],
        )


@pytest.fixture
async def cache() -> AsyncGenerator[EmbeddingCache, None]:
    cache = EmbeddingCache(entries_in_memory())
    yield cache
    await cache.entries.close()


async def embed(
    cache: EmbeddingCache, model: Model, texts: Sequence[str], caller: Caller = ANN
) -> EmbedResult:
    request = EmbedRequest([TextPrompt(text) for text in texts])
    return await cache.embed(caller, model.served, request, model.compute)


def rows_of(result: EmbedResult) -> list[tuple[float, ...]]:
    return [*struct.iter_unpack("<2f", result.values)]


async def test_only_what_is_not_there_is_computed(cache: EmbeddingCache) -> None:
    model = Model()
    first = await embed(cache, model, ["a", "bcd"])
    assert rows_of(first) == [(1.0, 1.0), (3.0, 2.0)]
    assert (first.num_tokens, first.num_cached_tokens) == (40, 0)
    assert (first.cache, first.compute_ms) == (CacheUse.MISS, 3.0)

    again = await embed(cache, model, ["a", "bcd"])
    assert (again.values, again.num_values, again.num_tokens) == (first.values, 2, 40)
    assert (again.cache, again.num_cached_tokens, again.compute_ms) == (CacheUse.HIT, 40, 0.0)

    some = await embed(cache, model, ["bcd", "xy", "a"])
    assert rows_of(some) == [(3.0, 2.0), (2.0, 3.0), (1.0, 1.0)]
    assert (some.cache, some.num_tokens, some.num_cached_tokens) == (CacheUse.MISS, 60, 40)
    assert model.computed == [TextPrompt("a"), TextPrompt("bcd"), TextPrompt("xy")]


async def test_an_input_that_comes_twice_is_computed_once(cache: EmbeddingCache) -> None:
    model = Model()
    result = await embed(cache, model, ["a", "a"])
    assert rows_of(result) == [(1.0, 1.0), (1.0, 1.0)]
    assert (result.num_tokens, result.num_cached_tokens) == (20, 10)


async def test_tokens_are_no_text(cache: EmbeddingCache) -> None:
    model = Model()
    await embed(cache, model, ["a"])
    request = EmbedRequest([TokenPrompt([97])])
    await cache.embed(ANN, model.served, request, model.compute)
    assert model.computed == [TextPrompt("a"), TokenPrompt([97])]


async def test_each_model_and_each_caller_has_its_own(cache: EmbeddingCache) -> None:
    model = Model()
    assert (await embed(cache, model, ["a"])).cache is CacheUse.MISS
    assert (await embed(cache, Model("another"), ["a"])).cache is CacheUse.MISS
    assert (await embed(cache, model, ["a"], BOB)).cache is CacheUse.MISS
    assert (await embed(cache, model, ["a"], BOB)).cache is CacheUse.HIT


async def test_unless_it_is_shared() -> None:
    cache, model = EmbeddingCache(entries_in_memory(), is_shared=True), Model()
    await embed(cache, model, ["a"])
    assert (await embed(cache, model, ["a"], BOB)).cache is CacheUse.HIT
    await cache.entries.close()


async def test_a_refusal_names_the_input_by_its_own_number(cache: EmbeddingCache) -> None:
    model = Model()
    await embed(cache, model, ["a"])
    with pytest.raises(PromptTooLong, match="input 1 is too long"):
        await embed(cache, model, ["a", "x" * 51])
    assert model.computed == [TextPrompt("a")]


async def test_a_model_that_is_loaded_for_it_is_known_by_then(cache: EmbeddingCache) -> None:
    model = Model()
    known, model.client.info = model.client.info, None

    async def load_and_compute(request: EmbedRequest) -> EmbedResult:
        model.client.info = known
        return await model.compute(request)

    request = EmbedRequest([TextPrompt("a")])
    first = await cache.embed(ANN, model.served, request, load_and_compute)
    assert first.cache is CacheUse.MISS
    assert (await embed(cache, model, ["a"])).values == first.values
    assert len(model.computed) == 1


async def test_of_a_model_that_changed_meanwhile_nothing_is_kept(cache: EmbeddingCache) -> None:
    model = Model("before")

    async def change_and_compute(request: EmbedRequest) -> EmbedResult:
        model.client.info = msgspec.structs.replace(KNOWN, fingerprint="after")
        return await model.compute(request)

    request = EmbedRequest([TextPrompt("a")])
    await cache.embed(ANN, model.served, request, change_and_compute)
    assert (await embed(cache, model, ["a"])).cache is CacheUse.MISS
    model.client.info = msgspec.structs.replace(KNOWN, fingerprint="before")
    assert (await embed(cache, model, ["a"])).cache is CacheUse.MISS


async def test_a_query_and_a_document_are_not_the_same(cache: EmbeddingCache) -> None:
    model = Model()
    for role in (None, TextRole.QUERY, TextRole.DOCUMENT, TextRole.QUERY):
        request = EmbedRequest([TextPrompt("a")], role=role)
        await cache.embed(ANN, model.served, request, model.compute)
    assert len(model.computed) == 3
