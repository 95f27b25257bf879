"""POST /v1/embeddings: texts to vectors. Knows no model and no pooling.

Source: https://platform.openai.com/docs/api-reference/embeddings/create
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
import numpy as np
from fastapi import APIRouter
from pydantic import Discriminator, Field, Tag
from starlette.responses import Response

from appliance.api.body import StrictJsonRoute
from appliance.api.description import answers
from appliance.api.errors import RESPONSES
from appliance.api.openai.parameters import Label
from appliance.api.openai.request import RequestModel, TokenId
from appliance.api.openai.wire import encode
from appliance.api.vectors import Vector, vectors_of
from appliance.errors import BadRequest
from appliance.gateway.lifecycle import Gateway
from appliance.worker.messages import Embed, TextPrompt, TokenPrompt

MAX_INPUTS = 2048  # OpenAI's

Text = Annotated[str, Field(min_length=1)]
Tokens = Annotated[list[TokenId], Field(min_length=1, fail_fast=True)]


def _input_kind(value: object) -> str | None:
    if isinstance(value, str):
        return "<text>"
    if not isinstance(value, list):
        return None
    first = value[0] if value else ""
    return {str: "<texts>", int: "<tokens>", list: "<token lists>"}.get(type(first))


Input = Annotated[
    Annotated[Text, Tag("<text>")]
    | Annotated[list[Text], Field(min_length=1, max_length=MAX_INPUTS, fail_fast=True), Tag("<texts>")]
    | Annotated[Tokens, Tag("<tokens>")]
    | Annotated[list[Tokens], Field(min_length=1, max_length=MAX_INPUTS, fail_fast=True), Tag("<token lists>")],
    Discriminator(
        _input_kind,
        custom_error_type="invalid_value",
        custom_error_message="It must be a text, a list of texts, a list of token ids or a list of such lists",
    ),
]


class EmbeddingsRequest(RequestModel):
    model: Annotated[str, Field(max_length=256)] | None = None
    input: Input
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, le=65536)] | None = None
    user: Label | None = None

    def texts(self) -> list[TextPrompt | TokenPrompt]:
        given = self.input
        if isinstance(given, str):
            return [TextPrompt(given)]
        tokens = [token for token in given if isinstance(token, int)]
        if tokens:
            return [TokenPrompt(tokens)]
        return [_prompt(each) for each in given if not isinstance(each, int)]


def _prompt(given: str | list[int]) -> TextPrompt | TokenPrompt:
    return TextPrompt(given) if isinstance(given, str) else TokenPrompt(given)


class Embedding(msgspec.Struct, kw_only=True):
    """`embedding` is numbers, or, as base64, their bytes: float32, little-endian."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingsUsage(msgspec.Struct):
    prompt_tokens: int
    total_tokens: int


class EmbeddingList(msgspec.Struct, kw_only=True):
    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingsUsage


def embedding_routes(gateway: Gateway) -> APIRouter:
    router = APIRouter(tags=["openai"], route_class=StrictJsonRoute)

    @router.post("/v1/embeddings", responses=RESPONSES | answers(EmbeddingList))
    async def create_embeddings(request: EmbeddingsRequest) -> Response:
        """A vector of length 1 for each text; those of several requests are computed together."""
        model = gateway.router.resolve(request.model)
        answer = await gateway.ask(model, Embed(request.texts(), "input"))
        vectors = _cut(vectors_of(answer), request.dimensions)
        written = _as_base64 if request.encoding_format == "base64" else _as_numbers
        record = EmbeddingList(
            data=[Embedding(index=index, embedding=written(vector)) for index, vector in enumerate(vectors)],
            model=model.id,
            usage=EmbeddingsUsage(answer.num_tokens, answer.num_tokens),
        )
        return Response(encode(record), media_type="application/json")

    return router


def _cut(vectors: Sequence[Vector], dimensions: int | None) -> Sequence[Vector]:
    """The first so many numbers, of length 1 again. Raises `BadRequest` where there are not so many."""
    if dimensions is None:
        return vectors
    if dimensions > len(vectors[0]):
        raise BadRequest(f"This model's vectors have {len(vectors[0])} dimensions.", param="dimensions")
    shorter = [vector[:dimensions] for vector in vectors]
    return [vector / max(float(np.linalg.norm(vector)), 1e-12) for vector in shorter]


def _as_base64(vector: Vector) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")


def _as_numbers(vector: Vector) -> list[float]:
    numbers: list[float] = vector.tolist()
    return numbers
