"""POST /v1/embeddings: its request to an EmbedRequest, and vectors to its record.

Knows no model and no HTTP.

Source: https://platform.openai.com/docs/api-reference/embeddings/create
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
from pydantic import Discriminator, Field, Tag
from starlette.responses import Response

from appliance.api.fields.neutral import Hint, NeutralOnly
from appliance.api.fields.request import TokenCount, TokenId
from appliance.api.fields.retention import KeepAliveField
from appliance.api.fields.timeouts import TimeoutField
from appliance.api.format_router import FormatRouter
from appliance.api.transport.caller import RequestCaller
from appliance.api.transport.computed_response import ComputedResponse
from appliance.api.transport.wire_format import WireRecord
from appliance.api.vectors import EmbeddingRows, shortened, vectors_of
from appliance.gateway.accounts.caller import Caller
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.queue.deadline import ask_timeout
from appliance.protocol.requests import EmbedRequest, TextPrompt, TextRole, TokenPrompt

MAX_INPUTS = 2048  # OpenAI's
_ROWS_AT_ONCE = 32  # of numbers as text: then other requests have their turn


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


# ours, Voyage's, Cohere's and NVIDIA's words
InputType = Literal["query", "document", "search_query", "search_document", "passage"]
_ROLES: dict[InputType, TextRole] = {
    "query": TextRole.QUERY,
    "search_query": TextRole.QUERY,
    "document": TextRole.DOCUMENT,
    "search_document": TextRole.DOCUMENT,
    "passage": TextRole.DOCUMENT,
}


class EmbeddingsRequest(TimeoutField):
    input: Input
    model: Annotated[str, Field(max_length=256)] | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: TokenCount | None = None
    user: Hint = None
    input_type: InputType | None = None
    keep_alive: KeepAliveField = None

    # Inputs are used whole, and vectors have length 1.
    normalize: Annotated[Any, NeutralOnly(True)] = None
    truncate: Annotated[Any, NeutralOnly(False, "NONE")] = None
    exact: Annotated[Any, NeutralOnly(False)] = None  # rows of several inputs are one step
    truncate_prompt_tokens: Annotated[Any, NeutralOnly()] = None

    def to_embed_request(self) -> EmbedRequest:
        role = None if self.input_type is None else _ROLES[self.input_type]
        return EmbedRequest(embed_inputs(self.input), keep_alive_s=self.keep_alive, role=role)


def embed_inputs(given: Input) -> list[TextPrompt | TokenPrompt]:
    """One for each vector."""
    if isinstance(given, str):
        return [TextPrompt(given)]
    tokens = [each for each in given if isinstance(each, int)]
    if tokens:
        return [TokenPrompt(tokens)]
    return [_one_input(each) for each in given if not isinstance(each, int)]


def _one_input(value: str | list[int]) -> TextPrompt | TokenPrompt:
    return TextPrompt(value) if isinstance(value, str) else TokenPrompt(value)


class EmbeddingRecord(msgspec.Struct, kw_only=True):
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingUsage(msgspec.Struct):
    prompt_tokens: int
    total_tokens: int


class EmbeddingList(msgspec.Struct, kw_only=True):
    object: Literal["list"] = "list"
    data: list[EmbeddingRecord]
    model: str
    usage: EmbeddingUsage


async def embedding_list(
    vectors: EmbeddingRows, model: str, num_tokens: int, *, as_base64: bool
) -> WireRecord:
    """An `EmbeddingList` whose rows are JSON already: numbers as text take their time,
    and in between others have their turn.
    """
    records = []
    for index, record in enumerate(_records(vectors, as_base64=as_base64)):
        records.append(msgspec.Raw(msgspec.json.encode(record)))
        if index % _ROWS_AT_ONCE == _ROWS_AT_ONCE - 1:
            await asyncio.sleep(0)
    usage = EmbeddingUsage(num_tokens, num_tokens)
    return {"object": "list", "data": records, "model": model, "usage": usage}


def _records(vectors: EmbeddingRows, *, as_base64: bool) -> Iterator[EmbeddingRecord]:
    for index, vector in enumerate(vectors):
        packed = (
            base64.b64encode(vector.astype("<f4").tobytes()).decode()
            if as_base64
            else vector.tolist()
        )
        yield EmbeddingRecord(index=index, embedding=packed)


async def embed(gateway: Gateway, caller: Caller, request: EmbeddingsRequest) -> WireRecord:
    """An `EmbeddingList`. Raises `ApplianceError` where there is none."""
    model = gateway.models_of(caller).resolve(request.model)
    ask_timeout(request.timeout)
    embedded = await gateway.embed(caller, model, request.to_embed_request())
    vectors = shortened(vectors_of(embedded), request.dimensions)
    as_base64 = request.encoding_format == "base64"
    return await embedding_list(vectors, model.id, embedded.num_tokens, as_base64=as_base64)


def embedding_routes(gateway: Gateway) -> FormatRouter:
    router = FormatRouter("openai")

    @router.post("/v1/embeddings", responses=router.returns(EmbeddingList))
    async def create_embeddings(request: EmbeddingsRequest, caller: RequestCaller) -> Response:
        """A vector of length 1 for each text or list of token ids,
        from an embedding model.

        `encoding_format` is `float` or `base64` (little-endian float32); `dimensions`
        keeps the first values, normalized to length 1 again. `input_type` is `query` or
        `document`: the model's own prompt for that goes in front of every text. A text
        that is longer than the model's context is refused, never truncated.
        """
        return ComputedResponse(lambda: embed(gateway, caller, request))

    return router
