"""The HTTP application: guards outside, endpoints inside.

Knows no endpoint's details and no server.
"""

from __future__ import annotations

from collections.abc import Collection
from importlib.metadata import version

from fastapi import FastAPI

from appliance.api.anthropic.models import anthropic_model_routes
from appliance.api.anthropic.routes import message_routes
from appliance.api.catalog import catalog_routes
from appliance.api.description import describe_responses, describe_unknown_parameters
from appliance.api.door.access_log import AccessLog
from appliance.api.door.compression import Compression
from appliance.api.door.cross_origin import CrossOrigin
from appliance.api.door.hosts import HostNames
from appliance.api.door.methods import UndeclaredMethods
from appliance.api.door.origins import Origins
from appliance.api.door.paths import KnownRoutes, MeantPaths
from appliance.api.door.request_ids import RequestIds
from appliance.api.door.safe_headers import SafeHeaders
from appliance.api.door.timeouts import RequestTimeouts
from appliance.api.door.welcome import welcome_routes
from appliance.api.error_handlers import UnexpectedErrors, install_error_handlers
from appliance.api.errors import ErrorShapes
from appliance.api.health import health_routes
from appliance.api.keys.routes import key_routes
from appliance.api.llamacpp.adapters import adapter_routes
from appliance.api.llamacpp.bare_paths import bare_path_routes
from appliance.api.llamacpp.completion import native_completion_routes
from appliance.api.llamacpp.counting import counting_routes
from appliance.api.llamacpp.embedding import native_embedding_routes
from appliance.api.llamacpp.infill import infill_routes
from appliance.api.llamacpp.slots import slot_routes
from appliance.api.llamacpp.text import native_routes
from appliance.api.metrics import metrics_routes
from appliance.api.ollama.blobs import BLOB_PATHS, blob_routes
from appliance.api.ollama.changes import change_routes
from appliance.api.ollama.chat import chat_routes as ollama_chat_routes
from appliance.api.ollama.embed import embed_routes
from appliance.api.ollama.generate import generate_routes
from appliance.api.ollama.models import list_routes
from appliance.api.openai.batches.files import FILE_PATHS, file_routes
from appliance.api.openai.batches.lines import BatchLines
from appliance.api.openai.batches.routes import batch_routes
from appliance.api.openai.chat import chat_routes
from appliance.api.openai.completions import completion_routes
from appliance.api.openai.conversations.routes import conversation_routes
from appliance.api.openai.embeddings import embedding_routes
from appliance.api.openai.errors import OPENAI_ERRORS
from appliance.api.openai.models import model_routes
from appliance.api.openai.responses.routes import response_routes
from appliance.api.page import page_routes
from appliance.api.processes import process_routes
from appliance.api.rerank import rerank_routes
from appliance.api.stats import stats_routes
from appliance.api.streams import stream_routes
from appliance.api.transport.body import CLIENT_TIMEOUT_S, MAX_BODY_BYTES, BodyGuard
from appliance.api.transport.guards import HostGuard, KeyGuard, OriginGuard
from appliance.api.transport.open_streams import OpenStreams
from appliance.api.transport.unknown_parameters import UnknownParameters
from appliance.api.usage import usage_routes
from appliance.api.websocket.routes import websocket_routes
from appliance.gateway.lifecycle import Gateway

_OPENAI = (
    model_routes,
    chat_routes,
    completion_routes,
    response_routes,
    conversation_routes,
    embedding_routes,
)
_BATCHES = (file_routes, batch_routes)
_SERVERS_OWN = (
    health_routes,
    metrics_routes,
    stats_routes,
    usage_routes,
    key_routes,
    catalog_routes,
    process_routes,
    stream_routes,
)
_ANTHROPIC = (anthropic_model_routes, message_routes)  # before those that its header tells apart
_LLAMA_CPP = (
    native_routes,
    native_completion_routes,
    native_embedding_routes,
    infill_routes,
    slot_routes,
    adapter_routes,
    counting_routes,
    bare_path_routes,
)
_OTHERS = (rerank_routes, websocket_routes)
_OLLAMA = (
    ollama_chat_routes,
    generate_routes,
    embed_routes,
    list_routes,
    change_routes,
    blob_routes,
)
_ALL = (*_SERVERS_OWN, *_ANTHROPIC, *_OPENAI, *_BATCHES, *_OTHERS, *_LLAMA_CPP, *_OLLAMA)


