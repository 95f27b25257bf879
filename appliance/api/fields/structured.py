"""Which format a response must have, under the names of OpenAI, llama.cpp and vLLM.

Knows no grammar's syntax.

Sources: https://platform.openai.com/docs/guides/structured-outputs,
https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md (`grammar`,
`json_schema`), https://docs.vllm.ai/en/latest/features/structured_outputs.html
(`structured_outputs`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from pydantic import AliasChoices, Discriminator, Field, Tag, field_validator
from pydantic_core import PydanticCustomError

from appliance.api.fields.request import RequestModel
from appliance.api.fields.samplers import SamplerFields
from appliance.errors import BadRequest
from appliance.protocol.grammar_kind import GrammarKind
from appliance.protocol.requests import Grammar

MAX_CHOICE_STRINGS = 4096
LARK_HEADING = "%llguidance"  # a grammar that begins so is Lark, llama.cpp's convention

_encode = msgspec.json.Encoder().encode

JsonSchema = dict[str, Any]
SchemaName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9_-]+$")]


class NamedSchema(RequestModel):
    """A schema with its name, as OpenAI wraps it."""

    name: SchemaName
    description: Annotated[str, Field(max_length=4096)] | None = None
    schema_: Annotated[JsonSchema, Field(alias="schema", default_factory=dict)]
    # The schema is kept to either way; if true, what cannot be enforced is refused.
    strict: bool | None = None


class TextResponseFormat(RequestModel):
    type: Literal["text"]


class ObjectResponseFormat(RequestModel):
    type: Literal["json_object"]
    # llama.cpp's and Together's
    schema_: Annotated[JsonSchema | None, Field(alias="schema")] = None


class SchemaResponseFormat(RequestModel):
    type: Literal["json_schema"]
    json_schema: NamedSchema


def _format_kind(value: object) -> str | None:
    kind = value.get("type") if isinstance(value, dict) else None
    return f"<{kind}>" if kind in ("text", "json_object", "json_schema") else None


ResponseFormat = Annotated[
    Annotated[TextResponseFormat, Tag("<text>")]
    | Annotated[ObjectResponseFormat, Tag("<json_object>")]
    | Annotated[SchemaResponseFormat, Tag("<json_schema>")],
    Discriminator(
        _format_kind,
        custom_error_type="invalid_value",
        custom_error_message="Its 'type' must be 'text', 'json_object' or 'json_schema'",
    ),
]


class StructuredOutputs(RequestModel):
    """vLLM's structured outputs; exactly one field is given."""

    json_: Annotated[JsonSchema | str | None, Field(alias="json")] = None
    regex: str | None = None
    choice: Annotated[list[str], Field(min_length=1, max_length=MAX_CHOICE_STRINGS)] | None = None
    grammar: str | None = None
    json_object: Literal[True] | None = None

    def grammars(self, param: str) -> list[Grammar]:
        given = [
            _of_schema(self.json_, f"{param}.json"),
            None
            if self.regex is None
            else Grammar(GrammarKind.REGEX, self.regex, f"{param}.regex"),
            None
            if self.choice is None
            else Grammar(GrammarKind.CHOICE, _json(self.choice), f"{param}.choice"),
            _of_text(self.grammar, f"{param}.grammar"),
            _any_object(f"{param}.json_object") if self.json_object else None,
        ]
        return [grammar for grammar in given if grammar is not None]


class GuidedFields(RequestModel):
    """vLLM's older names, SGLang's and Ollama's."""

    guided_json: JsonSchema | str | None = None
    guided_regex: Annotated[
        str | None, Field(validation_alias=AliasChoices("guided_regex", "regex"))
    ] = None
    guided_choice: (
        Annotated[list[str], Field(min_length=1, max_length=MAX_CHOICE_STRINGS)] | None
    ) = None
    guided_grammar: str | None = None
    format: JsonSchema | Literal["json", ""] | None = None

    def guided_grammars(self) -> list[Grammar]:
        given = [
            None if self.guided_json == "" else _of_schema(self.guided_json, "guided_json"),
            Grammar(GrammarKind.REGEX, self.guided_regex, "guided_regex")
            if self.guided_regex
            else None,
            None
            if self.guided_choice is None
            else Grammar(GrammarKind.CHOICE, _json(self.guided_choice), "guided_choice"),
            _of_text(self.guided_grammar, "guided_grammar"),
        ]
        named = [grammar for grammar in given if grammar is not None]
        if self.format == "json":
            named.append(_any_object("format"))
        elif self.format:
            named.append(schema_grammar(self.format, "format"))
        return named


class StructuredOutputFields(SamplerFields, GuidedFields):
    """Those of chat and text completions."""

    response_format: ResponseFormat | None = None
    grammar: str | None = None
    json_schema: JsonSchema | None = None
    structured_outputs: StructuredOutputs | None = None

    @field_validator("structured_outputs")
    @classmethod
    def _asks_for_one(cls, value: StructuredOutputs | None) -> StructuredOutputs | None:
        if value is not None and len(value.grammars("")) != 1:
            raise PydanticCustomError(
                "invalid_value",
                "It must have exactly one of 'json', 'regex', 'choice', 'grammar' and "
                "'json_object'.",
            )
        return value

    def one_grammar(self) -> Grammar | None:
        """Raises `BadRequest` where several are asked for, or an endless response."""
        given = [
            *([] if self.response_format is None else _of_format(self.response_format)),
            *([] if (text := _of_text(self.grammar, "grammar")) is None else [text]),
            *([] if (schema := _of_schema(self.json_schema, "json_schema")) is None else [schema]),
            *(
                []
                if self.structured_outputs is None
                else self.structured_outputs.grammars("structured_outputs")
            ),
            *self.guided_grammars(),
        ]
        if len(given) > 1:
            raise BadRequest(
                f"A response can have only one structured format: leave out '{given[0].param}' or "
                f"'{given[1].param}'.",
                param=given[1].param,
            )
        self.refuse_endless_form(has_form=bool(given))
        return given[0] if given else None


def _of_format(
    response_format: TextResponseFormat | ObjectResponseFormat | SchemaResponseFormat,
) -> list[Grammar]:
    if isinstance(response_format, TextResponseFormat):
        return []
    if isinstance(response_format, SchemaResponseFormat):
        schema = _of_schema(
            response_format.json_schema.schema_,
            "response_format.json_schema.schema",
            is_strict=response_format.json_schema.strict is True,
        )
    else:
        schema = _of_schema(response_format.schema_, "response_format.schema")
    return [schema or _any_object("response_format")]


def _of_schema(
    schema: JsonSchema | str | None, param: str, *, is_strict: bool = False
) -> Grammar | None:
    return None if schema is None else schema_grammar(schema, param, is_strict=is_strict)


def schema_grammar(schema: JsonSchema | str, param: str, *, is_strict: bool = False) -> Grammar:
    """Of the JSON that a schema allows, which was sent in the field `param`.

    What of it cannot be enforced is refused if `is_strict`, else left to the model.
    """
    source = schema if isinstance(schema, str) else _json(schema)
    return Grammar(GrammarKind.JSON_SCHEMA, source, param, is_strict)


def _any_object(param: str) -> Grammar:
    return Grammar(GrammarKind.JSON_SCHEMA, '{"type":"object"}', param)


def _of_text(text: str | None, param: str) -> Grammar | None:
    if not text:  # llama.cpp's clients send an empty one for none
        return None
    return Grammar(
        GrammarKind.LARK if text.lstrip().startswith(LARK_HEADING) else GrammarKind.GBNF,
        text,
        param,
    )


def _json(value: object) -> str:
    return _encode(value).decode("utf-8")
