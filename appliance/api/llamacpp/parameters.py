"""What /completion and /infill have in common: how text is generated, and which fields
come back.

Knows no prompt and no response.

Source: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md, POST
/completion.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from pydantic import AliasChoices, Field

from appliance.api.fields.neutral import Hint, NeutralOnly
from appliance.api.fields.parameters import GenerationParameters, MaxTokens, settings_of
from appliance.api.fields.request import MAX_INT32
from appliance.gateway.choices import MAX_CHOICES
from appliance.protocol.requests import GenerateRequest, GenerationPrompt
from appliance.protocol.sampling import SamplingParams

UNBOUNDED = -1
NO_SLOT = -1  # llama-server's for a request that has none yet
MAX_PROBS = 128
_RANDOM_SEED = 2**32 - 1  # as llama-server shows it

FieldPath = Annotated[str, Field(max_length=256)]


class NativeParameters(GenerationParameters):
    """Part of every request that generates text, in llama.cpp's words."""

    max_tokens: Annotated[
        MaxTokens,
        Field(validation_alias=AliasChoices("max_tokens", "max_completion_tokens")),
    ] = None  # without `n_predict` among its names, which is another field
    n_predict: Annotated[int, Field(ge=UNBOUNDED, le=MAX_INT32)] | None = None
    n: Annotated[
        Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None,
        Field(validation_alias=AliasChoices("n_cmpl", "n")),
    ] = None

    n_indent: Annotated[int, Field(ge=0, le=MAX_INT32)] | None = None
    t_max_predict_ms: Annotated[int, Field(ge=-1, le=MAX_INT32)] | None = None  # 0 and -1: no limit

    n_probs: Annotated[
        Annotated[int, Field(ge=0, le=MAX_PROBS)] | None,
        Field(validation_alias=AliasChoices("n_probs", "logprobs")),
    ] = None
    return_tokens: bool | None = None
    return_token_ids: Annotated[Any, NeutralOnly(False)] = None  # that is vLLM's
    response_fields: Annotated[list[FieldPath], Field(max_length=64)] | None = None

    id_slot: Annotated[int, Field(ge=-1, le=MAX_INT32)] | None = None  # changes nothing
    stream_options: Hint = None
    n_cache_reuse: Hint = None
    sse_ping_interval: Hint = None
    n_discard: Hint = None
    backend_sampling: Hint = None

    @property
    def most_tokens(self) -> int | None:
        wanted = self.max_tokens if self.n_predict is None else self.n_predict
        return None if wanted == UNBOUNDED else wanted

    @property
    def slot(self) -> int:
        return NO_SLOT if self.id_slot is None else self.id_slot

    @property
    def includes_tokens(self) -> bool:
        """llama-server's streams always name the tokens."""
        return bool(self.return_tokens or self.stream)

    @property
    def includes_probabilities(self) -> bool:
        return bool(self.n_probs)

    def generate_request(self, prompt: GenerationPrompt) -> GenerateRequest:
        max_text_ms = self.t_max_predict_ms or 0
        return GenerateRequest(
            prompt=prompt,
            sampling=self.sampling(self.n_probs or None),
            max_tokens=self.most_tokens,
            stop=self.stop or [],
            shifts_context=bool(self.context_shift),
            keeps_prefix=self.cache == "keep",
            uses_cache=self.uses_cache,
            is_exact=self.exact,
            keep_alive_s=self.keep_alive,
            grammar=self.one_grammar(),
            min_indent=self.n_indent or 0,
            max_text_ms=max_text_ms if max_text_ms > 0 else None,
            includes_times=True,
            reports_tokens=self.includes_tokens or self.includes_probabilities,
            reports_usage=bool(self.stream),
            reports_progress=bool(self.stream and self.return_progress),
            **self.adapters,
        )

    def settings(self) -> dict[str, Any]:
        """Included in the response."""
        most = UNBOUNDED if self.most_tokens is None else self.most_tokens
        grammar = self.one_grammar()
        return {
            **native_settings(self.sampling()),
            "max_tokens": most,
            "n_predict": most,
            "stop": self.stop or [],
            "stream": bool(self.stream),
            "n_probs": self.n_probs or 0,
            "grammar": "" if grammar is None else grammar.source,
            "timings_per_token": bool(self.timings_per_token),
            "lora": [each.model_dump() for each in self.lora or ()],
        }


def native_settings(sampling: SamplingParams) -> dict[str, Any]:
    """By llama-server's names; what there is not has the value that changes nothing."""
    biases = [*sampling.logit_bias.items(), *sampling.text_bias.items()]
    return {
        **settings_of(sampling),
        "seed": _RANDOM_SEED if sampling.seed is None else sampling.seed,
        "logit_bias": [{"bias": bias, "token": token} for token, bias in biases],
        "max_tokens": UNBOUNDED,
        "n_predict": UNBOUNDED,
        "stop": [],
        "stream": False,
        "n_keep": 0,
        "n_discard": 0,
        "n_probs": 0,
        "min_keep": 0,
        "grammar": "",
        "lora": [],
        "timings_per_token": False,
        "post_sampling_probs": False,
    }


def fields_of(record: dict[str, Any], paths: list[str]) -> dict[str, Any]:
    """Each value by its path, such as `timings/prompt_n`. As in llama.cpp, what is not
    there is left out.
    """
    found = {}
    for path in paths:
        value: Any = record
        for name in path.split("/"):
            value = value.get(name, msgspec.UNSET) if isinstance(value, dict) else msgspec.UNSET
        if value is not msgspec.UNSET:
            found[path] = value
    return found
