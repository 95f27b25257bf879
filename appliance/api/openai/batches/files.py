"""/v1/files: what batches read and write.

Knows no disk and no batch.

Source: https://platform.openai.com/docs/api-reference/files
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Query, Request
from starlette.responses import Response

from appliance.api.format_router import FormatRouter
from appliance.api.openai.batches.fields import MAX_LIFETIME_S, MIN_LIFETIME_S, batches_of
from appliance.api.openai.batches.wire import DeletedFile, FileList, FileRecord, file_record
from appliance.api.transport.caller import RequestCaller
from appliance.api.transport.files.form import MULTIPART, Form, read_form
from appliance.api.transport.files.parts import body_parts
from appliance.api.transport.files.response import MEDIA_TYPE, FileResponse
from appliance.api.transport.record_response import RecordResponse
from appliance.errors import BadRequest, UnknownCoding
from appliance.gateway.batches.batches import INPUT_PURPOSE
from appliance.gateway.batches.paging import PageQuery
from appliance.gateway.batches.records import Page, StoredFile
from appliance.gateway.lifecycle import Gateway

FILE_PATHS = "/v1/files"
_FILE = "file"
_ANCHOR, _SECONDS = "expires_after[anchor]", "expires_after[seconds]"
_MAX_NAME_CHARS = 255

# FastAPI would read the form itself, and its file into the folder for temporary ones.
_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            MULTIPART: {
                "schema": {
                    "type": "object",
                    "required": [_FILE, "purpose"],
                    "properties": {
                        _FILE: {"type": "string", "format": "binary"},
                        "purpose": {"enum": [INPUT_PURPOSE]},
                        _ANCHOR: {"enum": ["created_at"]},
                        _SECONDS: {
                            "type": "integer",
                            "minimum": MIN_LIFETIME_S,
                            "maximum": MAX_LIFETIME_S,
                        },
                    },
                }
            }
        },
    }
}
_CONTENT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file as it is.",
        "content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
    }
}


def file_routes(gateway: Gateway) -> FormatRouter:
    router = FormatRouter("openai")

    @router.post(FILE_PATHS, responses=router.returns(FileRecord), openapi_extra=_FORM)
    async def upload_file(request: Request, caller: RequestCaller) -> Response:
        """Takes a file of requests for `POST /v1/batches`, one in each line."""
        if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise UnknownCoding("A file is sent as it is, without the header 'Content-Encoding'.")
        files = batches_of(gateway).files
        async with files.receiving() as upload:
            form = await read_form(
                body_parts(request),
                request.headers.get("content-type", ""),
                _FILE,
                upload.write,
            )
            _check_purpose(form)
            file = await files.keep(
                upload,
                caller_id=caller.id,
                name=(form.file_name or _FILE)[:_MAX_NAME_CHARS],
                purpose=INPUT_PURPOSE,
                lifetime_s=_lifetime_s(form),
            )
        return RecordResponse(file_record(file))

    @router.get(FILE_PATHS, responses=router.returns(FileList))
    async def list_files(
        caller: RequestCaller,
        after: str | None = None,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
        order: Literal["asc", "desc"] = "desc",
        purpose: str | None = None,
    ) -> Response:
        """The caller's files, a page at a time."""
        query = PageQuery(limit=limit, after=after, is_ascending=order == "asc")
        page = await batches_of(gateway).files.page(caller.id, query, purpose)
        return RecordResponse(_file_list(page))

    @router.get(FILE_PATHS + "/{file_id}", responses=router.returns(FileRecord))
    async def retrieve_file(file_id: str, caller: RequestCaller) -> Response:
        """What is known of one file."""
        return RecordResponse(file_record(await batches_of(gateway).files.find(caller.id, file_id)))

    @router.get(FILE_PATHS + "/{file_id}/content", responses=_CONTENT)
    async def retrieve_file_content(file_id: str, caller: RequestCaller) -> Response:
        """What is in a file."""
        files = batches_of(gateway).files
        file = await files.find(caller.id, file_id)
        return FileResponse(files.path_of(file.id), file.num_bytes)

    @router.delete(FILE_PATHS + "/{file_id}", responses=router.returns(DeletedFile))
    async def delete_file(file_id: str, caller: RequestCaller) -> Response:
        """Deletes a file, unless a batch that has not ended reads it."""
        await batches_of(gateway).delete_file(caller.id, file_id)
        return RecordResponse(DeletedFile(id=file_id))

    return router


def _file_list(page: Page[StoredFile]) -> FileList:
    records = [file_record(file) for file in page.items]
    return FileList(
        data=records,
        first_id=records[0].id if records else None,
        last_id=records[-1].id if records else None,
        has_more=page.has_more,
    )


def _check_purpose(form: Form) -> None:
    """And that there is a file."""
    purpose = form.fields.get("purpose")
    if form.file_name is None:
        raise BadRequest(f"Missing required parameter: '{_FILE}'.", param=_FILE)
    if purpose is None:
        raise BadRequest("Missing required parameter: 'purpose'.", param="purpose")
    if purpose != INPUT_PURPOSE:
        raise BadRequest(
            f"Files for '{purpose[:_MAX_NAME_CHARS]}' are of no use here: the only purpose is "
            f"'{INPUT_PURPOSE}'.",
            param="purpose",
        )


def _lifetime_s(form: Form) -> int | None:
    """None: the usual one."""
    anchor, seconds = form.fields.get(_ANCHOR), form.fields.get(_SECONDS)
    if anchor is None and seconds is None:
        return None
    if anchor not in (None, "created_at"):
        raise BadRequest("It must be 'created_at'.", param=_ANCHOR)
    is_number = seconds is not None and seconds.isascii() and seconds.isdecimal()
    if not is_number or not MIN_LIFETIME_S <= int((seconds or "")[:10]) <= MAX_LIFETIME_S:
        raise BadRequest(
            f"Invalid '{_SECONDS}': it must be a whole number from {MIN_LIFETIME_S} to "
            f"{MAX_LIFETIME_S}.",
            param=_SECONDS,
        )
    return int(seconds or "")
