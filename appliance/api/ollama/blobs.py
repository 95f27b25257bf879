"""/api/blobs: files that are sent to be made a model of.

Knows no model. A body is read as it comes, however long it is: see `BodyGuard`.

Source: https://github.com/ollama/ollama/blob/main/docs/api.md
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from appliance.api.door.pages import may_be_of_a_page
from appliance.api.format_router import FormatRouter
from appliance.api.ollama.errors import OLLAMA_ERRORS
from appliance.api.transport.caller import RequestCaller
from appliance.api.transport.files.parts import body_parts
from appliance.errors import BadRequest, ModelNotFound
from appliance.gateway.lifecycle import Gateway

BLOB_PATHS = "/api/blobs/"
# What a web page may send without asking first (forms, plain text) is not among them.
_TAKEN_TYPES = ("application/json", "application/octet-stream")  # Ollama's clients say the former


def blob_routes(gateway: Gateway) -> FormatRouter:
    router = FormatRouter("ollama", prefix="/api", error_shape=OLLAMA_ERRORS)

    @router.head("/blobs/{digest}", include_in_schema=False)
    async def has_blob(digest: str, caller: RequestCaller) -> Response:
        """200 where a file of this digest was sent."""
        if not await gateway.library_of(caller).has_blob(digest):
            raise ModelNotFound(f"There is no file {digest[:80]}.")
        return Response()

    @router.post("/blobs/{digest}", include_in_schema=False)
    async def keep_blob(digest: str, request: Request, caller: RequestCaller) -> Response:
        """Takes a file, whose digest has to be this one."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if may_be_of_a_page(request.headers) and kind not in _TAKEN_TYPES:
            raise BadRequest(
                "A file is sent with the header 'Content-Type: application/octet-stream'."
            )
        await gateway.library_of(caller).keep_blob(digest, body_parts(request))
        return Response(status_code=201)

    return router