def create_app(
    gateway: Gateway,
    *,
    max_body_bytes: int = MAX_BODY_BYTES,
    client_timeout_s: float = CLIENT_TIMEOUT_S,
    sse_keep_alive_s: float = 0.0,
    resume_s: float = 0.0,
    allowed_hosts: Collection[str] | None = None,
    allowed_origins: Collection[str] = (),
    strict_parameters: bool = False,
    logs_prompts: bool = False,
) -> FastAPI:
    """The application that serves `gateway`.

    Bodies over `max_body_bytes` get 413, those not there after `client_timeout_s` 408;
    a stream of which the client takes nothing for as long is given up. Streams are silent
    for at most `sse_keep_alive_s`; 0: for ever. A client
    whose connection broke may come back to its stream within `resume_s`; 0: never.
    Unless `allowed_hosts` is None, requests to any `Host` but these and loopback names get
    403. Web pages of other origins than `allowed_origins` may not read responses. The
    interactive docs are off, for they load scripts from elsewhere; `/openapi.json` is
    there. With `strict_parameters` unknown parameters are refused, else ignored and
    named. With `logs_prompts` the access log holds what clients ask.
    """
    app = FastAPI(
        title="appliance",
        version=version("appliance"),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.access_log = AccessLog(includes_prompts=logs_prompts)
    app.state.client_timeout_s = client_timeout_s
    app.state.sse_keep_alive_s = sse_keep_alive_s
    app.state.open_streams = OpenStreams(resume_s)
    app.state.unknown_parameters = UnknownParameters(are_refused=strict_parameters)
    app.state.error_shapes = ErrorShapes(default=OPENAI_ERRORS)
    # an OpenAI client's base URL with a part too much, beside Ollama's paths
    app.state.error_shapes.claim("/api/v1", OPENAI_ERRORS)
    install_error_handlers(app)
    routers = [routes(gateway) for routes in _ALL]
    known = [*app.routes]  # `/openapi.json`
    for router in (welcome_routes(), page_routes(), *routers):
        router.claim_paths(app.state.error_shapes)
        app.include_router(router)
        known += router.routes
    app.state.known_routes = KnownRoutes(known)
    describe_responses(app)
    if not strict_parameters:
        describe_unknown_parameters(app)
    gateway.answer_batches(BatchLines(gateway, app, max_body_bytes))
    origins, hosts = Origins(allowed_origins), HostNames(allowed_hosts)
    app.state.origins, app.state.host_names = origins, hosts
    _add_guards(app, gateway, max_body_bytes=max_body_bytes, client_timeout_s=client_timeout_s)
    return app


def _add_guards(
    app: FastAPI, gateway: Gateway, *, max_body_bytes: int, client_timeout_s: float
) -> None:
    """What is added last stands outermost, and sees a request first."""
    origins, hosts = app.state.origins, app.state.host_names
    app.add_middleware(Compression)
    app.add_middleware(RequestTimeouts)
    app.add_middleware(UndeclaredMethods, routes=app.state.known_routes)
    app.add_middleware(
        BodyGuard,
        max_bytes=max_body_bytes,
        timeout_s=client_timeout_s,
        unread=(BLOB_PATHS, FILE_PATHS),
    )
    app.add_middleware(KeyGuard, admission=gateway.admission, quotas=gateway.quotas)
    app.add_middleware(OriginGuard, origins=origins)
    app.add_middleware(HostGuard, hosts=hosts)
    app.add_middleware(MeantPaths, routes=app.state.known_routes)
    app.add_middleware(UnexpectedErrors)
    app.add_middleware(CrossOrigin, origins=origins)
    app.add_middleware(SafeHeaders)
    app.add_middleware(RequestIds, access_log=app.state.access_log)
