"""POST /v1/rerank: documents in order of what they have to do with a query. Knows no model.

One answer for clients of both services that named it: https://jina.ai/reranker/ and
https://docs.cohere.com/reference/rerank (v1 and v2).
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter
from msgspec import UNSET, UnsetType
from pydantic import Discriminator, Field, Tag
from starlette.responses import Response

from appliance.api.description import answers
from appliance.api.errors import RESPONSES
from appliance.api.fields.keeping import KeepAlive
from appliance.api.fields.request import RequestModel, TokenCount
from appliance.api.openai.embeddings import vectors_of
from appliance.api.transport.body import StrictJsonRoute
from appliance.api.transport.computed import ComputedAnswer
from appliance.gateway.lifecycle import Gateway
from appliance.protocol.requests import RerankRequest

MAX_DOCUMENTS = 1024
PATHS = ("/v1/rerank", "/v2/rerank", "/rerank")


class TextDocument(RequestModel):
    text: Annotated[str, Field(min_length=1)]


def _document_kind(value: object) -> str:
    return "<text>" if isinstance(value, str) else "<object>"


Document = Annotated[
    Annotated[str, Field(min_length=1), Tag("<text>")] | Annotated[TextDocument, Tag("<object>")],
    Discriminator(_document_kind),
]


class RerankBody(RequestModel):
    query: Annotated[str, Field(min_length=1)]
    documents: Annotated[
        list[Document], Field(min_length=1, max_length=MAX_DOCUMENTS, fail_fast=True)
    ]
    model: Annotated[str, Field(max_length=256)] | None = None
    top_n: TokenCount | None = None
    return_documents: bool | None = None
    max_tokens_per_doc: TokenCount | None = None
    keep_alive: KeepAlive = None

    @property
    def texts(self) -> list[str]:
        return [each if isinstance(each, str) else each.text for each in self.documents]

    def to_rerank_request(self) -> RerankRequest:
        return RerankRequest(self.query, self.texts, self.max_tokens_per_doc, self.keep_alive)


class RankedDocument(msgspec.Struct):
    text: str


class RankedResult(msgspec.Struct):
    index: int
    relevance_score: float
    document: RankedDocument | UnsetType = UNSET


class RerankUsage(msgspec.Struct):
    """Jina reads `total_tokens`; `prompt_tokens` is what others call the same."""

    total_tokens: int
    prompt_tokens: int


class BilledUnits(msgspec.Struct):
    search_units: int


class ApiVersion(msgspec.Struct):
    version: str


class RerankMeta(msgspec.Struct):
    """Cohere's; nothing is billed here: one search, as it counts them."""

    api_version: ApiVersion
    billed_units: BilledUnits


class RerankAnswer(msgspec.Struct, kw_only=True):
    object: Literal["list"] = "list"
    model: str
    results: list[RankedResult]
    usage: RerankUsage
    meta: RerankMeta


def rerank_answer(
    body: RerankBody, scores: list[float], model: str, num_tokens: int
) -> RerankAnswer:
    """The best documents first; of equal ones the earlier."""
    texts = body.texts
    order = sorted(range(len(scores)), key=lambda index: (-scores[index], index))[: body.top_n]
    results = [
        RankedResult(
            index, scores[index], RankedDocument(texts[index]) if body.return_documents else UNSET
        )
        for index in order
    ]
    return RerankAnswer(
        model=model,
        results=results,
        usage=RerankUsage(num_tokens, num_tokens),
        meta=RerankMeta(ApiVersion("2"), BilledUnits(1)),
    )


def rerank_routes(gateway: Gateway) -> APIRouter:
    router = APIRouter(tags=["rerank"], route_class=StrictJsonRoute)

    async def rerank(body: RerankBody) -> Response:
        """Documents by their relevance to a query, the best `top_n` first; in the
        shapes of Jina and of Cohere.

        Of a reranker the score is between 0 and 1; of any other embedding model it is
        the cosine of query and document. With `return_documents` each result has its
        text. A pair that is longer than the model's context is refused, unless
        `max_tokens_per_doc` says how many tokens of each document count.
        """
        model = gateway.router.resolve(body.model)

        async def compute() -> bytes:
            embedded = await gateway.embed(model, body.to_rerank_request())
            scores = [float(score) for score in vectors_of(embedded)[:, 0]]
            return msgspec.json.encode(rerank_answer(body, scores, model.id, embedded.num_tokens))

        return ComputedAnswer(compute)

    for path in PATHS:
        router.add_api_route(
            path,
            rerank,
            methods=["POST"],
            responses=RESPONSES | answers(RerankAnswer),
            name=f"rerank {path}",
        )
    return router
