"""POST /v1/embeddings: its request to an EmbedRequest, and vectors to its answer.

Knows no model and no HTTP.

Source: https://platform.openai.com/docs/api-reference/embeddings/create
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from fastapi import APIRouter
from pydantic import Discriminator, Field, Tag
from starlette.responses import Response

from appliance.api.description import answers
from appliance.api.errors import RESPONSES
from appliance.api.fields.keeping import KeepAlive
from appliance.api.fields.parameters import Label
from appliance.api.fields.request import RequestModel, TokenCount, TokenId
from appliance.api.transport.body import StrictJsonRoute
from appliance.api.transport.computed import ComputedAnswer
from appliance.errors import BadRequest
from appliance.gateway.lifecycle import Gateway
from appliance.protocol.events import EmbedResult
from appliance.protocol.requests import EmbedRequest, TextPrompt, TokenPrompt

MAX_INPUTS = 2048  # OpenAI's
_ROWS_AT_ONCE = 32  # of numbers as text: then other requests have their turn

Vectors = npt.NDArray[np.float32]


def _input_kind(value: object) -> str | None:
    if isinstance(value, str):
        return "<text>"
    if not isinstance(value, list):
        return None
    if value and isinstance(value[0], str):
        return "<texts>"
    if value and isinstance(value[0], list):
        return "<token lists>"
    return "<tokens>"


_Text = Annotated[str, Field(min_length=1)]
_Tokens = Annotated[list[TokenId], Field(min_length=1, fail_fast=True)]
_Several = Field(min_length=1, max_length=MAX_INPUTS, fail_fast=True)

Input = Annotated[
    Annotated[_Text, Tag("<text>")]
    | Annotated[list[_Text], _Several, Tag("<texts>")]
    | Annotated[_Tokens, Tag("<tokens>")]
    | Annotated[list[_Tokens], _Several, Tag("<token lists>")],
    Discriminator(
        _input_kind,
        custom_error_type="invalid_value",
        custom_error_message="The input must be a string, a list of token ids, or a list of these",
    ),
]


class EmbeddingsRequest(RequestModel):
    input: Input
    model: Annotated[str, Field(max_length=256)] | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: TokenCount | None = None
    user: Label | None = None
    keep_alive: KeepAlive = None

    def to_embed_request(self) -> EmbedRequest:
        return EmbedRequest(self._inputs(), keep_alive_s=self.keep_alive)

    def _inputs(self) -> list[TextPrompt | TokenPrompt]:
        if isinstance(self.input, str):
            return [TextPrompt(self.input)]
        tokens = [each for each in self.input if isinstance(each, int)]
        if tokens:
            return [TokenPrompt(tokens)]
        return [_one_input(each) for each in self.input if not isinstance(each, int)]


def _one_input(value: str | list[int]) -> TextPrompt | TokenPrompt:
    return TextPrompt(value) if isinstance(value, str) else TokenPrompt(value)


class Embedding(msgspec.Struct, kw_only=True):
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingUsage(msgspec.Struct):
    prompt_tokens: int
    total_tokens: int


class EmbeddingList(msgspec.Struct, kw_only=True):
    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


def vectors_of(embedded: EmbedResult) -> Vectors:
    """float32 [inputs, values]."""
    return np.frombuffer(embedded.values, "<f4").reshape(-1, embedded.num_values)


def shortened(vectors: Vectors, num_values: int | None) -> Vectors:
    """The first `num_values` of each, again at length 1.

    Raises `BadRequest` for more than there are.
    """
    size = vectors.shape[1]
    if num_values is None or num_values == size:
        return vectors
    if num_values > size:
        raise BadRequest(
            f"This model's embeddings have {size} dimensions; {num_values} were asked for.",
            param="dimensions",
        )
    cut = vectors[:, :num_values]
    lengths = np.linalg.norm(cut, axis=1, keepdims=True)
    return (cut / np.where(lengths > 0, lengths, 1)).astype(np.float32)


async def embeddings_body(
    vectors: Vectors, model: str, num_tokens: int, *, as_base64: bool
) -> bytes:
    """An `EmbeddingList`. Numbers as text take their time: in between, others have their turn."""
    records = []
    for index, record in enumerate(_records(vectors, as_base64=as_base64)):
        records.append(msgspec.json.encode(record))
        if index % _ROWS_AT_ONCE == _ROWS_AT_ONCE - 1:
            await asyncio.sleep(0)
    usage = msgspec.json.encode(EmbeddingUsage(num_tokens, num_tokens))
    head = b'{"object":"list","data":[%b]' % b",".join(records)
    return b'%b,"model":%b,"usage":%b}' % (head, msgspec.json.encode(model), usage)


def _records(vectors: Vectors, *, as_base64: bool) -> Iterator[Embedding]:
    for index, vector in enumerate(vectors):
        packed = (
            base64.b64encode(vector.astype("<f4").tobytes()).decode()
            if as_base64
            else vector.tolist()
        )
        yield Embedding(index=index, embedding=packed)


def embedding_routes(gateway: Gateway) -> APIRouter:
    router = APIRouter(tags=["openai"], route_class=StrictJsonRoute)

    @router.post("/v1/embeddings", responses=RESPONSES | answers(EmbeddingList))
    async def create_embeddings(request: EmbeddingsRequest) -> Response:
        """A vector of length 1 for each text or list of token ids, from an embedding model.

        `encoding_format` is `float` or `base64` (little-endian float32); `dimensions`
        keeps the first of them, again at length 1. A text that is longer than the
        model's context is refused, never cut off.
        """
        model = gateway.router.resolve(request.model)
        as_base64 = request.encoding_format == "base64"

        async def compute() -> bytes:
            embedded = await gateway.embed(model, request.to_embed_request())
            vectors = shortened(vectors_of(embedded), request.dimensions)
            return await embeddings_body(
                vectors, model.id, embedded.num_tokens, as_base64=as_base64
            )

        return ComputedAnswer(compute)

    return router
