"""POST /v1/rerank: documents in order of their relevance to a query. Knows no model.

One response for clients of both services that named it: https://jina.ai/reranker/ and
https://docs.cohere.com/reference/rerank (v1 and v2).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType
from pydantic import Discriminator, Field, Tag
from starlette.responses import Response

from appliance.api.fields.neutral import NeutralOnly
from appliance.api.fields.request import RequestModel, TokenCount
from appliance.api.fields.retention import KeepAliveField
from appliance.api.fields.timeouts import TimeoutField
from appliance.api.format_router import FormatRouter
from appliance.api.transport.caller import RequestCaller
from appliance.api.transport.computed_response import ComputedResponse
from appliance.api.vectors import vectors_of
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.queue.deadline import ask_timeout
from appliance.protocol.requests import RerankRequest

MAX_DOCUMENTS = 1024
PATHS = ("/v1/rerank", "/v2/rerank", "/rerank", "/v1/reranking", "/reranking")


class TextDocument(RequestModel):
    text: Annotated[str, Field(min_length=1)]


def _document_kind(value: object) -> str:
    return "<text>" if isinstance(value, str) else "<object>"


Document = Annotated[
    Annotated[str, Field(min_length=1), Tag("<text>")] | Annotated[TextDocument, Tag("<object>")],
    Discriminator(_document_kind),
]


class RerankBody(TimeoutField):
    query: Annotated[str, Field(min_length=1)]
    documents: Annotated[
        list[Document], Field(min_length=1, max_length=MAX_DOCUMENTS, fail_fast=True)
    ]
    model: Annotated[str, Field(max_length=256)] | None = None
    top_n: TokenCount | None = None
    return_documents: bool | None = None
    max_tokens_per_doc: TokenCount | None = None
    keep_alive: KeepAliveField = None
    max_chunks_per_doc: Annotated[Any, NeutralOnly()] = None  # a document is one chunk

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
    total_tokens: int  # Jina's name
    prompt_tokens: int  # the same, as others call it


class BilledUnits(msgspec.Struct):
    search_units: int


class ApiVersion(msgspec.Struct):
    version: str


class RerankMeta(msgspec.Struct):
    """Cohere's. Nothing is billed here; each request counts as one search."""

    api_version: ApiVersion
    billed_units: BilledUnits


class RerankRecord(msgspec.Struct, kw_only=True):
    object: Literal["list"] = "list"
    model: str
    results: list[RankedResult]
    usage: RerankUsage
    meta: RerankMeta


def rerank_record(
    body: RerankBody, scores: list[float], model: str, num_tokens: int
) -> RerankRecord:
    """The best documents first; of equal ones the earlier."""
    texts = body.texts
    order = sorted(range(len(scores)), key=lambda index: (-scores[index], index))[: body.top_n]
    results = [
        RankedResult(
            index, scores[index], RankedDocument(texts[index]) if body.return_documents else UNSET
        )
        for index in order
    ]
    return RerankRecord(
        model=model,
        results=results,
        usage=RerankUsage(num_tokens, num_tokens),
        meta=RerankMeta(ApiVersion("2"), BilledUnits(1)),
    )


def rerank_routes(gateway: Gateway) -> FormatRouter:
    router = FormatRouter("rerank")

    async def rerank(body: RerankBody, caller: RequestCaller) -> Response:
        """Documents in order of their relevance to a query, the best `top_n` of them;
        in the shapes of Jina and of Cohere.

        A reranker's scores are between 0 and 1; those of any other embedding model are
        the cosine of query and document. With `return_documents` each result includes
        its text. A pair that is longer than the model's context is refused, unless
        `max_tokens_per_doc` limits how many tokens of each document count.
        """
        model = gateway.models_of(caller).resolve(body.model)

        async def compute() -> RerankRecord:
            ask_timeout(body.timeout)
            embedded = await gateway.embed(caller, model, body.to_rerank_request())
            scores = [float(score) for score in vectors_of(embedded)[:, 0]]
            return rerank_record(body, scores, model.id, embedded.num_tokens)

        return ComputedResponse(compute)

    for path in PATHS:
        router.add_api_route(
            path,
            rerank,
            methods=["POST"],
            responses=router.returns(RerankRecord),
            name=f"rerank {path}",
        )
    return router
