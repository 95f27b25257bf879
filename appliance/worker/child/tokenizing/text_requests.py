"""Requests for text, prepared:
the prompt is tokenized, and what the output keeps to is compiled.

Knows no engine and no thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import msgspec

from appliance.errors import ApplianceError, BadRequest
from appliance.protocol.requests import GenerateRequest
from appliance.text.chat_template import TemplateTooSlow
from appliance.text.chats.model_chat import RenderedChat
from appliance.worker.child.tokenizing.checkpoint_places import CheckpointPlaces
from appliance.worker.child.tokenizing.output_formats import (
    PLAIN_TEXT,
    OutputFormat,
    OutputFormats,
)
from appliance.worker.child.tokenizing.prompts import Prompts
from appliance.worker.frames import Embed, Submit


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A request for text, ready for the engine; with an `error`, to be refused."""

    request_id: int
    request: GenerateRequest
    tokens: list[int]
    output_format: OutputFormat = PLAIN_TEXT
    places: Mapping[int, bool] = field(default_factory=dict)  # as in `EngineRequest`
    error: ApplianceError | None = None


class TextRequests:
    """Implements `appliance.worker.child.tokenizing.lanes.Preparing`."""

    def __init__(
        self, prompts: Prompts, formats: OutputFormats, places: CheckpointPlaces | None = None
    ) -> None:
        """Without `places`, no prompt has any."""
        self._prompts = prompts
        self._formats = formats
        self._places = places

    def prepare(self, message: Submit | Embed, *, template_cpu_s: float) -> Prepared:
        """Raises `BadRequest` for an `Embed`, and `TemplateTooSlow`."""
        if isinstance(message, Embed):
            raise BadRequest(
                "This model generates text and is not an embedding model. Serve an embedding "
                "model as well (such as nomic-embed-text, bge or all-MiniLM as GGUF, or a "
                "BertModel checkpoint), and name it in 'model'.",
                param="model",
            )
        request_id, request = message.request_id, message.request
        try:
            rendered = self._prompts.rendered(request.prompt, template_cpu_s=template_cpu_s)
            tokens = self._prompts.tokens(request.prompt, rendered)
            request = self._with_biased_tokens(request)
            output_format = self._formats.prepare(request, rendered)
            places = self._places_of(request, rendered, tokens)
        except TemplateTooSlow:
            raise
        except ApplianceError as error:
            return Prepared(request_id=request_id, request=request, tokens=[], error=error)
        return Prepared(
            request_id=request_id,
            request=request,
            tokens=tokens,
            output_format=output_format,
            places=places,
        )

    def _places_of(
        self, request: GenerateRequest, rendered: RenderedChat | None, tokens: list[int]
    ) -> dict[int, bool]:
        if self._places is None or rendered is None:
            return {}
        return self._places.of(request.prompt, rendered.text, tokens)

    def _with_biased_tokens(self, request: GenerateRequest) -> GenerateRequest:
        """Texts in biases stand for all their tokens, as in llama.cpp."""
        sampling = request.sampling
        if not sampling.text_bias:
            return request
        of_texts = {
            token: bias
            for text, bias in sampling.text_bias.items()
            for token in self._prompts.plain_tokens(text)
        }
        biases = {**of_texts, **sampling.logit_bias}
        return msgspec.structs.replace(
            request, sampling=replace(sampling, logit_bias=biases, text_bias={})
        )
