"""A log line for each request: who asked what, how it ended, what it took.

Knows no endpoint. What was asked and answered is left out, unless prompts are to be
logged.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import msgspec
from starlette.types import Scope

from appliance.gateway.telemetry.context import RequestContext
from appliance.gateway.telemetry.summary import RequestSummary
from appliance.logs import FIELDS
from appliance.protocol.requests import EmbedRequest, GenerateRequest, RerankRequest

_log = logging.getLogger("appliance.access")
# Asked for again and again by programs that watch us: at the level `debug` alone.
_WATCHED = frozenset({"/", "/health", "/metrics", "/stats"})
_MAX_PATH_CHARS = 200
_MAX_PROMPT_CHARS = 16 << 10


class AccessLog:
    def __init__(self, *, includes_prompts: bool) -> None:
        self._includes_prompts = includes_prompts

    def write(
        self, scope: Scope, context: RequestContext, status: int | None, elapsed_s: float
    ) -> None:
        """`status` is None where the client left before there was one."""
        method: str = scope.get("method", "WEBSOCKET")
        # no line break gets into the log; a query may hold secrets
        path = quote(scope["path"])[:_MAX_PATH_CHARS]
        level = logging.DEBUG if scope["path"] in _WATCHED else logging.INFO
        self._write(level, f"{method} {path}", context, status=status, elapsed_s=elapsed_s)

    def write_message(
        self, what: str, context: RequestContext, status: int | None, elapsed_s: float
    ) -> None:
        """Of a request that came as a message on a WebSocket; its status as HTTP has it."""
        self._write(logging.INFO, what, context, status=status, elapsed_s=elapsed_s)

    def _write(
        self,
        level: int,
        what: str,
        context: RequestContext,
        *,
        status: int | None,
        elapsed_s: float,
    ) -> None:
        context.is_over = True
        if not _log.isEnabledFor(level):
            return
        fields: dict[str, Any] = {
            "request": what,
            "status": status,
            "caller": context.caller_id or None,
            "duration_ms": round(elapsed_s * 1000, 1),
        }
        asked = [each for each in context.summaries if _is_counted(each)]
        if asked:
            fields |= _numbers(asked)
        if self._includes_prompts and asked:
            fields["prompt"] = _prompt(asked[0])
        told = {name: value for name, value in fields.items() if value is not None}
        _log.log(level, "%s", _line(told), extra={FIELDS: told})


def _is_counted(summary: RequestSummary) -> bool:
    return isinstance(summary.request, GenerateRequest | EmbedRequest | RerankRequest)


def _numbers(asked: Sequence[RequestSummary]) -> dict[str, Any]:
    """Of all answers to one request; their prompt, queue and first token are the first's."""
    first, usage = asked[0], asked[0].usage
    return {
        "model": first.model_id,
        "outcome": ",".join(dict.fromkeys(each.outcome for each in asked)),
        "answers": len(asked) if len(asked) > 1 else None,
        "cache": ",".join(dict.fromkeys(each.cache.value for each in asked)) or None,
        "prompt_tokens": usage.num_prompt_tokens,
        "cached_tokens": usage.num_cached_tokens,
        "completion_tokens": sum(each.usage.num_completion_tokens for each in asked),
        "queue_ms": _ms(first.queue_s),
        "first_token_ms": _ms(first.first_token_s),
    }


def _ms(duration_s: float | None) -> float | None:
    return None if duration_s is None else round(duration_s * 1000, 1)


def _line(told: dict[str, Any]) -> str:
    """For people: `POST /v1/completions 200, caller=anonymous, duration_ms=12.3, ...`."""
    head = f"{told['request']} {told.get('status', 'no response')}"
    rest = (f"{name}={value}" for name, value in told.items() if name not in ("request", "status"))
    return ", ".join([head, *rest])


def _prompt(summary: RequestSummary) -> str:
    """As JSON, so that no line break of it gets into the log."""
    request = summary.request
    if isinstance(request, GenerateRequest):
        asked: Any = request.prompt
    elif isinstance(request, EmbedRequest):
        asked = request.inputs
    else:
        asked = request
    return msgspec.json.encode(asked).decode()[:_MAX_PROMPT_CHARS]
