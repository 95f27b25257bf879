"""What Ollama's requests have in common.

Knows no endpoint, neither prompts nor answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from appliance.api.fields.neutral import Hint, NeutralOnly
from appliance.api.fields.request import RequestModel
from appliance.api.fields.retention import KeepAliveField
from appliance.api.fields.structured import JsonSchema, schema_grammar
from appliance.api.ollama.names import ModelName
from appliance.api.ollama.options import Options
from appliance.gateway.router import ServedModel
from appliance.protocol.requests import Grammar

_MAX_TOP_LOGPROBS = 20
UNLOAD = 0.0  # as `keep_alive`


def _format_kind(value: object) -> str:
    return "<schema>" if isinstance(value, dict) else "<name>"


def _think_kind(value: object) -> str:
    return "<flag>" if isinstance(value, bool) else "<level>"


# which branch is meant, so that a complaint is about one
Format = Annotated[
    Annotated[JsonSchema, Tag("<schema>")] | Annotated[Literal["json", ""], Tag("<name>")],
    Discriminator(_format_kind),
]
Think = Annotated[
    Annotated[bool, Tag("<flag>")]
    | Annotated[Literal["low", "medium", "high", "max"], Tag("<level>")],
    Discriminator(_think_kind),
]
_EFFORTS: Mapping[bool | str, str] = {True: "medium", False: "none", "max": "high"}


class ModelRequest(RequestModel):
    """Of one model, the first where none is named."""

    model: ModelName | None = None
    keep_alive: KeepAliveField = None
    options: Options | None = None
    truncate: Hint = None  # what is too long is refused, never truncated

    nested_parameters: ClassVar[Mapping[str, type[RequestModel]]] = MappingProxyType(
        {"options": Options}
    )

    def options_for(self, model: ServedModel) -> Options:
        """With the model's own, where the request says nothing."""
        own = self.options or Options()
        defaults = model.defaults.parameters
        return own.over(Options.model_validate({**defaults})) if defaults else own


class GeneratingRequest(ModelRequest):
    stream: bool | None = None  # true, unless it is said
    format: Format | None = None
    think: Think | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=_MAX_TOP_LOGPROBS)] | None = None
    shift: bool | None = None  # a full context drops its oldest tokens and goes on
    runner: Hint = None
    debug_render_only: Annotated[Any, NeutralOnly(False)] = None

    @field_validator("top_logprobs")
    @classmethod
    def _need_logprobs(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value and not info.data.get("logprobs"):
            raise PydanticCustomError(
                "invalid_value", "This is only allowed when 'logprobs' is true."
            )
        return value

    @property
    def is_streamed(self) -> bool:
        return self.stream is not False

    @property
    def unloads(self) -> bool:
        return self.keep_alive == UNLOAD

    @property
    def num_top_logprobs(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None

    @property
    def effort(self) -> str | None:
        return None if self.think is None else _EFFORTS.get(self.think, str(self.think))

    def grammar(self) -> Grammar | None:
        if not self.format:
            return None
        schema = {"type": "object"} if self.format == "json" else self.format
        return schema_grammar(schema, "format")
