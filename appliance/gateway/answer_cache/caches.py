"""Both caches of a server, as far as it has them.

Knows no request and no value.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from pathlib import Path

from appliance.gateway.accounts.caller import Caller
from appliance.gateway.answer_cache.answers import AnswerCache
from appliance.gateway.answer_cache.entries import CacheRules, Entries
from appliance.gateway.answer_cache.vectors import EmbeddingCache
from appliance.gateway.router import ServedModel
from appliance.protocol.events import EmbedResult, Event
from appliance.protocol.requests import EmbedRequest, GenerateRequest, RerankRequest

RESPONSES_FILE = "response-cache.sqlite"
EMBEDDINGS_FILE = "embedding-cache.sqlite"

Vectors = EmbedRequest | RerankRequest


class Caches:
    """Without a cache, everything is computed."""

    def __init__(
        self, answers: AnswerCache | None = None, vectors: EmbeddingCache | None = None
    ) -> None:
        self._answers = answers
        self._vectors = vectors

    def generate(
        self,
        caller: Caller,
        model: ServedModel,
        request: GenerateRequest,
        computed: AsyncGenerator[Event, None],
    ) -> AsyncGenerator[Event, None]:
        """See `AnswerCache.generate`."""
        if self._answers is None:
            return computed
        return self._answers.generate(caller, model, request, computed)

    def resume(self, resume_id: str) -> AsyncGenerator[Event, None] | None:
        """The rest of an answer from the cache; None where it is being computed."""
        return None if self._answers is None else self._answers.resume(resume_id)

    def forget(self, resume_id: str) -> None:
        """Nobody resumes it."""
        if self._answers is not None:
            self._answers.forget(resume_id)

    async def embed(
        self,
        caller: Caller,
        model: ServedModel,
        request: Vectors,
        compute: Callable[[Vectors], Awaitable[EmbedResult]],
    ) -> EmbedResult:
        """See `EmbeddingCache.embed`; scores are always computed."""
        if self._vectors is None or not isinstance(request, EmbedRequest):
            return await compute(request)
        return await self._vectors.embed(caller, model, request, compute)

    def sizes(self) -> Mapping[str, int]:
        """Bytes on disk, by cache."""
        found = {}
        if self._answers is not None:
            found["response"] = self._answers.entries.num_bytes
        if self._vectors is not None:
            found["embedding"] = self._vectors.entries.num_bytes
        return found

    async def close(self) -> None:
        """Returns when everything is written."""
        for cache in (self._answers, self._vectors):
            if cache is not None:
                await cache.entries.close()


NO_CACHES = Caches()


def open_caches(
    state_dir: Path,
    *,
    responses: CacheRules | None,
    embeddings: CacheRules | None,
    are_shared: bool,
) -> Caches:
    """None of either: it is off. Raises `BadDatabase` where a newer program has written one
    of the files.
    """

    def opened(file: str, rules: CacheRules | None) -> Entries | None:
        return None if rules is None else Entries.in_file(state_dir / file, rules)

    answers, vectors = opened(RESPONSES_FILE, responses), opened(EMBEDDINGS_FILE, embeddings)
    return Caches(
        None if answers is None else AnswerCache(answers, is_shared=are_shared),
        None if vectors is None else EmbeddingCache(vectors, is_shared=are_shared),
    )
