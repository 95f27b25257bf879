"""POST /v1/rerank, as Jina and Cohere have it: documents by how near they are to a query. Knows no model.

Sources: https://jina.ai/reranker, https://docs.cohere.com/reference/rerank. One answer is read by clients of both.
The score is the cosine of the angle between the vectors of query and document.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter
from msgspec import UNSET, UnsetType
from pydantic import Discriminator, Field, Tag
from starlette.responses import Response

from appliance.api.body import StrictJsonRoute
from appliance.api.description import answers
from appliance.api.errors import RESPONSES
from appliance.api.openai.parameters import Label, Only
from appliance.api.openai.request import RequestModel
from appliance.api.openai.wire import encode
from appliance.api.vectors import vectors_of
from appliance.gateway.lifecycle import Gateway
from appliance.worker.messages import Embed, TextPrompt

MAX_DOCUMENTS = 2048

Text = Annotated[str, Field(min_length=1)]


class _Document(RequestModel):
    text: Text


def _document_kind(value: object) -> str | None:
    return "<text>" if isinstance(value, str) else "<object>" if isinstance(value, dict) else None


Document = Annotated[
    Annotated[Text, Tag("<text>")] | Annotated[_Document, Tag("<object>")],
    Discriminator(
        _document_kind,
        custom_error_type="invalid_value",
        custom_error_message="A document must be a text or an object with a 'text'",
    ),
]


class RerankRequest(RequestModel):
    model: Annotated[str, Field(max_length=256)] | None = None
    query: Text
    documents: Annotated[list[Document], Field(min_length=1, max_length=MAX_DOCUMENTS, fail_fast=True)]
    top_n: Annotated[int, Field(ge=1)] | None = None
    return_documents: bool | None = None
    user: Label | None = None
    priority: Annotated[Any, Only(0)] = None  # Cohere's
    rank_fields: Annotated[Any, Only(["text"])] = None
    max_chunks_per_doc: Annotated[Any, Only(1)] = None
    max_tokens_per_doc: Annotated[Any, Only()] = None
    truncation: Annotated[Any, Only(False)] = None  # Jina's

    def texts(self) -> list[str]:
        return [document if isinstance(document, str) else document.text for document in self.documents]


class RankedDocument(msgspec.Struct):
    text: str


class Ranked(msgspec.Struct, kw_only=True):
    index: int
    relevance_score: float
    document: RankedDocument | UnsetType = UNSET


class RerankUsage(msgspec.Struct):
    prompt_tokens: int
    total_tokens: int


class BilledUnits(msgspec.Struct):
    search_units: int


class RerankMeta(msgspec.Struct):
    billed_units: BilledUnits


class RankedList(msgspec.Struct, kw_only=True):
    id: str
    model: str
    results: list[Ranked]
    usage: RerankUsage
    meta: RerankMeta


def rerank_routes(gateway: Gateway) -> APIRouter:
    router = APIRouter(tags=["rerank"], route_class=StrictJsonRoute, responses=RESPONSES | answers(RankedList))

    @router.post("/v1/rerank")
    @router.post("/v2/rerank", include_in_schema=False)
    @router.post("/rerank", include_in_schema=False)
    async def rerank(request: RerankRequest) -> Response:
        """The documents nearest to the query, best first."""
        model = gateway.router.resolve(request.model)
        texts = request.texts()
        answer = await gateway.ask(model, Embed([TextPrompt(text) for text in [request.query, *texts]], "documents"))
        query, *documents = vectors_of(answer)
        scores = [float(query @ document) for document in documents]
        record = RankedList(
            id=f"rerank-{secrets.token_hex(12)}",
            model=model.id,
            results=[
                Ranked(
                    index=index,
                    relevance_score=scores[index],
                    document=RankedDocument(texts[index]) if request.return_documents else UNSET,
                )
                for index in _best(scores, request.top_n)
            ],
            usage=RerankUsage(answer.num_tokens, answer.num_tokens),
            meta=RerankMeta(BilledUnits(1)),
        )
        return Response(encode(record), media_type="application/json")

    return router


def _best(scores: Sequence[float], num_wanted: int | None) -> list[int]:
    """Of equals the first comes first."""
    return sorted(range(len(scores)), key=lambda index: -scores[index])[:num_wanted]
