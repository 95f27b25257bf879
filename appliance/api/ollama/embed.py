"""POST /api/embed, and its older form /api/embeddings: vectors for texts.

Knows no model and no HTTP.

Source: https://github.com/ollama/ollama/blob/main/docs/api.md
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from starlette.responses import Response

from appliance.api.fields.request import TokenCount
from appliance.api.format_router import FormatRouter
from appliance.api.ollama.errors import OLLAMA_ERRORS
from appliance.api.ollama.names import resolve
from appliance.api.ollama.request import ModelRequest
from appliance.api.ollama.times import Stopwatch
from appliance.api.ollama.wire import EmbedRecord, OllamaEmbedding
from appliance.api.transport.caller import RequestCaller
from appliance.api.transport.computed_response import ComputedResponse
from appliance.api.transport.wire_format import WireRecord
from appliance.api.vectors import EmbeddingRows, shortened, vectors_of
from appliance.gateway.accounts.caller import Caller
from appliance.gateway.lifecycle import Gateway
from appliance.gateway.router import ServedModel
from appliance.protocol.requests import EmbedRequest, TextPrompt

_MAX_INPUTS = 2048
_Text = Annotated[str, Field(min_length=1)]


class OllamaEmbedRequest(ModelRequest):
    input: str | Annotated[list[_Text], Field(max_length=_MAX_INPUTS, fail_fast=True)] = ""
    dimensions: TokenCount | None = None

    @property
    def inputs(self) -> list[str]:
        if isinstance(self.input, str):
            return [self.input] if self.input else []
        return self.input


class OllamaEmbeddingsRequest(ModelRequest):
    prompt: str = ""


def embed_routes(gateway: Gateway) -> FormatRouter:
    router = FormatRouter("ollama", error_shape=OLLAMA_ERRORS)

    async def vectors(
        caller: Caller, model: ServedModel, inputs: list[str], request: ModelRequest
    ) -> tuple[EmbeddingRows | None, int]:
        """And how many tokens they took. Without inputs the model is only loaded."""
        if not inputs:
            await gateway.stay(model, request.keep_alive)
            return None, 0
        prompts: list[TextPrompt] = [TextPrompt(text) for text in inputs]
        embedded = await gateway.embed(
            caller, model, EmbedRequest([*prompts], keep_alive_s=request.keep_alive)
        )
        return vectors_of(embedded), embedded.num_tokens

    @router.post("/api/embed", responses=router.returns(EmbedRecord))
    async def embed(request: OllamaEmbedRequest, caller: RequestCaller) -> Response:
        """A vector of length 1 for each text, from an embedding model.

        A text that is longer than the model's context is refused, never truncated.
        """
        stopwatch = Stopwatch()
        model = resolve(gateway.models_of(caller), request.model)

        async def compute() -> WireRecord:
            if model.client.info is None:
                await gateway.stay(model, None)
            stopwatch.accept()
            rows, num_tokens = await vectors(caller, model, request.inputs, request)
            return EmbedRecord(
                model=request.model or model.id,
                embeddings=[] if rows is None else shortened(rows, request.dimensions).tolist(),
                total_duration=stopwatch.total_ns,
                load_duration=stopwatch.load_ns,
                prompt_eval_count=num_tokens,
            )

        return ComputedResponse(compute)

    @router.post("/api/embeddings", responses=router.returns(OllamaEmbedding))
    async def embeddings(request: OllamaEmbeddingsRequest, caller: RequestCaller) -> Response:
        """The older form, for one text."""
        model = resolve(gateway.models_of(caller), request.model)

        async def compute() -> WireRecord:
            inputs = [request.prompt] if request.prompt else []
            rows, _ = await vectors(caller, model, inputs, request)
            return OllamaEmbedding(embedding=[] if rows is None else rows[0].tolist())

        return ComputedResponse(compute)

    return router
