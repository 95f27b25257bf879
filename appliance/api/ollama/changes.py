"""Models that come and go: /api/pull, /api/create, /api/copy, /api/delete.

Knows no file and no hub: the library does all of it.

Source: https://github.com/ollama/ollama/blob/main/docs/api.md
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import UNSET, UnsetType
from pydantic import AfterValidator, AliasChoices, Field
from pydantic_core import PydanticCustomError
from starlette.responses import Response

from appliance.api.fields.neutral import Hint, NeutralOnly
from appliance.api.fields.request import RequestModel
from appliance.api.format_router import FormatRouter
from appliance.api.ollama.chat import OllamaMessage
from appliance.api.ollama.errors import OLLAMA_ERRORS
from appliance.api.ollama.names import ModelName, resolve
from appliance.api.ollama.options import Options
from appliance.api.transport.caller import RequestCaller
from appliance.api.transport.ndjson import JSON_LINES
from appliance.api.transport.record_lines import RecordLines, last_record
from appliance.api.transport.record_response import RecordResponse
from appliance.errors import BadRequest
from appliance.gateway.library.changes import Progress, Recipe
from appliance.gateway.library.facts import ModelDefaults
from appliance.gateway.lifecycle import Gateway

_MAX_TEXT_CHARS = 1 << 20
# Ollama's own templates are Go's: `{{ .Prompt }}`, `{{- if .System }}`, `{{ range ... }}`
_GO_TEMPLATE = re.compile(r"{{-?\s*(?:[.$]|if\b|range\b|end\b|else\b|with\b|template\b)")


def _jinja(template: str) -> str:
    if _GO_TEMPLATE.search(template):
        raise PydanticCustomError(
            "unsupported_parameter",
            "It is a template in Go's language, and here they are Jinja: leave it out, and the "
            "model's own is used.",
        )
    return template


Name = Annotated[ModelName, Field(min_length=1, validation_alias=AliasChoices("model", "name"))]
LongText = Annotated[str, Field(max_length=_MAX_TEXT_CHARS)]


class PullRequest(RequestModel):
    model: Name
    stream: bool | None = None
    insecure: Hint = None  # a hub's address is the server's own matter
    username: Hint = None
    password: Hint = None


class CreateRequest(RequestModel):
    model: Name
    from_: Annotated[LongText | None, Field(validation_alias=AliasChoices("from"))] = None
    files: Annotated[dict[str, str], Field(max_length=4096)] | None = None
    quantize: Annotated[
        Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,16}$")] | None,
        Field(validation_alias=AliasChoices("quantize", "quantization")),
    ] = None
    template: Annotated[LongText, AfterValidator(_jinja)] | None = None
    system: LongText | None = None
    parameters: Options | None = None
    messages: Annotated[list[OllamaMessage], Field(max_length=256)] | None = None
    stream: bool | None = None
    license: Hint = None  # the file's own is shown
    info: Hint = None
    renderer: Hint = None
    parser: Hint = None
    requires: Hint = None  # a version of Ollama
    draft_files: Hint = None  # a draft model is the server's own matter, and changes no answer
    draft_quantize: Hint = None
    remote_host: Annotated[Any, NeutralOnly("")] = None
    adapters: Annotated[Any, NeutralOnly({})] = None
    modelfile: Annotated[Any, NeutralOnly("")] = None
    path: Annotated[Any, NeutralOnly("")] = None

    nested_parameters: ClassVar[Mapping[str, type[RequestModel]]] = MappingProxyType(
        {"parameters": Options}
    )

    def to_recipe(self) -> Recipe:
        return Recipe(
            name=self.model,
            base=self.from_ or "",
            files=self.files or {},
            quant=self.quantize.upper() if self.quantize else None,
            chat_template=self.template or "",
            defaults=ModelDefaults(
                system=self.system or "",
                parameters={} if self.parameters is None else self._parameters(self.parameters),
                messages=[_plain(message) for message in self.messages or ()],
            ),
        )

    @staticmethod
    def _parameters(given: Options) -> dict[str, Any]:
        return {name: getattr(given, name) for name in sorted(given.model_fields_set)}


def _plain(message: OllamaMessage) -> dict[str, Any]:
    if message.role not in ("system", "user", "assistant") or message.tool_calls:
        raise BadRequest(
            "A model's own messages are texts of system, user and assistant.", param="messages"
        )
    return {"role": message.role, "content": message.for_template()["content"]}


class CopyRequest(RequestModel):
    source: Annotated[ModelName, Field(min_length=1)]
    destination: Annotated[ModelName, Field(min_length=1)]


class DeleteRequest(RequestModel):
    model: Name


class ChangeProgressRecord(msgspec.Struct, kw_only=True):
    """`success` is the status at the end."""

    status: str
    digest: str | UnsetType = UNSET
    total: int | UnsetType = UNSET
    completed: int | UnsetType = UNSET


async def progress_records(
    begin: str, changes: AsyncGenerator[Progress, None]
) -> AsyncGenerator[ChangeProgressRecord, None]:
    """Where bytes come, clients tell what they belong to by a digest: it is one of the
    words for it.
    """
    is_begun = False
    async with aclosing(changes) as happening:
        async for progress in happening:
            if not is_begun:
                yield ChangeProgressRecord(status=begin)
                is_begun = True
            yield _record(progress)
    yield ChangeProgressRecord(status="success")


def _record(progress: Progress) -> ChangeProgressRecord:
    if not progress.total_bytes:
        return ChangeProgressRecord(status=progress.text)
    digest = hashlib.sha256(progress.text.encode()).hexdigest()
    return ChangeProgressRecord(
        status=f"pulling {digest[:12]}",
        digest=f"sha256:{digest}",
        total=progress.total_bytes,
        completed=progress.done_bytes,
    )


def change_routes(gateway: Gateway) -> FormatRouter:
    router = FormatRouter("ollama", error_shape=OLLAMA_ERRORS)
    described = router.returns(
        ChangeProgressRecord, stream=ChangeProgressRecord, framing=JSON_LINES
    )

    def told(records: AsyncGenerator[ChangeProgressRecord, None], stream: bool | None) -> Response:
        if stream is False:
            return last_record(records)
        return RecordLines(records, OLLAMA_ERRORS)

    @router.post("/api/pull", responses=described)
    async def pull(request: PullRequest, caller: RequestCaller) -> Response:
        """Fetches `org/repo` or `org/repo:QUANT` from the hub and serves it, and tells
        how far it has come, as lines of JSON.
        """
        changes = gateway.library_of(caller).pull(request.model)
        return told(progress_records("pulling manifest", changes), request.stream)

    @router.post("/api/create", responses=described)
    async def create(request: CreateRequest, caller: RequestCaller) -> Response:
        """Makes a model of another one (`from`), or of a GGUF or checkpoint that was sent
        (`files`), perhaps with its own system message, parameters and template.
        """
        changes = gateway.library_of(caller).create(request.to_recipe())
        return told(progress_records("creating the model", changes), request.stream)

    @router.post("/api/copy", response_class=Response)
    async def copy(request: CopyRequest, caller: RequestCaller) -> Response:
        """Serves a model under another name too."""
        source = resolve(gateway.models_of(caller), request.source)
        await gateway.library_of(caller).copy(source, request.destination)
        return RecordResponse({})

    @router.delete("/api/delete", response_class=Response)
    async def delete(request: DeleteRequest, caller: RequestCaller) -> Response:
        """Unloads a model, once nobody uses it, and deletes its files from the directory
        of models.
        """
        await gateway.library_of(caller).delete(resolve(gateway.models_of(caller), request.model))
        return RecordResponse({})

    return router
