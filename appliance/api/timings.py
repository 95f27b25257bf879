"""How long a request took and how far it has come, as llama-server writes it.

Knows no endpoint.

Source: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md, POST
/completion.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from appliance.protocol.events import Delta, Event, Finished, PromptProgress, Times, Usage


class Timings(msgspec.Struct, kw_only=True):
    """A rate is 0 for what took no time."""

    cache_n: Annotated[int, Meta(description="Tokens of the prompt taken from the cache.")]
    prompt_n: Annotated[int, Meta(description="Tokens of the prompt that were computed.")]
    prompt_ms: Annotated[float, Meta(description="Includes the wait for a free slot.")]
    prompt_per_token_ms: float
    prompt_per_second: float
    predicted_n: Annotated[int, Meta(description="Tokens generated.")]
    predicted_ms: float
    predicted_per_token_ms: float
    predicted_per_second: float

    @classmethod
    def of(cls, usage: Usage) -> Timings:
        times = usage.times or Times(0.0, 0.0)
        num_prefilled = usage.num_prompt_tokens - usage.num_cached_tokens
        num_generated = usage.num_completion_tokens
        prompt_per_token_ms, prompt_per_second = _rates(num_prefilled, times.prompt_ms)
        predicted_per_token_ms, predicted_per_second = _rates(num_generated, times.completion_ms)
        return cls(
            cache_n=usage.num_cached_tokens,
            prompt_n=num_prefilled,
            prompt_ms=times.prompt_ms,
            prompt_per_token_ms=prompt_per_token_ms,
            prompt_per_second=prompt_per_second,
            predicted_n=num_generated,
            predicted_ms=times.completion_ms,
            predicted_per_token_ms=predicted_per_token_ms,
            predicted_per_second=predicted_per_second,
        )


def _rates(num_tokens: int, duration_ms: float) -> tuple[float, float]:
    """Milliseconds for each token, and tokens in each second."""
    return (
        duration_ms / num_tokens if num_tokens else 0.0,
        1000 * num_tokens / duration_ms if duration_ms else 0.0,
    )


class ProgressRecord(msgspec.Struct, kw_only=True):
    """How far a prompt has been computed."""

    total: Annotated[int, Meta(description="Tokens of the prompt.")]
    cache: Annotated[int, Meta(description="Of them, taken from the cache.")]
    processed: Annotated[int, Meta(description="Of them, done; those of the cache included.")]
    time_ms: Annotated[float, Meta(description="Since the request was accepted.")]

    @classmethod
    def of(cls, progress: PromptProgress) -> ProgressRecord:
        return cls(
            total=progress.num_prompt_tokens,
            cache=progress.num_cached_tokens,
            processed=progress.num_prefilled_tokens,
            time_ms=progress.time_ms,
        )


def timings_at(event: Event) -> Timings | UnsetType:
    """What is known at an event; unset where that is nothing."""
    usage = event.usage if isinstance(event, Delta | Finished) else None
    return UNSET if usage is None else Timings.of(usage)


def progress_at(event: Event) -> ProgressRecord | UnsetType:
    """Of the prompt, where the event tells of it."""
    progress = event.progress if isinstance(event, Delta) else None
    return UNSET if progress is None else ProgressRecord.of(progress)
