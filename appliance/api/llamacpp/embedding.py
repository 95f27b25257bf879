"""POST /embedding, as llama.cpp has it: texts or tokens become rows of numbers.

Knows no model.

Source: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md, POST
/embedding and POST /embeddings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

import msgspec
import numpy as np
from pydantic import AfterValidator, AliasChoices, Field
from pydantic_core import PydanticCustomError
from starlette.responses import Response

from appliance.api.fields.request import MAX_INT32
from appliance.api.fields.retention import KeepAliveField
from appliance.api.fields.timeouts import TimeoutField
from appliance.api.format_router import FormatRouter
from appliance.api.llamacpp.errors import LLAMA_ERRORS
from appliance.api.openai.embeddings import Input, embed_inputs
from appliance.api.transport.caller import RequestCaller
from appliance.api.transport.computed_response import ComputedResponse
from appliance.api.transport.wire_format import WireRecord
from appliance.api.vectors import EmbeddingRows, vectors_of
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.queue.deadline import ask_timeout
from appliance.protocol.requests import EmbedRequest

_RAW, _MAX_ABSOLUTE, _EUCLIDEAN = -1, 0, 2  # llama.cpp's numbers of norms; the others are p
_MAX_ABSOLUTE_VALUE = 32760.0  # llama.cpp's: so that they fit into 16 bits
_ROWS_AT_ONCE = 32  # of numbers as text: then other requests have their turn


def _known_norm(norm: int) -> int:
    if norm == _RAW:
        raise PydanticCustomError(
            "unsupported_parameter",
            "Embeddings without normalization are not supported: leave it out, or send a norm "
            "from 0 on.",
        )
    return norm


class NativeEmbeddingRequest(TimeoutField):
    content: Annotated[Input, Field(validation_alias=AliasChoices("content", "input"))]
    embd_normalize: (
        Annotated[int, Field(ge=_RAW, le=MAX_INT32), AfterValidator(_known_norm)] | None
    ) = None
    model: Annotated[str, Field(max_length=256)] | None = None
    keep_alive: KeepAliveField = None


class NativeEmbedding(msgspec.Struct):
    index: int
    embedding: Annotated[
        list[list[float]], msgspec.Meta(description="One row: the pooled embedding.")
    ]


def normalized(vectors: EmbeddingRows, norm: int) -> EmbeddingRows:
    """As llama.cpp's `common_embd_normalize`, of vectors of any length but 0."""
    if norm == _EUCLIDEAN:
        return vectors  # they are
    absolute = np.abs(vectors.astype(np.float64))
    if norm == _MAX_ABSOLUTE:
        lengths = absolute.max(axis=1, keepdims=True) / _MAX_ABSOLUTE_VALUE
    else:
        largest = absolute.max(axis=1, keepdims=True)
        # taken out first: a high power of a small number is 0
        ratios = absolute / np.where(largest > 0, largest, 1)
        lengths = largest * (ratios**norm).sum(axis=1, keepdims=True) ** (1 / norm)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)


async def _rows(vectors: EmbeddingRows) -> Sequence[WireRecord]:
    records: list[WireRecord] = []
    for index, vector in enumerate(vectors):
        row = msgspec.Raw(msgspec.json.encode([vector.tolist()]))
        records.append({"index": index, "embedding": row})
        if index % _ROWS_AT_ONCE == _ROWS_AT_ONCE - 1:
            await asyncio.sleep(0)
    return records


def native_embedding_routes(gateway: Gateway) -> FormatRouter:
    router = FormatRouter("llama.cpp", error_shape=LLAMA_ERRORS)

    @router.post("/embedding", responses=router.returns(list[NativeEmbedding]))
    async def embedding(request: NativeEmbeddingRequest, caller: RequestCaller) -> Response:
        """A vector for each text or list of token ids, from an embedding model.

        `embd_normalize` is 2 (length 1) if absent, 0 (the largest value is 32760) or
        another norm.
        """
        model = gateway.models_of(caller).resolve(request.model)
        norm = _EUCLIDEAN if request.embd_normalize is None else request.embd_normalize

        async def compute() -> Sequence[WireRecord]:
            ask_timeout(request.timeout)
            asked = EmbedRequest(embed_inputs(request.content), keep_alive_s=request.keep_alive)
            embedded = await gateway.embed(caller, model, asked)
            return await _rows(normalized(vectors_of(embedded), norm))

        return ComputedResponse(compute)

    return router
